"""What the scripts of the stages share: their command line, and a result file that is written part by part."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # nothing is installed there

from recsys_lt.errors import one_line
from recsys_lt.system.atomic import write_json
from studies.gpu_day.work import read_json

_TRIES = 2


@dataclass(frozen=True)
class Stage:
    """A stage as its script sees it.

    Parameters
    ----------
    device
        cuda, or cpu: a rehearsal, for which small sizes do.
    parcel
        The parcel.
    result
        The result file. Its ``parts`` have a name each; what an earlier command found stays.
    """

    device: str
    parcel: Path
    result: Path

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """What has been found."""
        found = read_json(self.result).get("parts", {})
        assert isinstance(found, dict)
        return found

    def save(self, name: str, value: dict[str, Any]) -> None:
        """Write down a part."""
        self.save_all(self.parts | {name: value})

    def save_all(self, parts: dict[str, dict[str, Any]]) -> None:
        """Write down all parts."""
        write_json(self.result, read_json(self.result) | {"parts": parts})

    @staticmethod
    def may_begin(known: dict[str, Any] | None) -> bool:
        """Whether a part is neither known nor was cut short twice."""
        return known is None or known.get("tries", _TRIES) < _TRIES

    def begin(self, name: str) -> bool:
        """Note that a part begins; False if it may not."""
        known = self.parts.get(name)
        if not self.may_begin(known):
            return False
        self.save(name, {"tries": (known or {"tries": 0})["tries"] + 1})
        return True

    def each(self, names: Iterable[str], measure: Callable[[str], dict[str, Any]]) -> None:
        """Measure part after part and print a line for each; a part that fails leaves its reason."""
        for name in names:
            if not self.begin(name):
                continue
            start = time.monotonic()
            try:
                found = measure(name)
            except Exception as error:  # compilers, drivers and libraries raise dozens of kinds; other parts go on
                found = {"reason": one_line(f"{type(error).__name__}: {error}")[:500]}
            self.save(name, found | {"took": round(time.monotonic() - start, 3)})
            print(f"{name}: {found}", flush=True)


def stage() -> Stage:
    """The stage that the command line names; a SIGTERM ends it with the processes that it has started."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", required=True)
    parser.add_argument("--parcel", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    given = parser.parse_args()
    return Stage(given.device, given.parcel, given.result)
