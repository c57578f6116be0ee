"""Models that answer with a title: likelihoods, generation, grounding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_lt.errors import UserError
from recsys_lt.llm.likelihoods import _log_likelihoods
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.recommenders.full_ranking import Collector, ScoreMatrix, rank_by_scores
from recsys_lt.training.settings import MetricsSettings
from recsys_lt.training.write_results import measure, shared_titles
from tests.llm.conftest import N_ITEMS, parts_of, ranking_batch, training_batch

SMALL = ("model.max_length=3", "model.title_tokens=9")
BIGREC = ("model=bigrec", *SMALL, "model.beams=2")
LIKELIHOOD = ("model=title_likelihood", *SMALL)


@torch.no_grad()
def log_likelihood(language, prompt: list[int], title: list[int]) -> float:
    """Mean over the title's tokens, of one text read alone."""
    text = torch.tensor([[*prompt, *title]])
    logs = language._inner(input_ids=text).logits[0].log_softmax(1)
    places = range(len(prompt) - 1, len(prompt) + len(title) - 1)
    return float(torch.stack([logs[at, token] for at, token in zip(places, title, strict=True)]).mean())


@pytest.mark.parametrize("pack_tokens", [30, 1024])
def test_likelihoods_equal_those_of_texts_read_alone(made, data, pack_tokens) -> None:
    model = made(*LIKELIHOOD, f"llm.pack_tokens={pack_tokens}").eval()
    model.titles[5] = model.titles[5][:1]  # of one token: told by the prompt alone
    batch = ranking_batch(data, made(*LIKELIHOOD), rows=2)
    with torch.no_grad():
        model.begin_ranking()
        scores = model.scores(batch)
        prompts = model._prompts(batch)
        expected = [
            [log_likelihood(model.language, [*model.opening.tolist(), *prompt], title) for title in model.titles]
            for prompt in prompts
        ]
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_some_titles_have_the_likelihoods_of_the_whole_catalogue_and_cost_their_tokens(made, data) -> None:
    model = made(*LIKELIHOOD).eval()
    batch, items = ranking_batch(data, model, rows=2), torch.tensor([[7, 2, 30], [5, 39, 0]])
    with torch.no_grad():
        model.begin_ranking()
        expected = model.scores(batch).gather(1, items)
        model.language.tokens_read = 0
        torch.testing.assert_close(model.item_scores(batch, items), expected, rtol=1e-4, atol=1e-4)
    prompts = sum(map(len, model._prompts(batch)))
    assert model.language.tokens_read == prompts + sum(len(model.titles[item]) - 1 for item in items.flatten().tolist())


def test_the_opening_is_read_once_a_ranking_and_a_history_once_a_user(made, data) -> None:
    model = made(*LIKELIHOOD).eval()
    batch = ranking_batch(data, made(*LIKELIHOOD), rows=3)
    with torch.no_grad():
        model.begin_ranking()
        model.scores(batch)
    of_titles = sum(len(title) - 1 for title in model.titles)  # a title's last token is told, and never read
    of_users = sum(map(len, model._prompts(batch))) + 3 * of_titles
    assert model.language.tokens_read == len(model.opening) + of_users


