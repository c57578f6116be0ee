"""Run folders of strangers: whatever their configuration names, no command runs it."""

import contextlib
import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.distributed.checkpoint import FileSystemReader

from recsys_lt.cli import recommend, report, sharpness, table
from recsys_lt.cli import train as command_line
from recsys_lt.errors import UserError
from recsys_lt.runs.run_folder import NEEDS
from recsys_lt.runs.stored import stored, trained_as
from recsys_lt.runs.trust import trusting
from studies.ce_sce import figures
from tests.end_to_end.conftest import dots_for_pictures

RUN = (
    "dataset=synthetic",
    "dataset.source.n_users=80",
    "dataset.source.n_items=60",
    "trainer.max_epochs=1",
    "trainer.batch_rows=64",
    "model.width=8",
    "logger=none",
    "strategy=cpu",
)


class Touches:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


# Each attack: (a folder to put files in, the mark to leave) -> what it changes in a config.yaml.


def _pickled(folder: Path, mark: Path) -> str:
    (folder / "stranger.pkl").write_bytes(pickle.dumps(Touches(mark)))
    return str(folder / "stranger.pkl")


def _code(folder: Path, name: str, mark: Path, body: str) -> None:
    (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n{body}\n")


def _opens(mark: Path) -> dict[str, Any]:
    return {"_target_": "builtins.open", "file": str(mark), "mode": "w"}


def torch_load(folder: Path, mark: Path) -> dict[str, Any]:
    torch.save(Touches(mark), folder / "stranger.pt")
    return {"loss": {"_target_": "torch.load", "f": str(folder / "stranger.pt"), "weights_only": False}}


def numpy_load(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "numpy.load", "file": _pickled(folder, mark), "allow_pickle": True}}


def pandas_read_pickle(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "pandas.read_pickle", "filepath_or_buffer": _pickled(folder, mark)}}


def joblib_load(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "joblib.load", "filename": _pickled(folder, mark)}}


def builtins_open(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": _opens(mark)}


def shutil_copy(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "shutil.copy", "src": _pickled(folder, mark), "dst": str(mark)}}


def path_touch(folder: Path, mark: Path) -> dict[str, Any]:
    path = {"_target_": "pathlib.Path", "_args_": [str(mark)]}
    return {"loss": {"_target_": "pathlib.Path.touch", "_args_": [path]}}


def sympy_sympify(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "sympy.sympify", "a": f"__import__('pathlib').Path({str(mark)!r}).touch()"}}


def transformers_dynamic_module(folder: Path, mark: Path) -> dict[str, Any]:
    _code(folder, "stranger_code", mark, "class Loss: pass")
    name = "transformers.dynamic_module_utils.get_class_from_dynamic_module"
    where = {"class_reference": "stranger_code.Loss", "pretrained_model_name_or_path": str(folder)}
    return {"loss": {"_target_": name} | where}


def module_in_the_working_directory(folder: Path, mark: Path) -> dict[str, Any]:
    _code(folder, "stranger_module", mark, "class Loss: pass")
    return {"loss": {"_target_": "stranger_module.Loss"}}


def function_of_this_package(folder: Path, mark: Path) -> dict[str, Any]:
    path = {"_target_": "recsys_lt.system.atomic.Path", "_args_": [str(mark)]}
    return {"loss": {"_target_": "recsys_lt.system.atomic.write_text", "path": path, "text": "x"}}


def class_that_this_package_imports(folder: Path, mark: Path) -> dict[str, Any]:
    path = {"_target_": "recsys_lt.system.atomic.Path", "_args_": [str(mark)]}
    return {"loss": {"_target_": "recsys_lt.system.atomic.Path.touch", "_args_": [path]}}


def hydra_instantiate(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "hydra.utils.instantiate", "_recursive_": False, "config": _opens(mark)}}


def node_in_a_good_node(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "recsys_lt.losses.ce.CE", "more": _opens(mark)}}


