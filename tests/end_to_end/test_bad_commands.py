"""Whatever is wrong with a command: one line that names it, exit code 2, and nothing left behind."""

import contextlib
import errno
import importlib
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from recsys_lt import CONF
from recsys_lt.data.facts import DataFacts
from recsys_lt.errors import UserError
from recsys_lt.training.build import build
from tests.end_to_end.conftest import Cli

#: After ``dataset=synthetic logger=none trainer.max_epochs=1`` and small data.
CHOICES = """
trainer.max_epoch=3 | trainer.max_epoch, Did you mean trainer.max_epochs?
sede=3 | sede, Did you mean seed?
+trainer.gradient_clip_val=1 | gradient_clip_val, keys of TrainerSettings are
+colour=blue | colour, there is no key
++colour=blue | colour, configuration
loss=5 | loss=5, a group is a choice
loss=[ce] | loss=[ce], a group is a choice
loss=null | loss=null, a group is a choice
+experiment=true | +experiment=true, a group is a choice
dataset.k_core=-1 hydra.job.chdir=true | dataset.k_core, -1 is no number of events
loss=sc | loss, 'sc', sce
modle=gru4rec | modle, model, Did you mean model?
+experiment=nothing | experiment, nothing, beauty_sce
dataset=beuaty | beuaty, beauty
loss.k=5 | loss.k, there is no key
model.dropout=1.7 | dropout is 1.7, [0, 1)
loss=sce loss.k=501 | 501 negatives, 40 items
loss=sce loss.k=41 | loss.k=40
loss=sce loss.k=39 loss.pool=unseen | 39 negatives, loss.k=38
loss=bpr loss.k=40 loss.pool=non_target | 40 negatives, loss.k=39
loss=sce loss.k=0 | loss.k, greater than 0
loss=sce loss.pool=none | loss.pool, unseen
loss=sce loss.share=user | loss.share, batch
loss=sce loss.alpha=inf | loss.alpha, finite
loss=sl loss.tau=0 | loss.tau, greater than 0
loss=bsl loss.tau_negative=-1 | loss.tau_negative, greater than 0
loss=psl loss.surrogate=sigmoid | loss.surrogate, tanh
loss=psl loss.cosine=false | loss.cosine, there is no key
loss=sl_at_k loss.k=41 | loss.k=39
loss=dsl loss.hardness=-1 | loss.hardness, greater than or equal to 0
loss=dpo | model.start_from, Give the run folder of a trained model
loss=simpo loss.negatives=hard | model.start_from, Give the run folder of a trained model
loss=s_dpo model.start_from=nowhere | nowhere, no such folder, loss.reference
loss=simpo loss.k=39 | 39 negatives, loss.k=38
loss=simpo loss.negatives=hardest | loss.negatives, popular
loss=napo loss.auxiliary=nowhere | nowhere, no such folder, loss.auxiliary
loss=napo loss.share=2 | loss.share, less than or equal to 1
loss=dpo model=llamarec llm=tiny_random model.start_from=nowhere | loss, objective of its own
loss=simpo model=title_likelihood llm=tiny_random | model.train=false, Add model.train=true
metrics.ks=[10,1000] | 1000, 40 items, metrics.ks=[10]
metrics.ks=[1,5] | 10 is not among, metrics.ks
metrics.ks=10 | metrics.ks, a list, in brackets
metrics.ks=[a] | metrics.ks, a whole number
metrics.mask_seen=maybe | metrics.mask_seen, keep_target
metrics.groups=[0.5,0.6,0.2] | metrics.groups.shares, sum to 1
metrics.groups.window=90 | metrics.groups.window, 90d
metrics.groups.window=90dd | metrics.groups.window, 90d
metrics.groups.windows=90d | metrics.groups.windows, Did you mean metrics.groups.window?
metrics.groups=null | metrics.groups, a mapping whose _target_ names a GroupSettings
optimizer.lr=0 | optimizer.lr, greater than 0
optimizer.lr=fast | optimizer.lr, fast, a number
optimizer.lr=inf | optimizer.lr, finite
optimizer.weight_decay=inf | optimizer.weight_decay, finite
trainer.batch_rows=0 | trainer.batch_rows, greater than 0
dataset.cache_dir=~nobody2/x | the name of no user
dataset.cache_dir= | dataset.cache_dir, empty
trainer.num_workers=99999999 | trainer.num_workers, 1024
trainer.max_epochs=1e3 | trainer.max_epochs, a whole number
trainer.max_epochs=${seed}x | trainer.max_epochs, '0x'
seed=-1 | seed, greater than or equal to 0
seed=??? | seed, no value
seed=${nope} | ${nope}, no such key
seed=[1] | seed, a whole number
seed=true | seed, a whole number
~seed | ~seed, every run needs it
~trainer | ~trainer, every run needs it
~model | ~model, every run needs it
~loss | ~loss, every run needs it
~model.width | width, The keys of SASRec are width
~dataset.source | source, it lacks the key
~precision | precision, it lacks the key
debug=maybe | debug, true or false
precision=fp8 | precision, bf16
precision=fp16-mixed strategy=cpu | precision, CPU, bf16-mixed
precision=fp16-mixed optimizer=lazy_adam | precision, lazy_adam, optimizer=adam
schedule=cosine schedule.warmup=2 | schedule.warmup, less than 1
optimizer=sam optimizer.accumulate=later | optimizer.accumulate, two_pass
optimizer=eisam optimizer.rho=0 | optimizer.rho, greater than 0
optimizer=sam optimizer.base=sgd | optimizer.base, optimizer/base=sgd
optimizer=sam optimizer/base=sdg | sdg, sgd
optimizer=sam optimizer.base._target_=recsys_lt.losses.ce.CE | optimizer.base._target_, no Optimizer
optimizer=nadam optimizer.base._target_=torch.optim.LBFGS optimizer.weight_decay=null | optimizer, closure
optimizer=nadam optimizer.weight_decay=-1 | optimizer, weight_decay
optimizer=sam +optimizer.base.lr=1 | optimizer.base.lr, optimizer.lr
optimizer=lazy_adam strategy=ddp trainer.devices=2 | lazy_adam, optimizer=adam
dataset.split=random | random, leave_one_out
dataset.split=temporal dataset.temporal_cuts=[0.9,0.8] | temporal_cuts, rising
dataset.split=as_given | ready split
dataset.k_core=-5 | dataset.k_core, -5
dataset.k_core=0 | dataset.k_core, 1 keeps all
dataset.k_core=99999 | nothing is left
dataset.source=null | dataset.source, Source
dataset.source=5 | dataset.source, Source
dataset.expect={users:abc} | dataset.expect.users, a whole number
dataset.expect={people:3} | people, users
dataset.expect={users:3} | instead of 3
dataset.source.mean_length=inf | dataset.source.mean_length, finite
dataset.source.mean_length=1e300 | dataset.source.mean_length, from 5 to 1000000
dataset.source.exponent=inf | dataset.source.exponent, finite
dataset.source.n_items=1 | dataset.source.n_items, at least 2
dataset.source.n_users=99999999999 | memory
dataset.raw_dir=. | dataset.raw_dir, reads no folder
dataset.name=.. | dataset.name, no plain name
model.width=99999999999 | model.width, at most
model.width=-1 | width -1
model.heads=3 | heads 3, divide width
model.train=maybe | model.train, there is no key
model._target_=null | model._target_, package.module.Class
model._target_=5 | model._target_, package.module.Class
model._target_=nosuch.Class | nosuch.Class, model._target_
model._target_=builtins.dict | builtins.dict, Backbone
model._partial_=false | model._partial_, Give true
loss._target_=os.getcwd | loss._target_, Loss
metrics.groups._target_=builtins.list | metrics.groups._target_, GroupSettings
model=llamarec llm=tiny_random model.train=maybe | model.train, true or false
model=e4srec llm.lora.rank=0 | llm.lora.rank, greater than 0
model=e4srec llm.dtype=int4 | llm.dtype, 'float32'
llm=tiny_random | llm, model=e4srec
model=e4srec llm=tiny_random model.supervise=maybe | model.supervise, all
model=e4srec llm=tiny_random model.max_length=0 | model.max_length, greater than 0
model=e4srec llm=tiny_random model.max_length=99999 | model.max_length=99999
model=e4srec llm=tiny_random llm.lora.targets=[nosuch] | llm.lora.targets, q_proj
model=tiger model.beams=5 | model.beams, 10 or more
model=tiger model.sizes.heads=3 | model.sizes, 3 heads
model=tiger model.sizes.dropout=1.5 | model.sizes.dropout, less than 1
model=tiger model.templates.sequential=[next] | model.templates.sequential, {items}
model=tiger model.decode=often | model.decode, 'trie' or 'free'
model=tiger loss=ce | loss, objective of its own
model=p5 model.arch=decoder | model.arch=decoder, model=tiger
model=pod model.tau=1 | model.tau, model.decode=trie
model=pod model.candidates=1 | model.candidates, 2
model=tiger model.top_n=0.5 | model.top_n, model.templates.top_n
model=llamarec llm=tiny_random model.candidates=99 | model.candidates, each candidate is one letter
model=llamarec llm=tiny_random model.candidates=null | model.candidates, it is null
model=llamarec llm=tiny_random model.order=sorted | model.order, random
model=bigrec llm=tiny_random model.retriever=nowhere | model.retriever, model.candidates=20
model=bigrec llm=tiny_random model.beams=0 | model.beams, greater than 0
loss=own | loss=own, no objective of its own
logger=wandb logger.mode=5 | logger.mode, offline
trainer.devices=2 | trainer.devices, strategy=ddp
strategy=fsdp | fsdp, strategy=ddp
strategy=deepspeed | deepspeed, strategy=ddp
strategy=gpu | strategy=gpu, strategy=cpu
resume=nowhere | resume, no key
seed=0,1 | seed=0,1, several values need -m
loss=ce,sce | recsys_lt -m loss=ce,sce
metrics.ks=1,5,9 | metrics.ks=[1,5,9], -m
optimizer.lr=0,001 | optimizer.lr=0.001, -m
dataset.columns={user: customer, item: sku} | the shell split it, 'dataset.columns={user: customer, item: sku}'.
metrics.ks=[1, 5] seed=1 | the shell split it, 'metrics.ks=[1, 5]'.
model sasrec | model, Did you mean model=sasrec?
loss=mine | loss has no choice 'mine', add --config-dir
--config-dir nowhere | --config-dir, nowhere, there is no such folder
dataset=file dataset.path=absent.csv | absent.csv, no such file, dataset.path
seed | seed, no key=value
dataset.name=${model | dataset.name, quotes
hydra.run.dir='' | hydra.run.dir, empty
hydra.sweep.dir='' | hydra.sweep.dir, empty
hydra.run.dir=/dev/null/x | /dev/null/x, a file, not a folder
hydra.run.dir=/dev/null | /dev/null, in the way
hydra.verbose=inf | hydra, begin
hydra/launcher=nosuch | hydra/launcher, joblib
--no-such-flag | --no-such-flag, --help
"""