def test_likelihoods_are_of_float32_logits_whatever_the_model_is_held_in() -> None:
    """In bfloat16 a logit has eight bits: titles would tie."""
    generator = torch.Generator().manual_seed(0)
    hidden, vocabulary = (torch.randn(n, 32, generator=generator).bfloat16() for n in (50, 200))
    tokens = torch.arange(50)
    with torch.autocast("cpu", torch.bfloat16):
        found = _log_likelihoods(hidden, vocabulary, tokens)
    expected = (hidden.double() @ vocabulary.double().T).log_softmax(1)[torch.arange(50), tokens]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    rounded = (hidden @ vocabulary.T).double().log_softmax(1)[torch.arange(50), tokens]
    assert (rounded - expected).abs().max() > 1e-2


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_after_an_opening_that_was_read_are_those_of_whole_prompts(made, data, beams, monkeypatch) -> None:
    import transformers

    module = made(*BIGREC, f"model.beams={beams}").eval()
    model, batch = module, ranking_batch(data, module, rows=5)
    prompts = [prompt[7 * row :] for row, prompt in enumerate(model._prompts(batch))]  # so there are gaps
    for weight in model.language.parameters():  # as it is loaded it repeats the last token
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.5)
    with torch.no_grad():
        opening = model.language.read(model.language.vectors(model.opening))
        ids, mask = model._padded(prompts)
        kept = [part.clone() for part in (opening.cache.layers[0].keys, opening.last)]
        found = model._generated(ids, mask, opening)
        assert torch.equal(found, model._generated(ids, mask, None))
        for row, prompt in enumerate(prompts):
            alone = model._generated(*model._padded([prompt]), None)[0, len(model.opening) + len(prompt) :]
            assert torch.equal(found[row, ids.shape[1] :][: len(alone)], alone)
        assert torch.equal(opening.cache.layers[0].keys, kept[0])
        with monkeypatch.context() as patched:  # every beam reads all of its prompt
            patched.setattr(model.language, "read_rows", lambda *_: transformers.DynamicCache())
            assert torch.equal(found, model._generated(ids, mask, opening))
    assert len({tuple(row.tolist()) for row in found[:, ids.shape[1] :]}) > 1


def test_tokens_that_are_generated_are_counted(made, data) -> None:
    module = made(*BIGREC, "model.beams=2").eval()
    model, batch = module, ranking_batch(data, module, rows=4)
    with torch.no_grad():
        model.begin_ranking()
        model.language.tokens_read = 0
        said = model._answers(batch)
    prompts = sum(map(len, model._prompts(batch)))
    assert model.language.tokens_read == prompts + 2 * sum(map(len, said))


def test_an_untuned_model_trains_nothing(made) -> None:
    module = made(*LIKELIHOOD)
    assert not module.trainable
    assert made(*LIKELIHOOD, "model.train=true").trainable
    assert not made(*BIGREC, "model.train=false").trainable
    for untuned in (module, made(*BIGREC, "model.train=false", "optimizer=eisam")):
        assert not any(p.requires_grad for p in untuned.parameters())


def test_the_answer_is_the_title(made, data) -> None:
    model = made(*BIGREC).eval()
    batch = training_batch(data, made(*BIGREC), rows=3)
    with torch.no_grad():
        losses = model.answer_losses(batch)
    prompts = model._prompts(batch)
    for loss, prompt, target in zip(losses.tolist(), prompts, batch.targets.tolist(), strict=True):
        answer = [*model.titles[target], model.language.end]
        expected = log_likelihood(model.language, [*model.opening.tolist(), *prompt], answer)
        assert loss == pytest.approx(-expected, rel=1e-4)
    assert model.language.tokenizer.decode(prompts[0]).count("\n- ") == min(3, batch.lengths[0])


def test_generation_is_greedy_with_one_beam_and_grouping_changes_nothing(made, data) -> None:
    module = made(*BIGREC, "model.beams=1").eval()
    model, batch = module, ranking_batch(data, module, rows=3)
    prompts = model._prompts(batch)
    with torch.no_grad():
        model.begin_ranking()
        model.language.tokens_read = 0
        said = model._answers(batch)
        for tokens, prompt in zip(said, prompts, strict=True):
            text, expected = [*model.opening.tolist(), *prompt], []
            while len(expected) < 9:
                token = int(model.language._inner(input_ids=torch.tensor([text])).logits[0, -1].argmax())
                if token == model.language.end:
                    break
                text.append(token)
                expected.append(token)
            assert tokens == expected


