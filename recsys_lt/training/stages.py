"""A run and its needs (trained runs and artifacts), which are made first and shared by content."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from recsys_lt.data.needs import Artifact, Need, TrainedRun
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.runs.checkpoints import kept
from recsys_lt.runs.run_folder import NEEDS, finished, held
from recsys_lt.runs.stored import Names, Stored, deciding, store
from recsys_lt.runs.trust import trusting_as, write_out_references
from recsys_lt.system.atomic import locked, temporary_beside
from recsys_lt.training.build import Parts, build
from recsys_lt.training.run import run, say
from recsys_lt.training.trained import load_need, place_of

#: The configuration of these choices.
Compose = Callable[[list[str]], DictConfig]


def run_stages(
    this: Stored,
    parts: Parts,
    folder: Path,
    resumed: bool,
    compose: Compose,
    outer: "_Maker | None" = None,
    brief: bool = False,
) -> dict[str, Any]:
    """Make what a run needs, and do the run, as ``run`` does; ``config.yaml`` is in the folder.

    ``compose`` makes the configuration of a run that this one needs, and ``outer`` is what makes this run, where
    another run needs it; such a run is ``brief``. UserError also for what cannot be made, and for a need that needs
    itself.
    """
    with kept(folder):
        parts.strategy.check(parts.trainer.devices, parts.trainer.clip)
        parts.logger.check()
        data = parts.data(say)
        for name, need in parts.needs.items():
            given = need.folder if isinstance(need, TrainedRun) else None
            if given is not None and Path(given).resolve() == folder.resolve():
                what, remedy = "it is the run itself", "Name another, finished run"
                raise UserError(what, where=f"{name}={folder}", remedy=remedy)
        absent = {name: need for name, need in parts.needs.items() if not _is_made(need, place_of(need, name, folder))}
        if absent:
            # Cells of a sweep share what they need.
            beside = folder if this.group is None else folder.parent
            inside, chain = (beside / f".{NEEDS}", ()) if outer is None else (outer.folder, outer.chain)
            maker = _Maker(parts, data, this.names.dataset, inside, compose, chain)
            maker.check()
            for name, need in absent.items():
                _link(folder / NEEDS / name, maker.make(need))
        return run(this, parts, data, folder, resumed, brief=brief or outer is not None)


def _is_made(need: Need, folder: Path) -> bool:
    return need.folder is not None or finished(folder) if isinstance(need, TrainedRun) else folder.is_dir()


@dataclass(frozen=True)
class _Maker:
    """Maker of a run's needs, each in a subfolder that is named by what decides its content.

    ``dataset`` is the name of the run's choice, ``chain`` the needs that the run itself is made for, outermost first.
    """

    parts: Parts
    data: Sequences
    dataset: str
    folder: Path
    compose: Compose
    chain: tuple[Need, ...]
    _runs: dict[Need, tuple[Stored, Parts]] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what is plain before hours are spent: needs that need themselves, a model that cannot be made."""
        for need in self.parts.needs.values():
            self._key(need)
        self._outline(self.parts)

    def make(self, need: Need) -> Path:
        """Make what is needed, unless it is there; its folder."""
        if isinstance(need, TrainedRun) and need.folder is not None:
            return Path(need.folder)
        label = f"{need.model}_{need.loss}" if isinstance(need, TrainedRun) else type(need).__name__
        folder = self.folder / f"{label}_{self._key(need)}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock"), lambda: say(f"waiting for {folder}")):
            if not _is_made(need, folder):
                say(f"{label} is made first, in {folder}")
                if isinstance(need, TrainedRun):
                    self._train(need, folder)
                else:
                    self._write(need, folder)
        return folder

    def _train(self, need: TrainedRun, folder: Path) -> None:
        this, parts = self._run_of(need)
        folder.mkdir(exist_ok=True)
        with held(folder) as mine:
            if not mine:
                raise UserError("another process works on this run", where=folder, remedy="Wait until it has ended")
            begun = (folder / "config.yaml").is_file()
            if not begun:
                store(folder, this)
            run_stages(this, parts, folder, begun, self.compose, self._inside(need))

    def _write(self, need: Artifact, folder: Path) -> None:
        needs = self._needs_of(need)
        with trusting_as(self.parts.config):
            made = {
                name: load_need(one, self.data, self._inside(need).make(one), self.data.fingerprint, name)
                for name, one in needs.items()
            }
        for left in folder.parent.glob(f".{folder.name}.*"):  # by a maker that was killed
            shutil.rmtree(left)
        unfinished = temporary_beside(folder)
        unfinished.mkdir()
        pl.seed_everything(self.parts.seed, verbose=False)
        need.make(self.data, made, unfinished)
        unfinished.rename(folder)

    def _inside(self, need: Need) -> "_Maker":
        """The maker of what a need needs itself."""
        if need in self.chain:
            raise UserError(
                f"{' needs '.join(map(_said, [*self.chain[self.chain.index(need) :], need]))}",
                where="needs",
                remedy="Let one of them need another thing",
            )
        return replace(self, chain=(*self.chain, need))

    def _needs_of(self, need: Need) -> Mapping[str, Need]:
        if isinstance(need, Artifact):
            return need.needs()
        return {} if need.folder is not None else self._run_of(need)[1].needs

    def _key(self, need: Need) -> str:
        """Hash of what decides the content."""
        inside = self._inside(need)
        settings: Mapping[str, Any] = asdict(need)  # type: ignore[arg-type]  # every need is a dataclass
        if isinstance(need, TrainedRun) and need.folder is None:
            settings = deciding(self._run_of(need)[0].config) | {"dataset": None}
        content = {
            "class": f"{type(need).__module__}.{type(need).__qualname__}",
            "settings": settings,
            "needs": {name: inside._key(one) for name, one in self._needs_of(need).items()},
            "events": self.data.fingerprint,
            "seed": self.parts.seed,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def _run_of(self, need: TrainedRun) -> tuple[Stored, Parts]:
        """The run that is trained for a need: its choices, on the same data with the same seed."""
        if need not in self._runs:
            choices = {"dataset": self.dataset, "model": need.model, "loss": need.loss}
            # A small model takes one device, whatever the run itself is spread over.
            on_cpu = self.parts.config.strategy.get("accelerator") == "cpu"
            others = ("logger=none", "strategy=cpu" if on_cpu else "strategy=auto")
            config = self.compose([*(f"{group}={name}" for group, name in choices.items()), *others])
            for key in ("dataset", "seed", "metrics"):
                OmegaConf.update(config, key, self.parts.config[key], merge=False, force_add=True)
            parts = build(config)
            write_out_references(config)
            self._runs[need] = Stored(config, Names(**choices, optimizer="adam"), None), parts
        return self._runs[need]

    def _outline(self, parts: Parts) -> Any:
        """The model of a run on models that are not trained, without weights from elsewhere; None on an artifact."""
        needs = {}
        for name, need in parts.needs.items():
            if not isinstance(need, TrainedRun):
                return None
            if need.folder is not None:
                with trusting_as(parts.config):
                    needs[name] = load_need(need, self.data, Path(need.folder), self.data.fingerprint, name)
            else:
                needs[name] = self._outline(self._run_of(need)[1])
        if None in needs.values():
            return None
        return parts.recommender(self.data, needs, outline=True).model


def _said(need: Need) -> str:
    return f"model={need.model} loss={need.loss}" if isinstance(need, TrainedRun) else type(need).__name__


def _link(link: Path, folder: Path) -> None:
    link.parent.mkdir(exist_ok=True)
    if link.is_symlink():
        link.unlink()
    try:
        link.symlink_to(os.path.relpath(folder, link.parent))
    except OSError:  # no links on this file system
        shutil.copytree(folder, link, dirs_exist_ok=True)
