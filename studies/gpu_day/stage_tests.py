"""What the GPU computes against what the processor does: tests/gpu, each outcome written down as it is known.

Those that make runs, stop them and go on with them are the stage ``long_tests``, all others the stage ``tests``.
"""

import os
import signal
import sys
import time
from typing import Any

from studies.gpu_day.stage import ROOT, Stage, stage

os.environ["RECSYS_LT_TEST_GPU"] = "1"
#: Most of the time goes to these, each of which makes three runs: they have a stage of their own, the last.
LONG = "test_a_rule_goes_on_where_it_was"


class Outcomes:
    """A plugin of pytest that writes down outcomes, at most once a second, and leaves out tests that are known."""

    def __init__(self, this: Stage) -> None:
        self._this = this
        self.known = this.parts
        self._written = time.monotonic()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if self._this.may_begin(self.known.get(_name(item.nodeid)))]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        # A test that never ends is set aside when it has been cut short twice.
        self.known[_name(nodeid)] = {"tries": self.known.get(_name(nodeid), {}).get("tries", 0) + 1}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            said = "" if report.outcome == "passed" else str(report.longrepr)[-1500:]
            self.known[_name(report.nodeid)] = {"outcome": report.outcome, "said": said}
        if time.monotonic() - self._written > 1:
            self.pytest_sessionfinish()

    def pytest_sessionfinish(self) -> None:
        self._this.save_all(self.known)
        self._written = time.monotonic()


def _name(nodeid: str) -> str:
    return nodeid.rpartition("/")[2]


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt  # pytest ends in order


def run_tests(this: Stage, chosen: str) -> int:
    """Run the tests that an expression of pytest's chooses; pytest's code."""
    import pytest

    signal.signal(signal.SIGTERM, _interrupt)
    outcomes = Outcomes(this)
    root = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    options = ["-rs", "-p", "no:cacheprovider", "-k", chosen, *root]
    code = int(pytest.main([*options, str(ROOT / "tests" / "gpu")], [outcomes]))
    counts: dict[str, int] = {}
    for part in outcomes.known.values():
        outcome = part.get("outcome", "not ended")
        counts[outcome] = counts.get(outcome, 0) + 1
    print(counts)
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code


def main() -> int:
    """Run the tests of this stage; pytest's code. On a processor the long ones would all be skipped."""
    this = stage()
    if this.result.stem != "long_tests":
        return run_tests(this, f"not {LONG}")
    if this.device == "cpu":
        this.save("all", {"reason": "a processor only rehearses"})
        return 0
    return run_tests(this, LONG)


if __name__ == "__main__":
    sys.exit(main())