#: The modules that read run folders, with their arguments; ``run`` is an empty folder, ``notes.txt`` a file.
COMMANDS = """
table nowhere | nowhere, no such folder
table run | run, metrics.json
table notes.txt | notes.txt
report nowhere | nowhere, no such folder
report run | run, metrics.json
report run --users -1 | --users
dataset beuaty | beuaty, beauty
dataset file dataset.cache_dir=run | dataset.path
dataset synthetic colour=blue | colour, there is no key
prior beuaty | beuaty, beauty
prior synthetic llm=nosuch | nosuch
prior synthetic llm=tiny_random --runs nowhere | nowhere, no such folder
protocols nowhere | nowhere, no such folder
protocols run | run, metrics.json
protocols run --seed -1 | --seed
candidates nowhere | nowhere, no such folder
candidates run | run, metrics.json
candidates run --others 0 | --others
recommend nowhere --user 1 | nowhere, no such folder
recommend run --user 1 | run, config.yaml
recommend notes.txt --user 1 | notes.txt
recommend run --user 1 --k 0 | --k
sharpness nowhere | nowhere, no such folder
sharpness run | run, config.yaml
sharpness run --batches 0 | --batches
sharpness run --rho inf | --rho
sharpness run --rho -1 | --rho
"""


def cases(table: str) -> list[tuple[str, list[str]]]:
    """Arguments and words of each line of a table; a comma in braces or brackets divides no words."""
    lines = [line.split(" | ") for line in table.strip().splitlines()]
    return [(arguments, re.split(r", (?![^{[]*[\]}])", words)) for arguments, words in lines]


