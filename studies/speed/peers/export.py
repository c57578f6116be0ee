"""Write the data a benchmark measures as CSV for the peers: columns user, item, position, split.

``python studies/speed/peers/export.py out.csv``: Beauty where it is on this machine, else made up of its sizes, exactly
as ``bench.py`` takes it. Users and items are numbered from 0; ``position`` is the place in the user's history;
``split`` is train, valid or test.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.errors import UserError
from studies.shared.timed import Asked, loaded

if TYPE_CHECKING:
    from recsys_lt.data.sequences import Sequences


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file and print what the data are; 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--raw-dir")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(argv)
    try:
        _, data, note = loaded(("loss=ce",), Asked(1, None, given.raw_dir, tuple(given.set)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(given.out, data)
    print(note)
    return 0


def write(path: Path, data: "Sequences") -> None:
    """Write one row an event, users in order and each user's events in order; events of no split are left out."""
    with path.open("w", encoding="utf-8") as file:
        file.write("user,item,position,split\n")
        for user in range(data.n_users):
            first = int(data.offsets[user])
            splits = dict.fromkeys(range(int(data.train_end[user])), "train")
            for split, at in (("valid", data.valid_at), ("test", data.test_at)):
                if at[user] >= 0:
                    splits[int(at[user])] = split
            for position, split in sorted(splits.items()):
                file.write(f"{user},{data.items[first + position]},{position},{split}\n")


if __name__ == "__main__":
    sys.exit(main())
