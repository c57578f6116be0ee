"""Loggers of a run beside its folder: Weights & Biases, TensorBoard, MLflow."""

import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeInt

from recsys_lt.runs.reading import flat
from recsys_lt.runs.run_folder import BEST, REPORT
from recsys_lt.system.atomic import write_text
from recsys_lt.system.package import check_installed

#: Where `wandb login` keeps a key: wandb 0.31 has another name for the server of the versions before it.
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
Artifact = Literal["config", "report", "checkpoint"]
#: Columns and rows.
Table = tuple[list[str], list[list[Any]]]
#: So many users with what they were recommended, a mapping each.
Examples = Callable[[int], Sequence[Mapping[str, Any]]]


def no_examples(_users: int) -> Sequence[Mapping[str, Any]]:
    """Of a run that has nothing to show."""
    return ()


class Logger:
    """A logger of a run beside its folder. An error in it ends the logging, never the run.

    Attributes
    ----------
    name, package, extra
        The program, the Python package it needs, and the extra of ours that brings it; "" where it is always there.
    artifacts
        Files that are sent with a finished run; the report is made for those who name it.
    """

    name: ClassVar[str] = ""
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    artifacts: Sequence[Artifact] = ()
    _on = False

    def check(self) -> None:
        """Raise UserError where a package is missing."""
        if self.extra:
            check_installed(f"logger={self.extra}", self.extra, self.package)

    def start(self, folder: Path, config: dict[str, Any], cell: dict[str, Any], group: str | None) -> None:
        """Begin a run; ``cell`` are its dataset, model, loss, optimizer and seed, ``group`` is the sweep."""
        self._on, self._folder, self._config = True, folder, config
        self._safely(lambda: self._start(cell, group))

    def log(self, row: dict[str, Any]) -> None:
        """Take one epoch's row."""
        self._safely(lambda: self._log(row))

    def finish(
        self, metrics: dict[str, Any] | None, pictures: dict[str, Path], examples: Examples = no_examples
    ) -> None:
        """End the run; metrics is what metrics.json holds, None if it failed, ``examples`` makes users with lists."""
        self._safely(lambda: self._finish(metrics, pictures, examples))
        self._on = False

    # What a subclass does at each of these.

    def _start(self, cell: dict[str, Any], group: str | None) -> None: ...

    def _log(self, row: dict[str, Any]) -> None: ...

    def _finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path], examples: Examples) -> None: ...

    def _safely(self, action: Callable[[], None]) -> None:
        """Send to the program, unless it failed before; a failure prints one line."""
        if not self._on:
            return
        try:
            action()
        except Exception as error:
            line = " ".join(str(error).split())
            print(f"{self.name} logging stopped ({type(error).__name__}: {line}); the run goes on", file=sys.stderr)
            self._on = False

    def _known_id(self, new: Callable[[], str]) -> str:
        """The run's id in the program: that of the folder, so that a resumed run stays one run, or a new one."""
        known = self._folder / f"{self.package}_id.txt"
        if not known.is_file():
            write_text(known, new() + "\n")
        return known.read_text().strip()


class NoLogger(Logger):
    """No logger: the run folder alone has the metrics."""


