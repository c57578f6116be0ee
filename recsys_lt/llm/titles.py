"""The items' titles, as tokens."""

from collections.abc import Iterable, Sequence

from recsys_lt.backbones.backbone import DataFacts
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.recommenders.answering_model import check_titles


def titles_of(facts: DataFacts, untitled: str) -> list[str]:
    """A text for each item: its title, or ``untitled`` for the odd one that has none.

    Raises
    ------
    UserError
        If the dataset has no titles at all.
    """
    check_titles(facts.titles, facts.name)
    texts = [" ".join(str(title).split()) for title in facts.titles]
    return [text or untitled for text in texts]


def with_attributes(texts: Iterable[str], attributes: Iterable[str]) -> list[str]:
    """Titles as they are told with what else is known of the items: ``Toy Story (Animation, Comedy)``."""
    return [f"{text} ({known})" if known else text for text, known in zip(texts, attributes, strict=True)]


def tokens_of_titles(language: LanguageModel, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Each title's tokens as they stand after a space, the first ``longest`` of them; read once, here."""
    return [ids[:longest] for ids in language.ids([f" {text}" for text in texts])]
