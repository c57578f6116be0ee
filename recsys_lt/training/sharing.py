"""Runs in a form for others: safetensors weights, configuration, items, metrics and a card, and back to run folders."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from recsys_lt.data.needs import TrainedRun
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.runs.catalogue import ITEMS, read_catalogue, write_catalogue
from recsys_lt.runs.checkpoints import OURS, Notes, check_finite, load, save
from recsys_lt.runs.metrics_file import read_metrics
from recsys_lt.runs.run_folder import BEST, NEEDS
from recsys_lt.runs.stored import Names, Stored, store, stored, trained_as
from recsys_lt.system.atomic import temporary_beside, write_text
from recsys_lt.system.machine import refusals
from recsys_lt.system.package import __version__
from recsys_lt.training.build import PLACES
from recsys_lt.training.trained import Run, place_of

WEIGHTS, _CONFIG, _METRICS, _CARD = "model.safetensors", "config.yaml", "metrics.json", "README.md"
#: Formats of other files that were made for a run: none of them holds code.
_PLAIN = (".safetensors", ".npy", ".parquet", ".json")
#: What is fetched from a repository.
PATTERNS = ("*.safetensors", "*.npy", "*.parquet", "*.json", "*.yaml", "*.md")
_DEEPEST = 4  # runs that need runs
_CACHE = '${oc.env:RECSYS_LT_CACHE,"~/.cache/recsys_lt"}'
_CARD_METRICS = ("ndcg@10", "hr@10", "mrr@10")

_CARD_TEXT = """\
---
{front}---

# {model} on {dataset}

A sequential recommender, trained with recsys_lt {version}: model {model}, loss \
{loss}, optimizer {optimizer}. It reads the item ids of a user's events, oldest first, and ranks {items:,} items.

## Use

```
recsys_lt pull <where this is> outputs/{model}
recsys_lt recommend outputs/{model} --history ITEM,ITEM,...
```

The weights are safetensors, the items are in `items.parquet`, the configuration is `config.yaml`. Nothing in the \
folder is unpickled or run.

## Test results

| metric | overall | head | mid | tail |
| --- | --- | --- | --- | --- |
{rows}

One run with one seed: a difference from another model needs a test over users and over seeds. Compare only numbers \
with the same protocol.

## Protocol

