"""A prompt's fixed texts, in words of the dataset."""

from recsys_lt.errors import UserError


class Prompt:
    """What stands before and after a row's own part.

    Parameters
    ----------
    opening
        Before it, the same for every row; ``{noun}`` is what the dataset's items are.
    closing
        After it; the answer follows.
    noun
        movie, product, place, ....

    Raises
    ------
    UserError
        For another name in braces.
    """

    def __init__(self, opening: str, closing: str, noun: str) -> None:
        try:
            self.opening, self.closing = opening.format(noun=noun), closing.format(noun=noun)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"a template cannot be filled ({error})",
                where="model.prompt",
                remedy="Only {noun} may stand in braces; write other braces twice",
            ) from error
        self.noun = noun