def test_a_title_ends_with_its_line(made, data, monkeypatch) -> None:
    model = made(*BIGREC).eval()
    batch = ranking_batch(data, made(*BIGREC), rows=2)
    both = [[65, 66, *model.language.ids(["\n"])[0], 67], [68, model.language.end, 69]]
    long = len(both[0])
    said = torch.tensor([row + [model.language.end] * (long - len(row)) for row in both])
    monkeypatch.setattr(model, "_generated", lambda ids, *_: torch.cat([ids, said], 1))
    lengths = [len(prompt) for prompt in model._prompts(batch)]
    model.begin_ranking()
    found = model._answers(batch)
    assert sorted(found) == [[65, 66], [68]]
    assert found[0 if lengths[0] <= lengths[1] else 1] == [65, 66]  # users are asked shortest prompt first


def test_nothing_to_train_is_one_line(made) -> None:
    with pytest.raises(UserError, match="nothing to train"):
        made(*BIGREC, "llm.lora=null")
    assert made(*BIGREC, "llm.lora=null", "model.train=false")


def test_a_title_that_is_said_is_the_nearest(made, data, monkeypatch) -> None:
    module = made(*BIGREC).eval()
    model, batch = module, ranking_batch(data, module, rows=6)
    wanted = batch.targets.tolist()
    monkeypatch.setattr(model, "_answers", lambda _batch: [model.titles[item] for item in wanted])
    with torch.no_grad():
        model.begin_ranking()
        scores = model.scores(batch)
        found = model.rank(replace(batch, seen=None), 5)
    same = [[model.titles[i] == model.titles[w] for i in range(N_ITEMS)] for w in wanted]  # titles cut alike tie
    assert all(row[best] for row, best in zip(same, scores.argmax(1).tolist(), strict=True))
    assert found.target_rank.tolist() == [sum(row) for row in same]
    assert found.items.shape == (6, 5)


def test_popularity_draws_popular_items_nearer(made, data, monkeypatch) -> None:
    plain, drawn = (made(*BIGREC, f"model.popularity={gamma}").eval() for gamma in (0.0, 3.0))
    batch = ranking_batch(data, made(*BIGREC), rows=6)
    for model in (plain, drawn):
        monkeypatch.setattr(model, "_answers", lambda _batch: [[65, 66], [67], [68], [69], [70], [71]])
    counts = torch.from_numpy(data.popularity).float()
    with torch.no_grad():
        plain.begin_ranking()
        drawn.begin_ranking()
        alone, weighted = plain.scores(batch), drawn.scores(batch)
        distances = (-alone - (-alone).amin(1, keepdim=True)) / (
            (-alone).amax(1, keepdim=True) - (-alone).amin(1, keepdim=True)
        )
        share = (counts - counts.min()) / (counts.max() - counts.min())
        torch.testing.assert_close(weighted, -distances / (1 + share) ** 3, rtol=1e-3, atol=1e-4)
        first = [counts[model.rank(replace(batch, seen=None), 5).items].mean() for model in (plain, drawn)]
    assert first[1] > first[0]


def test_grounding_is_of_the_untuned_model(made) -> None:
    model = made(*BIGREC).eval()
    titles = [[65, 66], [67]]
    with torch.no_grad():
        before = model._embedded(titles)
        for p in model.parameters():
            if p.requires_grad:
                torch.nn.init.normal_(p)
        assert torch.equal(model._embedded(titles), before)


def test_titles_and_what_stands_for_a_missing_one(data) -> None:
    bare = replace(data, item_data={"title": np.array(["A long title", *[""] * (N_ITEMS - 1)])})
    parts = parts_of("llm=tiny_random", "model=bigrec", "model.title_tokens=64", "dataset.noun=movie")
    model = parts.recommender(bare)
    assert [model.language.tokenizer.decode(model.titles[i]) for i in (0, 1)] == [" A long title", " untitled movie"]
    with pytest.raises(UserError, match=r"model: no item of made has a text in the column 'title'"):
        parts.recommender(replace(data, item_data={"title": np.array([""] * N_ITEMS)}))


