"""What README.md, CONTRIBUTING.md and docs/ tell a reader to type works.

Every command of a ``bash`` block composes with the choices it names. It is then run on small made-up data, or
refused as ``REFUSED`` says. What is not run here is in ``ELSEWHERE``, with the test that runs it.
"""

# ruff: noqa: F811  (fixtures)

import importlib.util
import itertools
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import recsys_lt
from recsys_lt import CONF
from recsys_lt.cli.arguments import as_meant
from recsys_lt.training.build import build
from tests.end_to_end.conftest import Cli, dots_for_pictures, environment, here  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
MADE = [ROOT / "docs" / "reference" / name for name in ("configuration.md", "commands.md")]
WRITTEN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page not in MADE]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]

#: Programs that are not ours.
FOREIGN = ("wandb", "tensorboard", "mlflow", "scp", "ssh", "source", "curl")
#: Parts of training commands that are composed and built here, and run by the test named.
ELSEWHERE = {
    "dataset.source.n_items=10000000": "tests/studies/test_speed.py",
    "strategy=ddp": "tests/end_to_end/test_processes.py",
    "hydra/launcher=joblib": "tests/end_to_end/test_launchers.py",
    "logger.mode=offline": "tests/training/test_loggers.py",
    "logger.artifacts=": "tests/training/test_loggers.py",
    "+search=": "tests/end_to_end/test_search.py",
    "logger=tensorboard": "tests/training/test_loggers.py",
    "logger=mlflow": "tests/training/test_loggers.py",
    "model=blend": "tests/end_to_end/test_blend.py",
    "prior=title": "tests/cli/test_prior.py",
    "model=tiger item_ids=random model.start_from=": "tests/generative/test_code_preference.py",
    "+experiment=grid_llm_e4srec": "tests/llm/test_training.py",
}
#: Parts of training commands that need real data, a GPU or a cluster, and what the refusal without them says.
REFUSED = {
    "+experiment=ml100k_tiger": "no files of ml-100k",
    "+experiment=ml100k_e4srec": "no files of ml-100k",
    "+experiment=ml100k_llamarec": "no files of ml-100k",
    "+experiment=ml100k_bigrec": "no files of ml-100k",
    "+experiment=beauty_e4srec": "no files of beauty",
    "model=title_likelihood": "no files of ml-100k",
    "llm=pretrained": "no files of ml-100k",
    "hydra/launcher=slurm": "there is no SLURM here",
}
SMALL = (
    "dataset.source.n_users=60", "dataset.source.n_items=600", "dataset.source.mean_length=6",
    "trainer.max_epochs=1", "trainer.batch_rows=64", "logger=none",
)  # fmt: skip


#: Experiments that are sweeps.
SWEPT = ("+experiment=grid", "+experiment=paper/", "+experiment=llm_vs_")


@dataclass(frozen=True)
class Command:
    """A line of a bash block: its page, and its words without environment variables and comments."""

    page: str
    line: str

    @property
    def words(self) -> list[str]:
        line = self.line.replace("<run of sam>", "<run>").replace("<run>", "run").replace("<sweep>", "sweep")
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        return words

    @property
    def ours(self) -> list[str] | None:
        """The arguments of recsys_lt; None for another program."""
        words = self.words
        if words[:3] == ["python", "-m", "recsys_lt"]:
            return words[3:]
        return words[1:] if words and words[0].split("/")[-1] == "recsys_lt" else None


def blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a language on a page: the title, if there is one, and the text."""
    yield from re.findall(rf'^```{language}(?: title="([^"\n]*)")?\n(.*?)^```', page.read_text(), re.M | re.S)


def commands() -> list[Command]:
    found = []
    for page in PAGES:
        for _, text in blocks(page, "bash"):
            lines = text.replace("\\\n", " ").splitlines()
            found += [Command(str(page.relative_to(ROOT)), line) for line in lines if line.split("#")[0].strip()]
    return found


ALL = commands()
OURS = {" ".join(c.ours): c for c in ALL if c.ours is not None}
SUBCOMMANDS = (
    "dataset",
    "prior",
    "protocols",
    "candidates",
    "table",
    "report",
    "recommend",
    "sharpness",
    "resume",
    "dashboard",
    "export",
    "serve",
    "push",
    "pull",
    "--help",
)
TRAINING = {line: c for line, c in OURS.items() if (c.ours or [""])[:1] == [] or (c.ours or [""])[0] not in SUBCOMMANDS}
OTHERS = {line: c for line, c in OURS.items() if line not in TRAINING}


def marked(line: str, marks: dict[str, str]) -> str | None:
    """What is said of the first mark that is a part of the line."""
    return next((said for mark, said in marks.items() if mark in line), None)


@pytest.fixture(scope="module", autouse=True)
def drawn_at_once() -> Iterator[None]:
    """Also of what the lines of Python run."""
    with dots_for_pictures():
        yield


@pytest.fixture(scope="module")
def place(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages talk of: data files, the reader's own package, a finished run and a sweep."""
    folder = tmp_path_factory.mktemp("reader")
    rows = [(f"u{user}", f"i{(user * 7 + n * n) % 30}", n) for user in range(40) for n in range(8)]
    for name, header in (("events.csv", "user,item,timestamp"), ("purchases.csv", "user_id,asin,ts")):
        # A line an event, none of them twice.
        (folder / name).write_text("\n".join([header, *(f"{u},{i},{100 * n + int(u[1:])}" for u, i, n in rows)]) + "\n")
    (folder / "ids.tsv").write_text("".join(f"i{n}\ta_{n % 6} b_{n // 6}\n" for n in range(30)))
    (folder / "items.csv").write_text("item,title\n" + "".join(f"i{n},Thing {n}\n" for n in range(30)))
    (folder / "catalogue.csv").write_text("asin,label,shelf\n" + "".join(f"i{n},Thing {n},A\n" for n in range(30)))
    np.save(folder / "image.npy", np.eye(30))
    (folder / "image.ids.txt").write_text("".join(f"i{n}\n" for n in range(30)))
    (folder / "users.txt").write_text("u1\nu2\n")
    (folder / "histories.csv").write_text("user,item\nnew,i1\nnew,i2\n")
    for page in PAGES:
        for title, text in itertools.chain(blocks(page, "python"), blocks(page, "yaml")):
            if title:
                (folder / title).parent.mkdir(parents=True, exist_ok=True)
                (folder / title).write_text(text)
    for name in ("ml-100k", "beauty"):  # data that are not there, and are not to be fetched
        (folder / "nothing" / name).mkdir(parents=True)
    tiny = ("dataset=synthetic", *SMALL)
    assert here(*tiny, "optimizer=sam", "hydra.run.dir=outputs/run", cwd=folder).returncode == 0
    sweep = (*tiny, "-m", "model=sasrec,pop", "hydra.sweep.dir=multirun/sweep")
    done = here(*sweep, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(autouse=True)
def on_path(place: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's package is that of the pages, or that of examples/ for the command that names it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    outside = ROOT / "examples" / "outside"
    monkeypatch.syspath_prepend(str(outside if "examples/" in request.node.name else place))
    monkeypatch.setenv("RECSYS_LT_RAW", str(place / "nothing"))


def _found(words: list[str]) -> list[str]:
    """The words with paths of the repository as they are from anywhere."""
    return [str(ROOT / word) if word.startswith(("examples/", "studies/")) else word for word in words]


def cells(words: list[str]) -> list[list[str]]:
    """The overrides of a few cells of a sweep, with the flags taken away; one for a single run."""
    flags = [n for n, word in enumerate(words) if word in ("-m", "--cfg", "--config-dir")]
    skipped = set(flags) | {n + 1 for n in flags if words[n] != "-m"}
    plain = [word for n, word in enumerate(words) if n not in skipped and "interval(" not in word]
    values = [word.split(",") if not set("[{") & set(word) else [word] for word in plain]
    choices = [[v if "=" in v else f"{vs[0].split('=')[0]}={v}" for v in vs] if len(vs) > 1 else vs for vs in values]
    return [list(cell) for cell in itertools.islice(itertools.product(*choices), 3)]


@pytest.mark.parametrize("line", TRAINING)
def test_a_training_command_composes_and_builds(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    words = _found(TRAINING[line].ours or [])
    own = [words[n + 1] for n, word in enumerate(words) if word == "--config-dir"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for cell in cells(words):
            search = [f"hydra.searchpath=[{Path(path).absolute()}]" for path in own]
            if any(part.startswith(("hydra/", "hydra.launcher")) for part in cell):
                cell = [part for part in cell if not part.startswith(("hydra/", "hydra.launcher"))]
            config = compose("config", as_meant([*cell, *search]))
            OmegaConf.set_struct(config, False)
            for key in ("search", "baselines"):  # of the command, not of a run
                config.pop(key, None)
            if "4bit" not in line:  # which needs a GPU
                build(config)


def narrowed(words: list[str]) -> list[str]:
    """A sweep with the first value of each key; what is no sweep as it is."""
    swept = "-m" in words or any(word.startswith(SWEPT) for word in words)
    found = [word.split(",")[0] if swept and not set("[{") & set(word) else word for word in words]
    for word in words:
        if word.startswith("+experiment="):
            name = f"experiment/{word.partition('=')[2]}.yaml"
            (path,) = (folder / name for folder in (CONF, *map(Path, words)) if (folder / name).is_file())
            swept = yaml.safe_load(path.read_text()).get("hydra", {}).get("sweeper", {}).get("params", {})
            given = {other.partition("=")[0] for other in words}
            found += [f"{key}={str(values).split(',')[0]}" for key, values in swept.items() if key not in given]
    return found


def on_small_data(line: str) -> tuple[str, ...]:
    """A command's arguments with made-up data in the place of real ones, and one epoch."""
    words = _found(TRAINING[line].ours or [])
    own_data = any("dataset=file" in word or "shop" in word for word in words)
    replaced = r"trainer\.(max_epochs|batch_rows)=|logger=|seed=\d+$" + (
        "" if own_data else r"|dataset[=.]|.*max_users"
    )
    kept = narrowed([word for word in words if not re.match(replaced, word)])
    small = [*SMALL[3:]] if own_data else ["dataset=synthetic", *SMALL]
    return (*kept, *small)


#: Commands that are the same on small data are run once.
RUN = {on_small_data(line): line for line in TRAINING if marked(line, ELSEWHERE | REFUSED | {"--cfg": ""}) is None}


@pytest.mark.parametrize("words", RUN, ids=lambda words: RUN[words])
def test_a_training_command_runs_on_small_data(words: tuple[str, ...], here: Cli, place: Path) -> None:
    name = str(list(RUN).index(words))
    swept = "-m" in words or any(word.startswith(SWEPT) for word in words)
    where = f"hydra.sweep.dir=multirun/{name}" if swept else f"hydra.run.dir=outputs/{name}"
    done = here(*words, where, cwd=place)
    assert done.returncode == 0, done.stderr
    assert list(place.glob(f"*/{name}/**/metrics.json")) != []


def test_the_configuration_of_a_run_is_printed(here: Cli, place: Path) -> None:
    (line,) = (line for line in TRAINING if "--cfg" in line)
    done = here(*(TRAINING[line].ours or []), cwd=place)
    assert (done.returncode, "trainer:" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("line", [line for line in TRAINING if marked(line, REFUSED) is not None])
def test_a_command_that_needs_more_is_refused_in_one_line(line: str, here: Cli, place: Path) -> None:
    done = here(*narrowed(TRAINING[line].ours or []), cwd=place)
    said = [text for text in done.stderr.splitlines() if text.strip()]
    assert (done.returncode, len(said)) == (2, 1), done.stderr
    assert str(marked(line, REFUSED)) in said[0]


@pytest.mark.parametrize("line", OTHERS)
def test_a_command_on_finished_runs_works(
    line: str, here: Cli, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = OTHERS[line].ours or []
    if words[0] == "serve" or "hf://" in line:  # tests/cli run these; here, only the added word is refused
        with pytest.raises(SystemExit):
            import_module(f"recsys_lt.cli.{words[0]}").main([*words[1:], "--unknown"])
        assert "unrecognized arguments: --unknown\n" in capsys.readouterr().err
        return
    if "--onnx" in words:
        pytest.importorskip("onnxruntime", reason="needs the extra export")
    if "--user" in words:
        users = range(words.index("--user") + 1, len(words))
        named = itertools.takewhile(lambda n: not words[n].startswith("--"), users)
        words = [*words]
        for user, n in enumerate(named):
            words[n] = f"u{user}"
    if words[0] == "resume":
        words = [re.sub(r"max_epochs=.*", "max_epochs=2", word) for word in words]
    if words[0] == "dashboard":
        words = [*words, "--dry-run"]
    if words[0] == "dataset" and words[1] != "file":
        words = ["dataset", "synthetic", *SMALL[:3], *words[2:]]
    if words[0] == "prior":
        kept = [word for word in words[2:] if not word.startswith("llm=")]
        words = ["prior", "synthetic", "llm=tiny_random", *SMALL[:3], *kept]
    words = [re.sub("kettle,teapot", "i1,i2", word) for word in words]
    words = _found(words)
    done = here(*words, cwd=place)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in ALL if c.ours is None], ids=lambda c: c.line)
def test_another_command_names_what_there_is(command: Command) -> None:
    words = command.words
    if not words or words[0] in FOREIGN or words[0] == "export":
        return
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert words[1] in targets
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(re.findall(r"[\w-]+", words[2].partition("[")[2])) <= set(extras)
    else:
        assert words[0] == "python"
        script = ROOT / words[1]
        text = script.read_text()
        options = [word for word in words[2:] if word.startswith("--")]
        assert [option for option in options if option not in text and option.strip("-") not in text] == []


PYTHON = [
    (page, text) for page in PAGES for title, text in blocks(page, "python") if not title and "class " not in text
]


@pytest.mark.parametrize(("page", "text"), PYTHON, ids=lambda v: v.stem if isinstance(v, Path) else "")
def test_lines_of_python_run(
    page: Path,
    text: str,
    here: Cli,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path))
    small = ", ".join(f'"{word}"' for word in ("dataset=synthetic", *SMALL))
    for said, here_is in {
        '"dataset=ml-100k"': small, "<run>": "run", "<sweep>": "sweep", '"196"': '"u1"',
        '"50"': '"i1"', '"181"': '"i2"',
        '"kettle"': '"i1"', '"teapot"': '"i2"', '"cup"': '"i3"', '"sasrec/ce"': '"sasrec"',
    }.items():  # fmt: skip
        text = text.replace(said, here_is)
    GlobalHydra.instance().clear()
    exec(compile(text, str(page), "exec"), {})


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_page_of_losses_names_every_choice() -> None:
    page = (ROOT / "docs" / "losses.md").read_text()
    assert [path.stem for path in (CONF / "loss").glob("[!_]*.yaml") if f"\n| `{path.stem}`" not in page] == []


def test_the_citation_is_of_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == recsys_lt.__version__


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = ROOT / "docs" / "reference" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_every_key_of_the_configuration_has_a_meaning(reference: ModuleType) -> None:
    keys = [key for group in reference.GROUPS for found in reference.group_keys(group).values() for key in found]
    assert len(keys) > 200
    assert [key.name for key in keys if not key.meaning] == []


def test_the_page_of_keys_names_every_choice(reference: ModuleType) -> None:
    page = reference.configuration()
    for group in reference.GROUPS:
        names = [path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_")]
        assert [name for name in names if f"`{group}={name}`" not in page] == []
    assert "| `optimizer.rho` | float | `0.05` | radius |" in page
    assert "| `trainer.clip` | float or null | `null` |" in page


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted(ROOT.glob("studies/**/README.md")), *ROOT.glob("examples/*/README.md")]
)
def test_links_and_pictures_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`]*`", "", page.read_text(), flags=re.M | re.S)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    paths = {link: (page.parent / link).resolve() for link in links if link}
    assert [link for link, path in paths.items() if not path.exists() and path not in MADE] == []


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in WRITTEN + MADE]
    assert [page for page in pages if f" {page}" not in menu] == []