{protocol}
"""


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes ``path``, which must not exist or be empty, when the block ends well."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError("it exists already", where=path, remedy="Name another folder, or remove it")
    temporary = temporary_beside(path)
    with refusals(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                path.rmdir()
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def pack(folder: Path, into: Path) -> Run:
    """Write the run in a folder into another, empty one, in the form for others; the run.

    Paths of this machine are left out of the configuration. Runs that the model needs go with it, in ``needs``. Raises
    UserError if the run is not finished, or something it needs cannot go with it.
    """
    from safetensors.torch import save_file

    run = Run(folder)
    metrics, data = run.metrics, run.catalogue
    groups = run.catalogue_groups
    checkpoint = load(folder / BEST, items=data.item_fingerprint)
    check_finite(folder / BEST, checkpoint)
    weights = {name: each.contiguous().clone() for name, each in checkpoint["state_dict"].items()}
    notes = {key: checkpoint[OURS][key] for key in ("items", "events")}
    save_file(weights, into / WEIGHTS, metadata={"format": "pt", OURS: json.dumps(notes)})
    write_catalogue(into / ITEMS, data, groups)
    store(into, Stored(_for_others(run), run.stored.names, None))
    shutil.copyfile(folder / _METRICS, into / _METRICS)
    write_text(into / _CARD, _card(run.stored.names, metrics, data.n_items))
    for name, need in run.parts.needs.items():
        source, target = place_of(need, name, folder), into / NEEDS / name
        target.mkdir(parents=True)
        if isinstance(need, TrainedRun):
            pack(source, target)
        else:
            _copy_plain(source, target)
    return run


def _for_others(run: Run) -> DictConfig:
    """The configuration without places of this machine."""
    config = deepcopy(run.config)
    gone = [key for key, named in PLACES.items() if not named]
    for name, need in run.parts.needs.items():
        folder = need.folder if isinstance(need, TrainedRun) else None
        if name.startswith("loss.") or (folder is not None and folder == run.parts.start_from):
            what = f"{name} is made of another run, without which its configuration does not hold"
            raise UserError(what, where=run.folder, remedy="Share a run without it")
        if folder is not None and OmegaConf.select(config, name) is None:
            what = f"{name} is one of several runs that its configuration names by their places on this machine"
            raise UserError(what, where=run.folder, remedy="Share the runs it is made of")
        if folder is not None:
            gone.append(name)
    for key in gone:
        if OmegaConf.select(config, key) is not None:
            OmegaConf.update(config, key, None)
    OmegaConf.update(config, "dataset.cache_dir", _CACHE)
    for key in PLACES:
        place = OmegaConf.select(config, key)
        names = [Path(each).name if Path(each).is_absolute() else each for each in _list(place)]
        if names:
            OmegaConf.update(config, key, names if isinstance(place, ListConfig) else names[0])
    return config


def _list(place: Any) -> list[str]:
    return [each for each in (place if isinstance(place, ListConfig) else [place]) if isinstance(each, str)]


def unpack(folder: Path, into: Path, depth: int = 0) -> None:
    """Make a run folder of what ``pack`` wrote, which may come from anybody, in an empty folder.

    Files of other names are left. Nothing of it is unpickled, imported or made: the configuration may name classes of
    this program, and of modules that the user trusts. Raises UserError for a file that is absent, broken, or not of the
    others.
    """
    from safetensors import SafetensorError, safe_open

    if depth == _DEEPEST:
        raise UserError("its runs need runs too deeply", where=folder, remedy="Fetch another")
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"it holds no shared run (no {WEIGHTS})", where=folder, remedy="Name what recsys_lt push wrote")
    config, names, _ = stored(folder)
    read_metrics(folder / _METRICS)
    written: Any = OmegaConf.to_container(config)
    if (cache := written["dataset"].get("cache_dir")) != _CACHE:  # the prepared data are written there
        what = f"its dataset.cache_dir is {cache!r}, a place of another machine"
        raise UserError(what, where=folder / _CONFIG, remedy="Name what recsys_lt push wrote")
    data = read_catalogue(folder / ITEMS, names.dataset).data
    path = folder / WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {}).get(OURS, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        what = f"it cannot be read as safetensors ({str(error).splitlines()[0]})"
        raise UserError(what, where=path, remedy="Fetch it again") from error
    if not isinstance(notes, dict) or not all(isinstance(notes.get(key), str) for key in ("items", "events")):
        raise UserError("its notes are not those of recsys_lt", where=path, remedy="Name what recsys_lt push wrote")
    if notes["items"] != data.item_fingerprint:
        what = f"its items are not those of {WEIGHTS}"
        raise UserError(what, where=folder / ITEMS, remedy="Fetch both from one version")
    for name in (_CONFIG, _METRICS, ITEMS, _CARD):
        if (folder / name).is_symlink():
            raise UserError("it is a link", where=folder / name, remedy="Name what recsys_lt push wrote")
        if (folder / name).is_file():
            shutil.copyfile(folder / name, into / name)
    checkpoint = {"state_dict": weights, "notes": {}}
    check_finite(path, checkpoint)
    save(into / BEST, checkpoint, Notes(notes["items"], notes["events"], trained_as(config)))
    needs = sorted((folder / NEEDS).iterdir()) if (folder / NEEDS).is_dir() else []
    for need in needs:
        if not re.fullmatch(r"\w+(\.\w+)+", need.name) or not need.is_dir():
            continue
        target = into / NEEDS / need.name
        target.mkdir(parents=True)
        if (need / _CONFIG).is_file():
            unpack(need, target, depth + 1)
        else:
            _copy_plain(need, target)


def _copy_plain(folder: Path, into: Path) -> None:
    """Copy the files of an artifact; UserError for one whose format may hold code."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in _PLAIN or not path.is_file() or path.is_symlink():
            remedy = f"Only files that end in {', '.join(_PLAIN)} are shared"
            raise UserError("it is of no plain format", where=path, remedy=remedy)
        shutil.copyfile(path, into / path.name)


def first_items(run: Run, n: int = 3) -> list[str]:
    """Ids of the most popular items, for an example."""
    order = np.argsort(-run.catalogue.popularity, kind="stable")[:n]
    return [str(run.catalogue.item_ids[item]) for item in order]


def _card(names: Names, metrics: Mapping[str, Any], n_items: int) -> str:
    """The text of the README.md that goes with a run; ``metrics`` is the content of its metrics.json."""
    test = metrics.get("test") or {}
    rows = []
    for metric in _CARD_METRICS:
        cells = [test.get(key) for key in (metric, *(f"{group}/{metric}" for group in GROUPS))]
        rows.append(f"| {metric} | {' | '.join('' if cell is None else f'{cell:.4f}' for cell in cells)} |")
    protocol = {"seed": metrics.get("seed"), **(metrics.get("protocol") or {})}
    front = {
        "library_name": "recsys_lt",
        "tags": ["recommendation", "sequential-recommendation", names.model],
        "metrics": list(_CARD_METRICS),
    }
    return _CARD_TEXT.format(
        **names._asdict(),
        front=yaml.safe_dump(front, sort_keys=False),
        version=__version__,
        items=n_items,
        rows="\n".join(rows),
        protocol="\n".join(f"- {key}: {_said(value)}" for key, value in protocol.items() if value is not None),
    )


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
