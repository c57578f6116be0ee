"""The items' titles, as tokens."""

from collections.abc import Sequence

from recsys_lt.backbones.backbone import DataFacts
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.recommenders.answering_model import check_titles


def titles_of(facts: DataFacts, noun: str) -> list[str]:
    """A text for each item: its title, or ``untitled <noun>`` for the odd one that has none.

    Raises
    ------
    UserError
        If the dataset has no titles at all.
    """
    check_titles(facts.titles, facts.name)
    texts = [" ".join(str(title).split()) for title in facts.titles]
    return [text or f"untitled {noun}" for text in texts]


def tokens_of_titles(language: LanguageModel, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Each title's tokens as they stand after a space, the first ``longest`` of them; read once, here."""
    return [ids[:longest] for ids in language.ids([f" {text}" for text in texts])]
