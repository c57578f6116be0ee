"""Templates of rows: their words, slots and whole words, and what is refused of them."""

import pytest

from recsys_lt.errors import UserError
from recsys_lt.generative.templates import WHOLE_WORDS, Templates

ITEMS = [[0, 1], [2, 3]]


def filled(templates: Templates, text: list, user: int = 12, items: list[list[int]] = ITEMS):
    words = templates.words("my data")
    vocabulary = {word: 100 + number for number, word in enumerate(words)}
    found = templates.filled(text, user, items, vocabulary, "my data")
    named = {number: word for word, number in vocabulary.items()}
    return [named.get(token, token) for token in found.tokens], found.whole_words


def test_words_marks_and_digits_are_tokens() -> None:
    templates = Templates(["In {dataset}, user {user} chose {items}."], "{items}", before_item="item")
    tokens, whole = filled(templates, templates.sequential[0])
    assert tokens == [
        "In", "my", "data", ",", "user", "1", "2", "chose", "item", 0, 1, "item", 2, 3, ".",
    ]  # fmt: skip
    assert set(whole) == {0}
    assert filled(templates, templates.ranking)[0] == ["item", 0, 1, "item", 2, 3]


def test_whole_words_count_words_and_items_in_p5_and_spans_alone_in_pod() -> None:
    text = "user {user} chose {items} ."
    p5 = Templates([text], "{items}", whole_words="words", before_item="item")
    assert filled(p5, p5.sequential[0])[1] == [1, 2, 2, 3, 4, 5, 5, 6, 7, 7, 8]
    pod = Templates([text], "{items}", whole_words="spans", before_item="item")
    assert filled(pod, pod.sequential[0])[1] == [0, 1, 1, 0, 0, 2, 2, 0, 3, 3, 0]
    long = filled(pod, pod.ranking, items=[[1]] * (WHOLE_WORDS + 5))[1]
    assert max(long) == WHOLE_WORDS


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("sequential", "what comes next", "0 slots {items}"),
        ("sequential", "{items} then {items}", "2 slots {items}"),
        ("sequential", "{items} of {usr}", "{usr} in"),
        ("sequential", "{items!r}", "is not a slot"),
        ("sequential", "{items", "cannot be read"),
        ("ranking", "user {user}", "0 slots {items}"),
        ("top_n", "{items}", "{items} in '{items}' is not a slot"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(key: str, text: str, said: str) -> None:
    given: dict = {"sequential": ["{items}"], "ranking": "{items}"}
    with pytest.raises(UserError) as refusal:
        Templates(**given | {key: text if key == "ranking" else [text]})
    assert said in str(refusal.value)
    assert f"model.templates.{key}" in str(refusal.value)