def node_in_a_list_of_arguments(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": {"_target_": "recsys_lt.losses.ce.CE", "_args_": [[{"deep": [_opens(mark)]}]]}}


def node_that_is_called_later(folder: Path, mark: Path) -> dict[str, Any]:
    return {"model": _opens(mark) | {"_partial_": True}}


def name_by_reference(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": _opens(mark) | {"_target_": "${seed}"}, "seed": "builtins.open"}


def node_by_reference(folder: Path, mark: Path) -> dict[str, Any]:
    return {"loss": "${precision}", "precision": _opens(mark)}


def code_beside_a_language_model(folder: Path, mark: Path) -> dict[str, Any]:
    # A class of its own: transformers marks what it loads in this way, and LlamaConfig is everybody's.
    own = "from transformers import LlamaConfig\nclass Config(LlamaConfig): pass"
    _code(folder, "stranger_config", mark, own)
    about = {"model_type": "stranger", "auto_map": {"AutoConfig": "stranger_config.Config"}}
    (folder / "config.json").write_text(json.dumps(about))
    weights = {"_target_": "recsys_lt.llm.pretrained.Pretrained", "name": str(folder), "trust_remote_code": True}
    return {"llm": {"_target_": "recsys_lt.llm.choice.LLM", "weights": weights, "lora": None}}


ATTACKS = (
    torch_load, numpy_load, pandas_read_pickle, joblib_load, builtins_open, shutil_copy, path_touch, sympy_sympify,
    transformers_dynamic_module, module_in_the_working_directory, function_of_this_package,
    class_that_this_package_imports, hydra_instantiate, node_in_a_good_node, node_in_a_list_of_arguments,
    node_that_is_called_later, name_by_reference, node_by_reference, code_beside_a_language_model,
)  # fmt: skip
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(cache: Path) -> Callable[..., Done]:
    """Run a command in this process."""

    def call(main: Callable[..., int], *arguments: object, cwd: Path) -> Done:
        GlobalHydra.instance().clear()
        given, out, err = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(cwd),
            mock.patch.dict(os.environ, {"RECSYS_LT_CACHE": str(cache)}),
            mock.patch.object(sys, "argv", ["recsys_lt", *given]),
            dots_for_pictures(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main() if main is command_line.main else main(given)
        return Done(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="module")
def good(run: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ours; its metrics are cut to what a report needs, so that it is soon made."""
    folder = tmp_path_factory.mktemp("good") / "run"
    done = run(command_line.main, *RUN, f"hydra.run.dir={folder}", cwd=folder.parent)
    assert done.code == 0, done.err
    for path in folder.glob("*.png"):
        path.unlink()
    (folder / "learning_curve.csv").unlink()
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"] = {"ndcg@10": 0.1}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"long_tail": {}}))
    return folder


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What an attack imported is not imported for the next one."""
    yield
    for name in [name for name in sys.modules if "stranger" in name]:
        del sys.modules[name]


def changed(folder: Path, place: Path, changes: dict[str, Any]) -> Path:
    """A copy of a run with some of its configuration exchanged."""
    shutil.copytree(folder, place, dirs_exist_ok=True)
    config = yaml.safe_load((place / "config.yaml").read_text())
    (place / "config.yaml").write_text(yaml.dump(config | changes))
    return place


@every_attack
def test_each_works_where_nothing_guards(attack, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    config = OmegaConf.create(attack(tmp_path, mark))
    monkeypatch.syspath_prepend(tmp_path)
    if "transformers" in attack.__name__ or "language" in attack.__name__:
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with contextlib.suppress(Exception):  # what comes after the mark is made is the attack's own business
        made = instantiate(config.llm.weights if "llm" in config else config[next(iter(config))])
        made.load({}, outline=True) if "llm" in config else made()
    assert mark.exists()


def refused(run, mark: Path, main: Callable[..., int], *arguments: object, cwd: Path) -> str:
    """The one line of a command that does nothing else."""
    done = run(main, *arguments, cwd=cwd)
    assert (done.code, mark.exists()) == (2, False), done
    assert len(done.err.strip().splitlines()) == 1, done.err
    return done.err


@every_attack
def test_no_command_that_loads_a_run_lets_it_work(attack, good, run, tmp_path, monkeypatch):
    mark, evil = tmp_path / "mark", tmp_path / "evil"
    evil.mkdir()
    changed(good, evil, attack(evil, mark))
    monkeypatch.syspath_prepend(evil)  # as with python -m
    before = sorted(path.name for path in evil.iterdir())
    for main, *arguments in (
        (recommend.main, evil, "--user", "u0"),
        (sharpness.main, evil),
        (command_line.main, "resume", str(evil), "trainer.max_epochs=2"),
    ):
        said = refused(run, mark, main, *arguments, cwd=evil)
        assert "config.yaml: " in said
        assert ("is no class of" in said) != ("would run Python code that comes with" in said)
    assert sorted(path.name for path in evil.iterdir()) == before


def test_a_report_does_not_ask_a_run_that_is_refused(good, run, tmp_path):
    mark, evil = tmp_path / "mark", tmp_path / "evil"
    changed(good, evil, builtins_open(tmp_path, mark))
    done = run(report.main, evil, "--users", 1, cwd=evil)
    assert (done.code, mark.exists()) == (0, False)
    assert done.err.startswith(f"note: lists are left out: {evil}")
    assert "is not asked: config.yaml:" in (evil / "report.html").read_text()


TWO_STAGES = """
llm:
  _target_: recsys_lt.llm.choice.LLM
  weights: {_target_: recsys_lt.llm.tiny_random.TinyRandom}
  lora: null
model:
  _target_: recsys_lt.llm.e4srec.E4SRec
  _partial_: true
  llm: ${llm}
  item_vectors: null
  max_length: 5
  supervise: all
  prompt: {_target_: recsys_lt.llm.prompt.Prompt, noun: item, opening: a, closing: b}
"""


@every_attack
def test_no_first_stage_lets_it_work(attack, good, run, tmp_path, monkeypatch):
    """A run that builds on another opens that one too: in its own folder, or wherever its configuration says."""
    mark, two = tmp_path / "mark", tmp_path / "two"
    inner = two / NEEDS / "model.item_vectors"
    inner.mkdir(parents=True)
    evil = changed(good, inner, attack(inner, mark))
    monkeypatch.syspath_prepend(evil)
    stages = yaml.safe_load(TWO_STAGES)
    for vectors in (None, str(evil)):
        changed(good, two, stages | {"model": stages["model"] | {"item_vectors": vectors}})
        kept = torch.load(two / "best.ckpt", weights_only=True)
        kept["recsys_lt"]["trained_as"] = trained_as(OmegaConf.load(two / "config.yaml"))
        torch.save(kept, two / "best.ckpt")
        said = refused(run, mark, recommend.main, two, "--user", "u0", cwd=evil)
        assert f"{evil / 'config.yaml'}: " in said


def test_what_loads_no_run_reads_their_names_as_text(good, run, tmp_path, monkeypatch):
    sweep, mark = tmp_path / "sweep", tmp_path / "mark"
    for attack in ATTACKS:
        place = sweep / attack.__name__
        place.mkdir(parents=True)
        changed(good, place, attack(place, mark))
        monkeypatch.syspath_prepend(place)
    shutil.copytree(good, sweep / "zz_good")
    refused(run, mark, sharpness.main, good, "--rule", sweep / "builtins_open", cwd=sweep)
    for main, *arguments in (
        (table.main, sweep),
        (figures.main, sweep, "--out", tmp_path / "figures"),
        (report.main, sweep, "--out", tmp_path / "report.html"),
        (command_line.main, "-m", *RUN, f"hydra.sweep.dir={sweep}"),
    ):
        done = run(main, *arguments, cwd=sweep)
        assert (done.code, mark.exists()) == (0, False), main
        noted = [line for line in done.err.splitlines() if not line.startswith("note: lists are left out: ")]
        assert noted == [], main
    assert "done in" in done.out


@pytest.mark.parametrize(
    "target",
    [5, None, ["builtins.open"], "", "open", "recsys_lt", "recsys_lt.losses.ce", "recsys_lt.losses.ce.CE.__init__"],
)
def test_what_names_no_class_is_none(target, good, run, tmp_path):
    evil = changed(good, tmp_path / "evil", {"loss": {"_target_": target}})
    assert "which is no class of" in refused(run, tmp_path / "mark", recommend.main, evil, "--user", "u0", cwd=evil)


@pytest.mark.parametrize("part", ["precision", "dataset.source"])
@pytest.mark.parametrize("value", [{}, {"a": 1}, [1], None])
def test_what_is_no_object_in_the_place_of_one(part, value, good, run, tmp_path):
    config = OmegaConf.load(good / "config.yaml")
    OmegaConf.update(config, part, value, merge=False)
    evil = changed(good, tmp_path / "evil", OmegaConf.to_container(config))
    assert f"{part}: " in refused(run, tmp_path / "mark", recommend.main, evil, "--user", "u0", cwd=evil)


@pytest.mark.parametrize(
    "part",
    ["dataset", "dataset.source", "model", "optimizer", "schedule", "strategy", "trainer", "metrics", "metrics.groups",
     "logger", "seed", "precision", "llm", "more"],
)  # fmt: skip
def test_nowhere_in_a_configuration(part, good, run, tmp_path):
    mark = tmp_path / "mark"
    config = OmegaConf.load(good / "config.yaml")
    OmegaConf.update(config, part, _opens(mark), merge=False, force_add=True)
    evil = changed(good, tmp_path / "evil", OmegaConf.to_container(config))
    said = refused(run, mark, recommend.main, evil, "--user", "u0", cwd=evil)
    assert f"{part} names builtins.open, which is no class of this program" in said


@pytest.mark.parametrize(
    "text",
    ["${oc.env:SECRET}", "${oc.env:SECRET,x}", "a ${oc.decode:x}", "${oc.create:{a: 1}}", "${either:a,b}",
     "${oc.${seed}:SECRET}", "${oc.env:RECSYS_LT_${seed}}", "$${seed}{oc.env:SECRET}", "${loss", "${hydra:run.dir}",
     "${nothing}", "${dataset.noun}"],
)  # fmt: skip
def test_nothing_outside_itself_is_read(text, good, run, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    evil = changed(good, tmp_path / "evil", {"dataset": {"_target_": "recsys_lt.data.dataset.Dataset", "noun": text}})
    said = refused(run, tmp_path / "mark", recommend.main, evil, "--user", "u0", cwd=evil)
    assert "hunter2" not in said
    assert "config.yaml: " in said


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
REFERS = "b0: xxxxxxxxxx\n" + "".join(f"b{n}: {f'${{b{n - 1}}}' * 9}\n" for n in range(1, 12))


MORE = {
    "aliases": LAUGHS,
    "references": REFERS,
    "depth": f"deep: {'[' * 9_000}{']' * 9_000}",
    "length": f"x: {'x' * 99_999}",
}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_a_configuration_that_stands_for_more_than_memory_holds(more, good, run, tmp_path):
    evil = changed(good, tmp_path / "evil", {})
    with (evil / "config.yaml").open("a") as file:
        file.write(more)
    for main, *arguments in (
        (recommend.main, evil, "--user", "u0"),
        (command_line.main, "resume", str(evil)),
    ):
        assert "config.yaml: " in refused(run, tmp_path / "mark", main, *arguments, cwd=evil)
    done = run(table.main, evil, cwd=evil)
    assert done.code == (0 if more == REFERS else 2)  # a table reads references as they are written


@pytest.mark.parametrize("name", ["..", "../evil", "/tmp", "a\nb", ""])
def test_a_name_that_leads_elsewhere(name, good, run, tmp_path):
    victim = tmp_path / "victim"
    (victim / "downloads").mkdir(parents=True)
    (victim / "dear").write_text("dear")
    source = {"_target_": "recsys_lt.data.sources.movielens.MovieLens100K"}
    config = yaml.safe_load((good / "config.yaml").read_text())
    dataset = config["dataset"] | {"name": name, "cache_dir": str(victim), "source": source}
    evil = changed(good, tmp_path / "evil", {"dataset": dataset})
    assert "dataset.name: " in refused(run, tmp_path / "mark", recommend.main, evil, "--user", "u0", cwd=evil)
    evil = changed(good, tmp_path / "other", {"choices": config["choices"] | {"dataset": name}})
    assert "choices.dataset" in refused(run, tmp_path / "mark", command_line.main, "resume", str(evil), cwd=evil)
    assert sorted(path.name for path in victim.rglob("*")) == ["dear", "downloads"]


def test_a_checkpoint_that_deepspeed_would_unpickle(good, run, tmp_path):
    """And torch.distributed too: what lies in such a folder is read before anything can be asked of it."""
    mark, evil = tmp_path / "mark", shutil.copytree(good, tmp_path / "evil")
    (evil / "last.ckpt").unlink()
    (evil / "last.ckpt").mkdir()
    (evil / "last.ckpt" / ".metadata").write_bytes(pickle.dumps(Touches(mark)))
    resume = (command_line.main, "resume", str(evil), "trainer.max_epochs=2")
    assert "add --trust deepspeed" in refused(run, mark, *resume, cwd=tmp_path)
    with contextlib.suppress(Exception):  # what it reads is no metadata
        FileSystemReader(evil / "last.ckpt").read_metadata()
    assert mark.exists()


def test_the_name_of_a_run_folder_is_text(good, run, tmp_path):
    folder = shutil.copytree(good, tmp_path / "[/b] [red] :smile: 🙂\nb")
    for main, *arguments in (
        (recommend.main, folder, "--user", "u0"),
        (sharpness.main, folder, "--batches", 1),
        (table.main, folder),
        (table.main, folder.parent),
        (figures.main, folder),
        (report.main, folder),
        (command_line.main, "resume", folder, "trainer.max_epochs=2"),
    ):
        done = run(main, *arguments, cwd=tmp_path)
        assert (done.code, done.err) == (0, ""), main
    assert "run folder: " in done.out
    assert "[/b] [red] :smile: 🙂" in done.out


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's own."""
    package = tmp_path / "modules" / "mylab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "losses.py").write_text(
        "from pathlib import Path\nfrom recsys_lt.losses.ce import CE\nclass Focal(CE): pass\ndef make(): return CE()\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    yield
    for name in [name for name in sys.modules if name.startswith("mylab")]:
        del sys.modules[name]


def test_a_run_of_a_module_that_the_user_trusts(mylab, good, run, tmp_path):
    ours, mark = tmp_path / "ours", tmp_path / "mark"
    done = run(command_line.main, *RUN, "loss._target_=mylab.losses.Focal", f"hydra.run.dir={ours}", cwd=tmp_path)
    assert done.code == 0, done.err
    asked = (recommend.main, ours, "--user", "u0")
    for trusted in ((), ("--trust", "my"), ("--trust", "mylab.loss"), ("--trust", "other")):
        said = refused(run, mark, *asked, *trusted, cwd=tmp_path)
        assert "loss names mylab.losses.Focal, which is no class of this program" in said
        assert said.endswith("If you know the module mylab and trust it, add --trust mylab.\n")
    for trusted in (("--trust", "mylab"), ("--trust", "other", "--trust", "mylab.losses")):
        assert run(*asked, *trusted, cwd=tmp_path).code == 0
    refused(run, mark, *asked, cwd=tmp_path)  # what one command trusts the next does not
    resume = (command_line.main, "resume", str(ours), "trainer.max_epochs=2")
    assert "add --trust mylab" in refused(run, mark, *resume, cwd=tmp_path)
    done = run(*resume, "--trust", "mylab", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "add --trust mylab" in refused(run, mark, command_line.main, "resume", str(ours), cwd=tmp_path)
    broken = tmp_path / "modules" / "mylab" / "broken.py"
    for text in ("raise SystemExit(0)", "raise RuntimeError('no')", "this is no Python"):
        broken.write_text(text)
        evil = changed(ours, tmp_path / "evil", {"loss": {"_target_": "mylab.broken.A"}})
        said = refused(run, mark, recommend.main, evil, "--user", "u0", "--trust", "mylab", cwd=tmp_path)
        assert "loss names mylab.broken.A, which cannot be imported" in said
    for name in (
        "mylab.losses.Path",
        "mylab.losses.Path.touch",
        "mylab.losses.make",
        "mylab.losses.CE",
        "mylab.none.A",
    ):
        evil = changed(ours, tmp_path / "evil", {"loss": {"_target_": name}})
        said = refused(run, mark, recommend.main, evil, "--user", "u0", "--trust", "mylab", cwd=tmp_path)
        assert f"loss names {name}, which " in said


def test_code_of_a_language_model_runs_where_it_is_trusted_by_name(good, tmp_path):
    folder = changed(good, tmp_path / "run", code_beside_a_language_model(tmp_path, tmp_path / "mark"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for revision, name in ((None, str(tmp_path)), ("v1", f"{tmp_path}@v1")):
        config["llm"]["weights"]["revision"] = revision
        (folder / "config.yaml").write_text(yaml.dump(config))
        with pytest.raises(UserError, match=f"add --trust {name}"), trusting(["recsys_lt", "transformers", "x"]):
            stored(folder)
        with trusting([name]):
            assert stored(folder).config.llm.weights.trust_remote_code is True
    config["llm"]["weights"]["trust_remote_code"] = None  # transformers would ask
    (folder / "config.yaml").write_text(yaml.dump(config))
    with pytest.raises(UserError, match="would run Python code"):
        stored(folder)
