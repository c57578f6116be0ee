"""Fixed texts of prompts, with the dataset's word for an item."""

from collections.abc import Sequence

from recsys_lt.errors import UserError


class Prompt:
    """Texts before, between and after the items of a prompt.

    In every text ``{noun}`` is what the dataset's items are. An item follows after a space.

    Parameters
    ----------
    opening, closing
        Before everything, the same for every row, and after it; the answer follows.
    noun
        movie, product, place, ....
    event, untitled
        Before each item of the history (``{number}`` counts them from 1), and in the place of a missing title.
    pool, candidate
        Before the candidates, where there are any, and before each of them; ``{letter}`` is the one to answer with.
    """

    def __init__(
        self,
        opening: str,
        closing: str,
        noun: str,
        event: str = "",
        pool: str = "",
        candidate: str = "",
        untitled: str = "untitled {noun}",
    ) -> None:
        self.noun, self._event, self._candidate = noun, event, candidate
        self.opening, self.closing = self._filled("opening", opening), self._filled("closing", closing)
        self.pool, self.untitled = self._filled("pool", pool), self._filled("untitled", untitled)
        self.events(1)  # a template that cannot be filled is refused here
        self.candidates("A")

    def events(self, n: int) -> list[str]:
        """Texts before each of the n items of a history."""
        return [self._filled("event", self._event, number=number) for number in range(1, n + 1)]

    def candidates(self, letters: Sequence[str]) -> list[str]:
        """Texts before each candidate."""
        return [self._filled("candidate", self._candidate, letter=letter) for letter in letters]

    def _filled(self, key: str, text: str, **names: object) -> str:
        try:
            return text.format(noun=self.noun, **names)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            may = " and ".join(f"{{{name}}}" for name in ("noun", *names))
            what, remedy = f"the template cannot be filled ({error})", f"Only {may} may stand in braces"
            raise UserError(what, where=f"model.prompt.{key}", remedy=f"{remedy}; write other braces twice") from error
