"""Words around the items of a row: templates, their word-level vocabulary, and the numbers of whole words."""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from recsys_lt.errors import UserError

#: What may stand in braces: the dataset's name, the user's number, the history, the items to choose from.
_DATASET, _USER, _ITEMS, _CANDIDATES = "dataset", "user", "items", "candidates"
_WORD = re.compile(r"\w+|[^\w\s]")
_DIGITS = "0123456789"
WHOLE_WORDS = 511  # whole words are counted up to this one

Text = Annotated[str, Field(min_length=1)]


class Read(NamedTuple):
    """Tokens of a row, and the number of the whole word that each is of; 0 for none."""

    tokens: list[int]
    whole_words: list[int]


class Templates:
    """Texts of the rows that an encoder reads.

    In braces stand ``{items}``, the history, and where wanted ``{user}`` and ``{dataset}``; in those of ``top_n``
    ``{candidates}`` stands in the place of the history. Words, marks and digits of the user's number are tokens. Raises
    UserError for a template without its slot, or with a word in braces that is no slot.

    Parameters
    ----------
    sequential
        One of them, drawn anew for each row and epoch, is read in training; the next item is the answer.
    ranking
        What is read when ranking.
    top_n
        Texts of the second task of POD, in which the answer is among the candidates; none: there is no such task.
    before_item
        Words before each item.
    whole_words
        ``none``; ``words``: every word and every item counts on (P5); ``spans``: the user and the items alone do, and
        other words have number 0 (POD).
    """

    def __init__(
        self,
        sequential: Annotated[Sequence[Text], Field(min_length=1)],
        ranking: Text,
        top_n: Sequence[Text] = (),
        before_item: str = "",
        whole_words: Literal["none", "words", "spans"] = "none",
    ) -> None:
        self.counted, self._before = whole_words, _WORD.findall(before_item)
        self.sequential = [_parts("sequential", text, _ITEMS) for text in sequential]
        self.ranking = _parts("ranking", ranking, _ITEMS)
        self.top_n = [_parts("top_n", text, _CANDIDATES) for text in top_n]

    def words(self, dataset: str) -> list[str]:
        """Every word that a row may hold, each once, for a dataset of this name."""
        parts = [part for text in (*self.sequential, self.ranking, *self.top_n) for part in text]
        found = [word for part in parts for word in _words(part, dataset)]
        digits = _DIGITS if (_USER,) in parts else ""
        return list(dict.fromkeys([*found, *self._before, *digits]))

    def filled(
        self, parts: "Parts", user: int, items: Sequence[Sequence[int]], vocabulary: Mapping[str, int], dataset: str
    ) -> Read:
        """A template's tokens, for a user's number and the tokens of each item of the history or of the candidates."""
        before = [([vocabulary[word]], False) for word in self._before]
        wholes: list[tuple[Sequence[int], bool]] = []  # tokens of a whole word, and whether it is the user or an item
        for part in parts:
            if part == (_USER,):
                wholes.append(([vocabulary[digit] for digit in str(user)], True))
            elif part in ((_ITEMS,), (_CANDIDATES,)):
                for item in items:
                    wholes += (*before, (item, True))
            else:
                wholes += (([vocabulary[word]], False) for word in _words(part, dataset))
        tokens: list[int] = []
        numbers: list[int] = []
        count = 0
        for whole, is_span in wholes:
            counts = self.counted == "words" or (is_span and self.counted == "spans")
            count = min(count + counts, WHOLE_WORDS)
            tokens += whole
            numbers += [count if counts else 0] * len(whole)
        return Read(tokens, numbers)


#: A slot, (name,), or the words of a text.
Part = tuple[str] | list[str]
Parts = list[Part]


def _words(part: Part, dataset: str) -> list[str]:
    """The words of a text, or of the dataset's name; none of another slot."""
    if part == (_DATASET,):
        return _WORD.findall(dataset)
    return part if isinstance(part, list) else []


def _parts(key: str, text: str, slot: str) -> Parts:
    where = f"model.templates.{key}"
    try:
        found = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UserError(f"{text!r} cannot be read ({error})", where=where, remedy="Double literal braces") from error
    allowed = (slot, _DATASET, _USER)
    parts: Parts = []
    for words, name, layout, conversion in found:
        if words.strip():
            parts.append(_WORD.findall(words))
        if name is not None and (name not in allowed or layout or conversion):
            may = ", ".join(f"{{{one}}}" for one in allowed)
            raise UserError(f"{{{name}}} in {text!r} is not a slot", where=where, remedy=f"The slots are {may}")
        if name is not None:
            parts.append((name,))
    if parts.count((slot,)) != 1:
        remedy = f"Write {{{slot}}} exactly once, where the items go"
        raise UserError(f"{text!r} has {parts.count((slot,))} slots {{{slot}}}", where=where, remedy=remedy)
    return parts