def test_items_that_share_a_title_are_counted(made, data, first_stage) -> None:
    titles = np.array([f"film {item}" for item in range(N_ITEMS)])
    titles[[3, 7, 11]] = "film 3"
    same = replace(data, item_data={"title": titles})
    module = parts_of("llm=tiny_random", *BIGREC, "model.title_tokens=64").recommender(same)
    assert module.facts()["indistinct"].nonzero().flatten().tolist() == [3, 7, 11]
    targets = [data.items[data.offsets[user] + place] for user, place in enumerate(data.test_at) if place >= 1]
    share = np.isin(targets, [3, 7, 11]).mean()
    assert shared_titles(module, same) == f"3 of 40 items, {share:.1%} of test targets"
    assert share > 0
    scores = torch.arange(N_ITEMS).float().index_fill(0, torch.tensor([3, 7, 11]), 99.0)  # what titles alike get
    assert rank_by_scores(
        scores.unsqueeze(0), ScoreMatrix(N_ITEMS), torch.tensor([7]), None, 1
    ).target_rank.tolist() == [3]
    # Titles are read as far as title_tokens goes.
    module = parts_of("llm=tiny_random", *BIGREC, "model.title_tokens=4").recommender(same)
    assert module.facts()["indistinct"].all()
    assert shared_titles(made("model=llamarec", "model.candidates=6", "model.max_length=4"), same) is None


@pytest.mark.parametrize(
    "change", ["model.beams=0", "model.popularity=-1", "model.max_length=0", "model.title_tokens=0"]
)
def test_what_means_nothing_is_refused(made, change) -> None:
    with pytest.raises(UserError, match=rf"{change.partition('=')[0]}: it is .*It should be greater than"):
        made(*BIGREC, change)


def test_attributes_are_told_and_never_an_answer(made, data, first_stage) -> None:
    attributes = np.array(["" if item % 2 else "Red, New" for item in range(N_ITEMS)])
    known = replace(data, item_data={"title": data.titles, "attributes": attributes})
    choices = ("llm=tiny_random", "model=bigrec", "model.title_tokens=64", "model.attributes=true")
    module = parts_of(*choices).recommender(known)
    model, batch = module, training_batch(data, module, rows=3)
    prompts, answers = model.prompts_and_answers(batch)
    decode = model.language.tokenizer.decode
    for prompt, answer, events, target in zip(
        prompts, answers, batch.items.split(batch.lengths), batch.targets.tolist(), strict=True
    ):
        title = [str(each) for each in data.titles]
        lines = [f"\n- {title[i]}" if i % 2 else f"\n- {title[i]} (Red, New)" for i in events[-10:].tolist()]
        assert decode(prompt) == "".join(lines) + "\n\n### Response:\n-"
        assert decode(answer) == f" {title[target]}"
    plain = made("model=bigrec", "model.title_tokens=64")
    assert plain.item_texts is plain.titles


def test_data_without_attributes_are_refused_where_they_are_to_be_told(data) -> None:
    parts = parts_of("llm=tiny_random", *BIGREC, "model.attributes=true")
    line = r"model\.attributes=true: the items' column 'attributes' is read, which made lacks"
    with pytest.raises(UserError, match=line):
        parts.recommender(data)


def test_templates_are_the_configuration_s(made, data) -> None:
    events = ("model.prompt.event='; {number}:'", "model.prompt.closing=' Next {noun}?'", "dataset.noun=thing")
    model = made("model=bigrec", "model.max_length=2", "model.title_tokens=64", *events)
    batch = ranking_batch(data, made(*BIGREC), rows=1)
    titles = [str(data.titles[item]) for item in batch.items[-2:]]
    told = model.language.tokenizer.decode(model._prompts(batch)[0])
    assert told == f"; 1: {titles[0]}; 2: {titles[1]} Next thing?"
    with pytest.raises(UserError, match=r"model\.prompt\.event: .*Only \{noun\} and \{number\} may stand in braces"):
        made("model=bigrec", "model.prompt.event='{letter}'")


