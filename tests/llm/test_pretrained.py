"""A language model of a hub: out of reach, fetched before, and more than the disk holds."""

import errno
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.lora import Lora
from recsys_lt.llm.pretrained import Pretrained
from recsys_lt.llm.tiny_random import TinyRandom

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("unreachable")
def test_a_hub_out_of_reach_is_one_line_at_once(caplog, capfd) -> None:
    begun = time.monotonic()
    for outline in (True, False):
        with pytest.raises(UserError, match=f"the hub {NOBODY} cannot be reached: .*nothing of that name was fetched"):
            Pretrained("somebody/some-model").load({}, outline)
    assert time.monotonic() - begun < 10
    assert caplog.text == ""
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("unreachable")
def test_what_was_fetched_before_is_enough(tmp_path: Path, monkeypatch) -> None:
    kept = tmp_path / "models--somebody--some-model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    tokenizer, model = TinyRandom().load({})
    for part in (tokenizer, model):
        part.save_pretrained(kept / "snapshots" / ("0" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    _, found = Pretrained("somebody/some-model").load({})
    assert torch.equal(found.lm_head.weight, model.lm_head.weight)


def test_a_local_folder_asks_nobody(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("recsys_lt.llm.pretrained.urlopen", None)
    for part in TinyRandom().load({}):
        part.save_pretrained(tmp_path)
    assert Pretrained(str(tmp_path)).load({})
    with pytest.raises(UserError, match="no language model can be read there"):
        Pretrained(str(tmp_path / "nothing")).load({}, outline=True)


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_says_how_much_the_weights_take_and_where(monkeypatch, known) -> None:
    import transformers

    def full(*_: object, **__: object) -> None:
        raise OSError("the file cannot be loaded") from OSError(errno.ENOSPC, "No space left on device")

    def info(*_: object, **__: object) -> SimpleNamespace:
        if not known:
            raise OSError("no answer")
        files = {"a-1.safetensors": 9_000_000_000, "a-2.safetensors": 4_500_000_000, "pytorch_model.bin": 7}
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in files.items()])

    monkeypatch.setattr("recsys_lt.llm.pretrained._out_of_reach", lambda: None)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", full)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    with pytest.raises(UserError) as refusal:
        Pretrained("somebody/some-model").load({})
    takes = "13.5 GB" if known else "two bytes a parameter (in 16 bits)"
    line = f"{huggingface_hub.constants.HF_HUB_CACHE}: no space is left on the disk for the weights of"
    assert str(refusal.value).startswith(f"{line} somebody/some-model, which take {takes}. Free so much there")


def test_an_outline_reads_no_weights(tmp_path: Path) -> None:
    tokenizer, model = TinyRandom().load({})
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    known = LLM(Pretrained(str(tmp_path)), Lora(2, 4.0, 0.0, ["q_proj"])).load(outline=True)
    assert (known.width, known.context, known.vocabulary.is_meta) == (32, 2048, True)
    assert known.ids(["a"]) == LLM(TinyRandom(), None).load().ids(["a"])
    with pytest.raises(UserError, match=r"llm\.lora\.targets: .*q_proj"):
        LLM(Pretrained(str(tmp_path)), Lora(2, 4.0, 0.0, ["nothing"])).load(outline=True)
