"""Where a run's rows go beside its own folder."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from recsys_lt.runs.reading import flat
from recsys_lt.system.atomic import write_text

#: Where `wandb login` keeps a key: wandb 0.31 has another name for the server of the versions before it.
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


class NoLogger:
    """The run folder's CSV is all."""

    def start(self, folder: Path, config: dict[str, Any], cell: dict[str, Any], group: str | None) -> None:
        """Begin a run."""

    def log(self, row: dict[str, Any]) -> None:
        """Take one epoch's row."""

    def finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path]) -> None:
        """End the run; metrics is what metrics.json holds, None if it failed."""


class WandbLogger(NoLogger):
    """Weights & Biases: offline when no key is configured; never prompts, never hangs, never kills a run.

    One W&B run per run folder, the same one after a resume. Group, tags, config and summary are set so that a
    dashboard groups by dataset, model, loss and optimizer as it is.

    Parameters
    ----------
    project
        W&B project.
    mode
        ``online``, ``offline``, ``disabled`` or null: online where a key is configured, else offline.
    """

    def __init__(
        self, project: str = "recsys_lt", mode: Literal["online", "offline", "disabled"] | None = None
    ) -> None:
        self.project, self.mode = project, mode
        self._run: Any = None

    def start(self, folder: Path, config: dict[str, Any], cell: dict[str, Any], group: str | None) -> None:
        def begin() -> None:
            import wandb

            name = folder.name
            known = folder / "wandb_id.txt"
            run_id = known.read_text().strip() if known.is_file() else secrets.token_hex(4)
            write_text(known, run_id + "\n")
            self._run = wandb.init(
                project=self.project,
                id=run_id,
                name=name,
                group=group or "_".join(str(cell[part]) for part in ("dataset", "model", "loss", "optimizer")),
                tags=[str(cell[part]) for part in ("dataset", "model", "loss", "optimizer")],
                # The cell's words first: a dashboard groups by config.model, not by config.model._target_.
                config=cell | {"settings": config},
                dir=str(folder),
                mode=self._mode(),
                resume="allow",
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    init_timeout=60,
                    finish_timeout=120,  # a lost network must not hold up a sweep
                    x_disable_stats=True,
                    disable_git=True,
                    save_code=False,
                ),
            )
            self._run.define_metric("epoch")
            self._run.define_metric("*", step_metric="epoch")

        self._safely(begin)

    def _mode(self) -> Any:
        """What was configured, else what the environment says, else online where there is a key."""
        return self.mode or os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")

    def log(self, row: dict[str, Any]) -> None:
        if self._run is not None:
            self._safely(lambda: self._run.log(row))

    def finish(self, metrics: dict[str, Any] | None, pictures: dict[str, Path]) -> None:
        if self._run is None:
            return

        def end() -> None:
            import wandb

            for name, path in pictures.items():
                self._run.log({name: wandb.Image(str(path))})
            if metrics is not None:
                # The last row logged would otherwise stand in the summary as if it were the result.
                for key in list(self._run.summary.keys()):
                    if key not in pictures and not key.startswith("_"):
                        del self._run.summary[key]
                self._run.summary.update(flat(metrics, "/"))
            self._run.finish(exit_code=0 if metrics is not None else 1)

        self._safely(end)
        self._run = None

    def _safely(self, action: Callable[[], None]) -> None:
        """A dashboard that fails must not take hours of training with it."""
        try:
            action()
        except Exception as error:
            line = " ".join(str(error).split())
            print(f"W&B logging stopped ({type(error).__name__}: {line}); the run goes on", file=sys.stderr)
            self._run = None


def has_key() -> bool:
    """Whether wandb would find a key without asking."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    server = os.environ.get("WANDB_BASE_URL")
    hosts = (server.split("//")[-1].split("/")[0],) if server else _HOSTS
    known = netrc.read_text(errors="replace").split() if netrc.is_file() else []
    return any(host in known for host in hosts)