class WandbLogger(Logger):
    """Weights & Biases: offline when no key is configured; never prompts, never hangs.

    One W&B run per run folder, the same one after a resume. Group, tags, config and summary are set so that a
    dashboard can group by dataset, model, loss and optimizer.

    Parameters
    ----------
    project
        W&B project.
    mode
        ``online``, ``offline``, ``disabled`` or null: online where a key is configured, else offline.
    artifacts
        Files that are sent with a finished run: ``config``, ``report`` and ``checkpoint`` (of the best epoch).
    examples
        Number of users in the table of lists; 0 for none.
    """

    name, package = "W&B", "wandb"

    def __init__(
        self,
        project: str = "recsys_lt",
        mode: Literal["online", "offline", "disabled"] | None = None,
        artifacts: Sequence[Artifact] = (),
        examples: NonNegativeInt = 8,
    ) -> None:
        self.project, self.mode, self.artifacts, self.examples = project, mode, artifacts, examples

    def _start(self, cell: dict[str, Any], group: str | None) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=self.project,
            id=self._known_id(lambda: secrets.token_hex(4)),
            name=self._folder.name,
            group=group or "_".join(str(cell[part]) for part in ("dataset", "model", "loss", "optimizer")),
            tags=[str(cell[part]) for part in ("dataset", "model", "loss", "optimizer")],
            # The cell's words first: a dashboard groups by config.model, not by config.model._target_.
            config=cell | {"settings": self._config},
            dir=str(self._folder),
            mode=self._mode(),
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=60,
                finish_timeout=120,  # a lost network must not hold up a sweep
                disable_git=True,
                save_code=False,
            ),
        )
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        self._run.define_metric("valid/ndcg@10", step_metric="epoch", summary="max")  # of a run that is not finished
        if self._run.settings.mode == "offline":
            place = os.path.relpath(Path(self._run.dir).parent)
            print(f"W&B: offline; upload with: wandb sync {shlex.quote(place)}", flush=True)
        elif self._run.url:
            print(f"W&B: {self._run.url}", flush=True)

    def _mode(self) -> Any:
        """What was configured, else what the environment says, else online where there is a key."""
        return self.mode or os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")

    def _log(self, row: dict[str, Any]) -> None:
        self._run.log(row)

    def _finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path], examples: Examples) -> None:
        import wandb

        if metrics is not None:
            # The last row logged would otherwise stand in the summary as if it were the result.
            for key in list(self._run.summary.keys()):
                if not key.startswith("_"):
                    del self._run.summary[key]
            for name, path in pictures.items():
                self._run.log({name: wandb.Image(str(path))})
            for name, (columns, rows) in _tables(metrics, examples(self.examples)).items():
                self._run.log({f"tables/{name}": wandb.Table(columns=columns, data=rows)})
            self._run.summary.update(flat(without_long_tail(metrics), "/"))
            for kind, path in artifacts(self._folder, self.artifacts):
                self._run.log_artifact(str(path), name=f"{kind}-{self._run.id}", type=kind)
        self._run.finish(exit_code=0 if metrics is not None else 1)


class TensorBoardLogger(Logger):
    """TensorBoard: curves, final metrics beside the settings, and pictures, in ``tensorboard/`` of the run folder."""

    name, package, extra = "TensorBoard", "tensorboard", "tensorboard"

    def _start(self, cell: dict[str, Any], group: str | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._epoch, self._cell = 0, cell
        self._writer = SummaryWriter(str(self._folder / "tensorboard"))
        place = self._folder if group is None else self._folder.parent
        print(f"TensorBoard: tensorboard --logdir {shlex.quote(os.path.relpath(place))}", flush=True)

    def _log(self, row: dict[str, Any]) -> None:
        self._epoch = row["epoch"]
        for name, value in floats(row).items():
            if name != "epoch":
                self._writer.add_scalar(name, value, self._epoch)
        self._writer.flush()

    def _finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path], examples: Examples) -> None:
        if metrics is not None:
            from matplotlib.image import imread

            for name, path in pictures.items():
                self._writer.add_image(name, imread(path)[..., :3], self._epoch, dataformats="HWC")
            stage = "test" if "test" in metrics else "valid"
            settings = self._cell | {
                key: value for key, value in flat(self._config).items() if isinstance(value, bool | int | float | str)
            }
            found = {f"final/{stage}/{name}": value for name, value in floats(metrics[stage]).items()}
            self._writer.add_hparams(settings, found, run_name=".", global_step=self._epoch)
        self._writer.close()


