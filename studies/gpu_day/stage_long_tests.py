"""Those of tests/gpu that make runs, stop them and go on with them."""

import sys

from studies.gpu_day.stage import stage
from studies.gpu_day.stage_tests import LONG, run_tests


def main() -> int:
    """Run them; pytest's code. On a processor all would be skipped."""
    this = stage()
    if this.device == "cpu":
        this.save("all", {"reason": "a processor only rehearses"})
        return 0
    return run_tests(this, LONG)


if __name__ == "__main__":
    sys.exit(main())
