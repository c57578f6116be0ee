"""Names that become part of a path."""

from recsys_lt.errors import UserError

_LONGEST = 150  # bytes: a file system takes 255, and endings and numbers are added


def check_name(name: object, where: str) -> None:
    """Raise UserError for a name that would lead out of the folder it is to lie in, or that no file can have."""
    plain = isinstance(name, str) and name.isprintable() and not set(name) & set("/\\") and name not in ("", ".", "..")
    if not plain or len(str(name).encode(errors="replace")) > _LONGEST:
        raise UserError(
            f"{str(name)[:80]!r} is no plain name",
            where=where,
            remedy=f"Use printable characters but / and \\, at most {_LONGEST} bytes, and not .. alone",
        )