@pytest.mark.parametrize("model", [BIGREC, LIKELIHOOD])
def test_candidates_are_in_the_order_of_their_titles_likelihoods(made, data, first_stage, model) -> None:
    """The scores of the whole catalogue, of which those of the candidates alone are computed."""
    module = made(*model, "model.candidates=6").eval()
    batch = ranking_batch(data, module, rows=12)
    with torch.no_grad():
        for weight in module.language.parameters():  # as it is loaded all titles are about as likely
            if weight.dim() == 2:
                torch.nn.init.normal_(weight, std=0.3)
        states = first_stage.user_states(batch)
        alone = rank_by_scores(states, first_stage.scorer(), batch.targets, batch.seen, 15)
        module.begin_ranking()
        every = torch.stack([module.likelihoods(prompt, module.titles) for prompt in module._prompts(batch)])
        found, of_few = module.rank(batch, 15), module.rank(batch, 0)
        some = module.item_scores(batch, alone.items[:, 3:9])
    assert module.scored(batch) is None
    torch.testing.assert_close(some, every.gather(1, alone.items[:, 3:9]), rtol=1e-4, atol=1e-4)
    assert torch.equal(found.items[:, 6:], alone.items[:, 6:])
    assert torch.equal(found.parts["retriever"].items, alone.items)
    expected = every.gather(1, alone.items[:, :6]).sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(found.scores[:, :6], expected.values, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.items[:, :6], alone.items.gather(1, expected.indices))
    assert not torch.equal(found.items, alone.items)
    assert torch.equal(of_few.target_rank, found.target_rank)
    hits = (found.items == batch.targets.unsqueeze(1)).int()
    places = torch.where(hits.any(1), hits.argmax(1) + 1, alone.target_rank)
    assert torch.equal(found.target_rank, places)


def test_a_checkpoint_is_the_same_with_candidates_and_without(made) -> None:
    plain, ordered = made(*BIGREC), made(*BIGREC, "model.candidates=6")
    assert plain.state_dict().keys() == ordered.state_dict().keys()
    ordered.load_state_dict(plain.state_dict())
    assert plain.facts().get("candidates") is None
    assert ordered.facts()["candidates"] == 6
    assert not ordered.train().retriever.training


def test_candidates_that_mean_nothing_are_refused(made) -> None:
    with pytest.raises(UserError, match=r"model\.retriever: .*model\.candidates=20"):
        made(*BIGREC, "model.retriever=outputs/run")
    with pytest.raises(UserError, match=rf"model\.candidates: it is 41\. Give 2 to {N_ITEMS}\.$"):
        made(*BIGREC, "model.candidates=41")


def test_generated_titles_of_the_history_and_of_the_catalogue_are_counted(made, data, monkeypatch) -> None:
    model = made(*BIGREC, "model.title_tokens=64").eval()
    batch = ranking_batch(data, model, rows=6)
    histories = [events[-3:].tolist() for events in batch.items.split(batch.lengths)]
    other = next(item for item in range(N_ITEMS) if item not in histories[2])
    said = [model.titles[histories[0][0]], model.titles[histories[1][-1]], model.titles[other], [65], [], [66, 67]]
    monkeypatch.setattr(model, "_answers", lambda _batch: said)
    model.begin_ranking()
    found = model.rank(batch, 0)
    assert found.measured["generated/history"].tolist() == [1, 1, 0, 0, 0, 0]
    assert found.measured["generated/catalogue"].tolist() == [1, 1, 1, 0, 0, 0]
    collector = Collector(N_ITEMS, ())
    collector.add(batch.users, batch.targets, found)
    collector.add(batch.users[:0], batch.targets[:0], replace(found, measured={}))
    measured = measure(data, MetricsSettings(), ItemGroups(data.popularity), collector.finish())
    assert measured["generated/history"] == pytest.approx(2 / 6)
    assert measured["generated/catalogue"] == pytest.approx(3 / 6)
