"""The one exception class for what a user can mend."""


def one_line(text: str) -> str:
    """A text, perhaps of a stranger's file, as one line that a terminal shows and does not obey."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class UserError(Exception):
    """Something the user asked for that cannot be done as asked.

    The command line turns it into one line and exit code 2; nothing is lost.

    Parameters
    ----------
    what
        What is wrong, in one sentence without a final full stop.
    where
        The file, line, key or run folder it concerns.
    remedy
        What the user can do about it, in one sentence without a final full stop.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # An exception with keyword arguments has to say how it travels from one process to another.
        return _again, (type(self), self.what, None if self.where is None else str(self.where), self.remedy)

    def __str__(self) -> str:
        line = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.remedy is not None:
            line = f"{line}. {self.remedy}."
        return one_line(line)


def _again(kind: type[UserError], what: str, where: str | None, remedy: str | None) -> UserError:
    return kind(what, where=where, remedy=remedy)