class MLflowLogger(Logger):
    """MLflow: an experiment with a run per run folder, the same one after a resume. ``@`` is ``_at_`` in its names.

    Parameters
    ----------
    experiment
        MLflow experiment.
    uri
        Server or database, such as ``http://localhost:5000`` or ``sqlite:///mlflow.db``; null for
        ``MLFLOW_TRACKING_URI``, or MLflow's own default.
    artifacts
        Files that are sent with a finished run, beside pictures: ``config``, ``report``, ``checkpoint``.
    """

    name, package, extra = "MLflow", "mlflow", "mlflow"

    def __init__(
        self, experiment: str = "recsys_lt", uri: str | None = None, artifacts: Sequence[Artifact] = ()
    ) -> None:
        self.experiment, self.uri, self.artifacts = experiment, uri, artifacts

    def _start(self, cell: dict[str, Any], group: str | None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self.uri)

        def new() -> str:
            found = self._client.get_experiment_by_name(self.experiment)
            number = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
            tags = {key: str(value) for key, value in cell.items()} | ({} if group is None else {"sweep": group})
            made = self._client.create_run(number, run_name=self._folder.name, tags=tags)
            settings = {_plain(key): str(value)[:500] for key, value in flat(self._config).items()}
            params = [Param(key, value) for key, value in settings.items()]
            for first in range(0, len(params), 100):  # as many as it takes at a time
                self._client.log_batch(made.info.run_id, params=params[first : first + 100])
            return str(made.info.run_id)

        self._id, self._epoch = self._known_id(new), 0
        self._client.update_run(self._id, status="RUNNING")
        print(f"MLflow: {self._client.tracking_uri}, experiment {self.experiment}, run {self._id}", flush=True)

    def _log(self, row: dict[str, Any]) -> None:
        self._epoch = row["epoch"]
        self._send({name: value for name, value in floats(row).items() if name != "epoch"})

    def _send(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        sent = [Metric(_plain(name), value, now, self._epoch) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=sent)

    def _finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path], examples: Examples) -> None:
        if metrics is not None:
            final = floats(flat(without_long_tail(metrics), "/"))
            self._send({f"final/{name}": value for name, value in final.items()})
            sent = [*pictures.values(), *(path for _, path in artifacts(self._folder, self.artifacts))]
            for path in sent:
                self._client.log_artifact(self._id, str(path))
        self._client.set_terminated(self._id, "FAILED" if metrics is None else "FINISHED")


def _plain(name: str) -> str:
    """A name as MLflow takes it."""
    return name.replace("@", "_at_")


def floats(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among some values."""
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def without_long_tail(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What metrics.json holds without the long tail, which is a table and a picture."""
    return {key: value for key, value in metrics.items() if key != "long_tail"}


def _tables(metrics: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> dict[str, Table]:
    """Metrics by group of the target, tenths of the items, and users with their lists."""
    stage = "test" if "test" in metrics else "valid"
    groups = ("", "head/", "mid/", "tail/", "nonhead/")
    found, names = metrics[stage], [name for name in metrics[stage] if f"head/{name}" in metrics[stage]]
    rows = [[name, *(found.get(f"{group}{name}") for group in groups)] for name in names]
    tables = {"metrics_by_group": ([stage, "overall", "head", "mid", "tail", "nonhead"], rows)}
    listed = {"tenths": metrics.get("long_tail", {}).get("deciles"), "examples": examples}
    for name, each in listed.items():
        if each:
            tables[name] = (list(each[0]), [list(row.values()) for row in each])
    return tables


def artifacts(folder: Path, kinds: Sequence[Artifact]) -> Iterator[tuple[str, Path]]:
    """Those files of a run folder that are there, by their kind."""
    for kind in kinds:
        path = folder / {"config": "config.yaml", "checkpoint": BEST, "report": REPORT}[kind]
        if path.is_file():
            yield kind, path


def has_key() -> bool:
    """Whether wandb would find a key without asking."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    server = os.environ.get("WANDB_BASE_URL")
    hosts = (server.split("//")[-1].split("/")[0],) if server else _HOSTS
    known = netrc.read_text(errors="replace").split() if netrc.is_file() else []
    return any(host in known for host in hosts)