SMALL = ("dataset=synthetic", "logger=none", "trainer.max_epochs=1", "model.width=8", "model.blocks=1",
         "dataset.source.n_users=60", "dataset.source.n_items=40")  # fmt: skip
Refused = Callable[..., str]


def only_line(code: Any, errors: str) -> str:
    """The one line a command has said, having ended with 2."""
    lines = [line for line in errors.splitlines() if line.strip()]
    assert (code, len(lines)) == (2, 1), errors
    return lines[0]


@contextlib.contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Nothing is new in the folder after the block, and Python has warned of nothing."""
    before = sorted(folder.rglob("*"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert sorted(folder.rglob("*")) == before
    assert [warning for warning in caught if issubclass(warning.category, RuntimeWarning)] == []


@pytest.fixture
def refused(here: Cli, tmp_path: Path) -> Refused:
    """The line with which the command refuses these arguments."""

    def run(*arguments: str) -> str:
        with nothing_left(tmp_path):
            done = here(*arguments, cwd=tmp_path)
        return only_line(done.returncode, done.stderr)

    return run


@pytest.mark.parametrize(("arguments", "words"), cases(CHOICES))
def test_a_choice_that_is_wrong(refused: Refused, arguments: str, words: list[str]) -> None:
    # shlex would take the quotes that Hydra is to see.
    line = refused(*SMALL[: 3 if "model" in arguments else 7], *SMALL[5:], *_split(arguments))
    assert [word for word in words if word not in line] == [], line
    assert "To append to your config" not in line


def _split(arguments: str) -> list[str]:
    splitter = shlex.shlex(arguments, posix=False)
    splitter.whitespace_split = True
    return list(splitter)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("reccomend", "reccomend: there is no such command. Write recsys_lt recommend."),
        ("recomend run --user 3", "Write recsys_lt recommend."),
        ("train model=sasrec", "train: training needs no command word. Write recsys_lt model=sasrec."),
        ("trian", "training needs no command word"),
        ("model sasrec", "Did you mean model=sasrec?"),
        ("seed", "it is no key=value"),
    ],
)
def test_a_first_word_that_is_no_command(refused: Refused, typed: str, said: str) -> None:
    assert said in refused(*typed.split())


def test_the_same_command_is_taken_where_nothing_is_wrong(
    here: Cli, environment: dict[str, str], tmp_path: Path
) -> None:
    rows = "".join(f"u{u},i{(u + j) % 12},{100 * u + j}\n" for u in range(30) for j in range(8))
    file = tmp_path / "mine é,${a}'s.csv"
    file.write_text("user,item,timestamp\n" + rows)
    own = ("dataset=file", *SMALL[1:5], "metrics.ks=[1,10]", "hydra.run.dir=own", f"dataset.path={file.name}")
    assert here(*own, cwd=tmp_path).returncode == 0
    assert here("resume", "own", "trainer.max_epochs=2", cwd=tmp_path).returncode == 0  # it finds the file again
    file.rename(tmp_path / "mine.csv")
    quoted = ("dataset=file", *SMALL[1:5], "metrics.ks=[1,10]", "hydra.run.dir=home", "dataset.path=~/mine.csv")
    with mock.patch.dict(environment, {"HOME": str(tmp_path)}):
        assert here(*quoted, cwd=tmp_path).returncode == 0
    done = here(*SMALL[:6], "dataset.source.n_items=8", "metrics.ks=[1,5,10]", cwd=tmp_path)
    assert done.returncode == 0  # lists of ten of a catalogue of eight
    said = here(*SMALL, "-m", "seed=3", f"hydra.sweep.dir={tmp_path}/sweep", cwd=tmp_path)
    assert said.returncode == 0  # a flag after the choices


def test_a_small_catalogue_has_one_remedy_and_it_works(refused: Refused) -> None:
    assert "metrics.ks=[1,5,10]" in refused(*SMALL[:6], "dataset.source.n_items=8")


@pytest.mark.parametrize(("arguments", "words"), cases(COMMANDS))
def test_a_command_that_reads_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    name, *rest = arguments.split()
    with nothing_left(tmp_path):
        code = importlib.import_module(f"recsys_lt.cli.{name}").main(rest)
    line = only_line(code, capsys.readouterr().err)
    assert [word for word in words if word not in line] == [], line


# Every key of every choice. A configuration is composed once a choice, and what the command calls on it, ``build``, is
# called here on each of its spoilt copies: composing them all would take minutes.

_NOT_NUMBERS = (float("inf"), float("nan"), "abc", [1], {"a": 1}, 10**30, True)
_NO_TARGETS = (None, 5, "nosuch.Class", "builtins.dict", "os.getcwd", "", [1])
_GROUPS = ("dataset", "model", "loss", "llm", "optimizer", "schedule", "strategy", "trainer", "logger")
_FACTS = DataFacts(3, 40, torch.arange(40))


#: Of these groups, whose other choices have the same keys.
_SOME = ("dataset=beauty", "dataset=file", "dataset=synthetic", "llm=pretrained", "llm=smollm2_135m", "strategy=ddp")


def _choices() -> list[str]:
    names = [(group, path.stem) for group in _GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
    found = [f"{group}={name}" for group, name in names if not name.startswith("_")]
    partly = {choice.partition("=")[0] for choice in _SOME}
    return [choice for choice in found if choice in _SOME or choice.partition("=")[0] not in partly]


def _leaves(node: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{where}.{key}")
        yield f"{where}.{key}", value


@pytest.mark.parametrize("choice", [*_choices(), "metrics"])
def test_every_key_of_a_choice_refuses_what_it_is_not(choice: str) -> None:
    group, _, name = choice.partition("=")
    overrides = [choice] if name else []
    overrides += ["model=e4srec"] if group == "llm" else ["model=bigrec"] if name == "own" else []
    overrides += ["llm.weights.name=somewhere"] if name == "pretrained" else []
    overrides += ["model.parts=[somewhere]"] if name == "blend" else []
    overrides += ["model.start_from=somewhere"] if group == "loss" else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides)
    plain: Any = OmegaConf.to_container(config)
    build(config)
    for key, value in _leaves(plain[group], group):
        bad: tuple[Any, ...] = ()
        if key.endswith("._target_"):
            bad = _NO_TARGETS
        elif type(value) in (int, float):
            bad = _NOT_NUMBERS
        elif type(value) is bool:
            bad = ("maybe", 5, [True])
            bad += (None,) if not key.startswith("optimizer.base.") else ()  # torch's own may be null
        elif isinstance(value, list):
            bad = (5, "abc", {"a": 1}, [{"a": 1}])
        elif isinstance(value, dict):
            bad = (5, "abc", [1])
        for wrong in bad:
            OmegaConf.update(config, key, wrong, merge=False)
            with pytest.raises(UserError) as refusal:
                _make(config, group)
            assert "\n" not in str(refusal.value)
            assert key in str(refusal.value), wrong
            assert refusal.value.remedy, (key, wrong)
        OmegaConf.update(config, key, value, merge=False)
    build(config)


def _make(config: DictConfig, group: str) -> None:
    parts = build(config)
    parts.loss.check(40)
    if group == "model" and "llm" not in config.model:
        parts.model(_FACTS)
    pytest.fail(f"taken: {OmegaConf.to_yaml(config)}")


# What the machine refuses.


@pytest.fixture(scope="module")
def trained(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert here(*SMALL, "hydra.run.dir=run", cwd=folder).returncode == 0
    return folder / "run"


@contextlib.contextmanager
def full_from(place: int) -> Iterator[list[int]]:
    """A disk that takes so many files and no more; yields a list of those it was given."""
    taken: list[int] = []

    def fsync(number: int) -> None:
        taken.append(number)
        if len(taken) > place:
            raise OSError(errno.ENOSPC, "No space left on device")

    with mock.patch.object(os, "fsync", fsync):
        yield taken


def test_a_disk_that_is_full_at_any_file_of_a_run(here: Cli, tmp_path: Path) -> None:
    with full_from(10**9) as files:
        assert here(*SMALL, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    assert len(files) > 10
    for place in range(len(files)):
        with full_from(place):
            done = here(*SMALL, "hydra.run.dir=run", cwd=tmp_path)
        line = only_line(done.returncode, done.stderr)
        assert "no space is left on the disk" in line
        run = tmp_path / "run"
        assert f"{run}/" in line
        safe = [name for name in ("best.ckpt", "last.ckpt") if (run / name).exists()]
        assert [word for word in (*safe, *([f"resume {run}"] if safe else [])) if word not in line] == []
        assert [path.name for path in run.glob(".*") if path.name != ".lock"] == []
        if place == len(files) - 1:
            assert here("resume", "run", cwd=tmp_path).returncode == 0
            assert json.loads((run / "metrics.json").read_text())["finished"]
        shutil.rmtree(run, ignore_errors=True)


@pytest.mark.parametrize("place", [0, 1])
def test_a_disk_that_is_full_beside_a_run(
    trained: Path, place: int, capsys: pytest.CaptureFixture[str], environment: dict[str, str]
) -> None:
    from recsys_lt.cli import sharpness

    with mock.patch.dict(os.environ, environment), full_from(place):
        code = sharpness.main([str(trained), "--batches", "1"])
    assert "sharpness" in only_line(code, capsys.readouterr().err)


def test_a_folder_without_rights(here: Cli, refused: Refused, trained: Path, tmp_path: Path) -> None:
    real = os.mkdir

    def mkdir(path: Any, *arguments: Any, **named: Any) -> None:
        if "locked" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, *arguments, **named)

    with mock.patch.object(os, "mkdir", mkdir):
        for arguments in (
            ["hydra.run.dir=locked/run"],
            ["-m", "hydra.sweep.dir=locked/sweep"],
            ["dataset.cache_dir=locked"],
        ):
            line = refused(*SMALL, *arguments)
            assert "locked" in line
            assert "permission is denied" in line
    assert "dataset.cache_dir" in line


def test_a_resumed_folder_without_rights(refused: Refused, trained: Path) -> None:
    def replace(self: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with mock.patch.object(Path, "replace", replace):
        for more in ([], ["trainer.max_epochs=2"]):
            line = refused("resume", str(trained), *more)
            assert str(trained) in line
            assert "permission is denied" in line
    assert (trained / "metrics.json").is_file()


def test_a_limit_on_the_size_of_files(here: Cli, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        done = here(*SMALL, "hydra.run.dir=run", cwd=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "ulimit -f" in only_line(done.returncode, done.stderr)


def test_weights_that_are_not_finite_end_no_run(here: Cli, tmp_path: Path) -> None:
    done = here(*SMALL, "optimizer.lr=1e38", "optimizer=adamw", "hydra.run.dir=run", cwd=tmp_path)
    line = only_line(done.returncode, done.stderr)
    assert [word for word in ("training", "not finite", "optimizer.lr") if word not in line] == []
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("printer", ["print", "__import__('rich').print"])
@pytest.mark.parametrize("lines", [1, 10_000])  # flushed at the end, and before it
@pytest.mark.parametrize("both", [False, True])
def test_a_closed_output_pipe_is_one_line(printer: str, lines: int, both: bool) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    program = (
        "from recsys_lt.cli.command import exit_code\n"
        f"raise SystemExit(exit_code(lambda: {printer}('word\\n' * {lines})))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=writes, stderr=writes if both else subprocess.PIPE, text=True
        )
    finally:
        os.close(writes)
    assert done.returncode == 2
    assert both or done.stderr == "error: the output pipe was closed. Write it to a file instead.\n"
