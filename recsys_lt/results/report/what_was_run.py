"""Protocol, configurations, versions and failures of a dataset's runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.results.cell_styles import StyledCell, numbers
from recsys_lt.results.cells import compared
from recsys_lt.results.written_tables import MISSING, Content, Entry, in_protocol
from recsys_lt.runs.listing import IDENTITY, ListedRun
from recsys_lt.runs.reading import read_json

#: Longer values, such as prompts, are cut here.
_LONGEST = 160
#: With more keys than this, and than cells, a column is a cell and no more a key: the table is as wide as a page.
_MOST_KEYS_ACROSS = 8


@dataclass(frozen=True)
class Facts:
    """What was run on one dataset.

    ``protocol`` and ``versions`` are names and values; if runs differ, each value with its cells. ``differing`` are the
    keys of the configuration that differ between cells, as one row for each cell, or for each key if there are many.
    ``shared`` are the other keys. ``failed`` has folder, seed and reason of each run that failed or has not finished.
    ``lacking`` has a line for each thing that is not known, with the reason.
    """

    protocol: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    differing: Content | None
    shared: list[tuple[str, str]]
    failed: list[tuple[str, str, str]]
    lacking: tuple[str, ...]


def what_was_run(members: Sequence[StyledCell], root: Path) -> Facts:
    """Gather the facts of one dataset's cells from the files of their runs, which lie below a root."""
    bare = [run for member in members for run in (*member.cell.finished, *member.cell.failed) if not run.config]
    holders = "One run holds" if len(bare) == 1 else f"{len(bare)} runs hold"
    machine = ("device", "processes", "threads")
    return Facts(
        _values_of(members, lambda metrics: metrics.get("protocol", {})),
        _values_of(members, lambda metrics: metrics.get("versions", {}))
        + _values_of(members, lambda metrics: {key: metrics.get("train", {}).get(key) for key in machine}),
        *_configurations(members),
        [(_below(run.folder, root), str(run.seed), _reason(run)) for each in members for run in each.cell.failed],
        (f"{holders} no config.yaml: how they were configured is not known.",) if bare else (),
    )


def _below(folder: Path, root: Path) -> str:
    return folder.resolve().name if folder == root else str(folder.relative_to(root))


def _reason(run: ListedRun) -> str:
    if (run.folder / "metrics.json").is_file():
        return "interrupted: its metrics are of a shorter training"
    try:
        return str(read_json(run.folder / "failed.json")["error"])
    except (UserError, KeyError, TypeError):
        return "no metrics.json and no failed.json: still running, or killed"


def _values_of(
    members: Sequence[StyledCell], part: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[tuple[str, str]]:
    """Each key of a part of metrics.json with its value, or with its values and the cells that have them."""
    values: dict[str, dict[str, dict[StyledCell, None]]] = {}
    for member in members:
        for run in member.cell.finished:
            for key, value in part(run.metrics or {}).items():
                if value is not None:
                    values.setdefault(key, {}).setdefault(in_protocol(key, value, ", "), {})[member] = None
    said = {
        key: [text if len(found) == 1 else f"{text} ({numbers(list(cells))})" for text, cells in found.items()]
        for key, found in values.items()
    }
    return [(key.replace("_", " "), "; ".join(texts)) for key, texts in said.items()]


def _configurations(members: Sequence[StyledCell]) -> tuple[Content | None, list[tuple[str, str]]]:
    configured = []
    for member in members:
        run = next((run for run in (*member.cell.finished, *member.cell.failed) if run.config), None)
        if run is not None:
            configured.append((member, compared(run)))
    keys = list(dict.fromkeys(key for _, of_run in configured for key in of_run))
    values = {key: list(dict.fromkeys(of_run[key] for _, of_run in configured if key in of_run)) for key in keys}
    listed = [key for key in keys if any(_listed(key, value) for value in values[key])]
    shared = [(key, _cut(values[key][0]) + _whose(key, configured)) for key in listed if len(values[key]) == 1]
    differing = [key for key in listed if len(values[key]) > 1]
    if not differing:
        return None, shared
    cells = [Entry(str(member.number), value=member.number) for member, _ in configured]
    columns = {
        name: [Entry(member.cell.identity[place]) for member, _ in configured]
        for place, name in enumerate(IDENTITY)
        if place > 0
    }
    for key in differing:
        found = [of_run.get(key) for _, of_run in configured]
        columns[key] = [Entry(_cut(MISSING if value is None else value), value=_number(value)) for value in found]
    if len(differing) > max(_MOST_KEYS_ACROSS, len(cells)):
        turned = [[Entry(key), *entries] for key, entries in columns.items() if len(set(entries)) > 1]
        return Content(["cell"], [entry.text for entry in cells], [turned]), shared
    headings = [key.replace(".", ".\n", 1) for key in differing]
    rows = [list(row) for row in zip(cells, *columns.values(), strict=True)]
    return Content(["#", *IDENTITY[1:]], headings, [rows]), shared


def _whose(key: str, configured: Sequence[tuple[StyledCell, dict[str, str]]]) -> str:
    """The cells that a key of another class than the rest's is of; "" where all cells are of its class.

    What a cell of the same class does not say came with a later version of it, and is no difference.
    """
    of_class = f"{key.split('.')[0]}._target_"
    classes = {of_run.get(of_class) for _, of_run in configured if key in of_run}
    having = [member for member, of_run in configured if of_run.get(of_class) in classes]
    return "" if len(having) == len(configured) else f" ({numbers(having)})"


def _listed(key: str, value: str) -> bool:
    """Whether a key is shown: no class's name, and no reference to another key."""
    return not key.split(".")[-1].startswith("_") and not value.startswith("${") and key != "group"


def _cut(value: str) -> str:
    value = " ".join(value.split())
    if value.startswith(("/", "~")):
        return Path(value).name  # reports get passed around, and paths of the machine are private
    return value if len(value) <= _LONGEST else value[:_LONGEST].rstrip() + " …"


def _number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None
