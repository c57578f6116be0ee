"""A tab-separated table of items with a header, read as texts; nothing in it is quoted."""

from pathlib import Path

from recsys_lt.errors import UserError


def read_tab_table(path: Path) -> list[dict[str, str]]:
    """One dictionary a line, by the header's names without RecBole's ``:type``.

    Raises
    ------
    UserError
        A line has another number of columns than the header, or the file is empty or not UTF-8.
    """
    try:
        # Not splitlines: a title may hold a character that Unicode calls a line end.
        lines = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError("it is not UTF-8 text", where=path, remedy="Save it as UTF-8") from error
    if not lines[0]:
        raise UserError("the file is empty", where=path, remedy="Give a header and one line an item")
    header = [name.partition(":")[0] for name in lines[0].rstrip("\r").split("\t")]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two columns are named {twice!r}", where=path, remedy="Rename one of them")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        values = line.rstrip("\r").split("\t")
        if len(values) != len(header):
            raise UserError(
                f"{len(values)} columns where the header has {len(header)}",
                where=f"{path}, line {number}",
                remedy="Give every line as many columns as the header",
            )
        rows.append(dict(zip(header, values, strict=True)))
    return rows
