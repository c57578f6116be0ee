"""LlamaRec: letters, candidates, labels on the answer only, and the retriever's order behind."""

import copy
from dataclasses import replace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.batch import SeenSets
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, users_with_target
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.metrics.ranking import random_order
from recsys_lt.recommenders.full_ranking import Collector, rank_by_scores
from recsys_lt.training.settings import MetricsSettings
from recsys_lt.training.write_results import measure
from tests.llm.conftest import N_ITEMS, needs_of, parts_of, ranking_batch, training_batch

MODEL = ("model=llamarec", "model.candidates=6", "model.max_length=4", "model.title_tokens=8")


def test_candidates_hold_the_target_once_and_nothing_the_user_has_seen(made, data) -> None:
    module = made(*MODEL)
    batch = training_batch(data, module, rows=30)
    pools = module._drawn(batch, torch.arange(30))
    assert pools.shape == (30, 6)
    assert ((pools == batch.targets.unsqueeze(1)).sum(1) == 1).all()
    places = (pools == batch.targets.unsqueeze(1)).int().argmax(1)
    assert len(places.unique()) > 3  # in random order
    for pool, target, seen in zip(
        pools.tolist(), batch.targets.tolist(), batch.seen.items.split(batch.seen.offsets.diff().tolist()), strict=True
    ):
        assert len(set(pool)) == 6
        assert not (set(pool) - {target}) & set(seen.tolist())
    assert torch.equal(pools, module._drawn(batch, torch.arange(30)))
    assert not torch.equal(pools, module._drawn(batch, torch.arange(30) + 100))


def test_negatives_are_uniform(made, data) -> None:
    module = made(*MODEL)
    batch = training_batch(data, module, rows=1)
    counts = torch.zeros(N_ITEMS)
    for draw in range(400):
        pool = module._drawn(batch, torch.tensor([draw]))[0]
        counts[pool] += 1
    free = torch.ones(N_ITEMS, dtype=torch.bool)
    free[batch.seen.items] = False
    assert counts[batch.targets[0]] == 400
    expected = 400 * 5 / int(free.sum())
    assert (counts[free] - expected).abs().max() < 5 * expected**0.5


def test_the_loss_is_on_the_letter_and_the_end_alone(made, data) -> None:
    module = made(*MODEL).eval()
    language = module.language
    batch = training_batch(data, module)
    losses = module.answer_losses(batch)

    pools = module._drawn(batch, batch.streams)
    prompts = module._prompts(batch.items.split(batch.lengths), pools)
    expected = []
    for prompt, pool, target in zip(prompts, pools.tolist(), batch.targets.tolist(), strict=True):
        letter = int(module.letters[pool.index(target)])
        text = torch.tensor([*module.opening.tolist(), *prompt, letter])
        logits = language._inner(input_ids=text.unsqueeze(0)).logits[0]
        expected.append(F.cross_entropy(logits[-2:], torch.tensor([letter, language.end])))
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_the_prompt_reads_as_a_person_would_write_it(made, data) -> None:
    module = made(*MODEL, "model.title_tokens=64", "dataset.noun=thing")
    pools = torch.tensor([[3, 1, 4, 15, 9, 2]])
    (prompt,) = module._prompts([torch.tensor([7, 8, 5, 6, 7])], pools)
    text = module.language.tokenizer.decode([*module.opening.tolist(), *prompt])
    title = [str(each) for each in data.titles]
    assert "the things a person has chosen" in text
    assert (
        f"History:\n(1) {title[8]}\n(2) {title[5]}\n(3) {title[6]}\n(4) {title[7]}\n\nCandidates:\n(A) {title[3]}\n"
        in text
    )
    assert text.endswith(f"(F) {title[2]}\n\n### Response:\n")
    assert module.language.tokenizer.decode(module.letters) == "ABCDEF"


def test_candidates_come_first_in_the_order_of_their_letters(made, data, first_stage) -> None:
    module = made(*MODEL).eval()
    batch = ranking_batch(data, module, rows=12)
    with torch.no_grad():
        ranking = module.rank(batch, 15)
        ranks, items, scores = ranking.target_rank, ranking.items, ranking.scores
        retrieved = rank_by_scores(first_stage.user_states(batch), first_stage.scorer(), batch.targets, batch.seen, 15)
        alone, found = retrieved.target_rank, retrieved.items
        logits = module._logits(batch, torch.arange(12), found[:, :6])
    assert torch.equal(items[:, 6:], found[:, 6:])  # the rest keeps the retriever's order
    assert (scores[:, 6:] == -torch.inf).all()
    for row in range(12):
        assert items[row, :6].tolist() == found[row, :6][logits[row].argsort(descending=True)].tolist()
        listed = items[row].tolist()
        target = int(batch.targets[row])
        if target in listed:
            assert int(ranks[row]) == listed.index(target) + 1
        else:
            assert int(ranks[row]) == int(alone[row]) > 6
    assert (ranks <= 6).equal(alone <= 6)  # the ceiling: who is found is the retriever's doing
    with torch.no_grad():
        assert torch.equal(module.rank(batch, 0).target_rank, ranks)  # without lists the same ranks
    assert int((alone <= 6).sum()) not in (0, 12)


def test_the_ceiling_is_what_the_retriever_alone_reaches(made, data, first_stage) -> None:
    """Seen items are masked for both; a first stage's ranks are metrics of their own."""
    module = made(*MODEL).eval()
    batch = ranking_batch(data, module, rows=12)
    with torch.no_grad():
        alone = rank_by_scores(
            first_stage.user_states(batch), first_stage.scorer(), batch.targets, batch.seen, 0
        ).target_rank
        calls = mock.Mock(wraps=module.retriever.user_states)
        with mock.patch.object(module.retriever, "user_states", calls):
            ranking = module.rank(batch, 20)
    assert calls.call_count == 1
    assert torch.equal(ranking.parts["retriever"].target_rank, alone)
    assert module.facts()["candidates"] == 6
    groups = ItemGroups(data.popularity)
    measured = MetricsSettings(ks=[1, 6, 10, 20])
    collector = Collector(N_ITEMS, (1, 6, 20), 6)
    collector.add(batch.users, batch.targets, ranking)
    found = measure(data, measured, groups, collector.finish())
    assert found["retriever/hr@6"] == found["hr@6"] == pytest.approx(float((alone <= 6).double().mean()))  # six letters
    assert found["retriever/ndcg@20"] != found["ndcg@20"]
    assert found["random_order/hr@6"] == pytest.approx(found["hr@6"])
    assert found["random_order/hr@1"] == pytest.approx(found["hr@6"] / 6)
    for name, value in random_order(alone.numpy(), 6, measured.ks).items():
        assert found[f"random_order/{name}"] == value
    plain = Collector(N_ITEMS, (1, 6, 20))
    plain.add(batch.users, batch.targets, replace(ranking, parts={}))
    assert not [name for name in measure(data, measured, groups, plain.finish()) if name[:3] in ("ret", "ran")]


def test_letters_are_scored_in_float32_whatever_the_model_is_held_in(made, data, first_stage) -> None:
    """In bfloat16 a score has eight bits: candidates would tie."""
    module = made(*MODEL, "llm.dtype=bfloat16").eval()
    batch = ranking_batch(data, module, rows=12)
    with torch.no_grad():
        found = rank_by_scores(first_stage.user_states(batch), first_stage.scorer(), batch.targets, batch.seen, 6).items
        with torch.autocast("cpu", torch.bfloat16):
            logits = module._logits(batch, torch.arange(12), found)
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16().float()).float().mean() > 0.9


def test_given_candidates_are_scored_by_their_letters(made, data) -> None:
    module = made(*MODEL).eval()
    batch, items = ranking_batch(data, module, rows=2), torch.tensor([[7, 2, 30], [5, 39, 0]])
    with torch.no_grad():
        found = module.item_scores(batch, items)
        assert torch.equal(found, module._logits(batch, torch.arange(2), items)[:, :3])
        with pytest.raises(UserError, match="orders 6 candidates"):
            module.item_scores(batch, torch.arange(7).unsqueeze(0).expand(2, -1))


def test_who_has_seen_nearly_all_keeps_the_retriever_s_order(made, data) -> None:
    module = made(*MODEL).eval()
    batch = ranking_batch(data, module, rows=1)
    left = torch.tensor([int(batch.targets[0]), (int(batch.targets[0]) + 1) % N_ITEMS]).sort().values
    seen = torch.tensor([item for item in range(N_ITEMS) if item not in left.tolist()])
    with torch.no_grad():
        found = module.rank(replace(batch, seen=SeenSets(seen, torch.tensor([0, len(seen)]))), 5)
    assert set(found.items[0].tolist()) == {*left.tolist(), -1}
    assert int(found.target_rank[0]) in (1, 2)


def test_a_retriever_that_reads_less_than_is_told(data) -> None:
    torch.manual_seed(1)
    facts = DataFacts(data.n_users, data.n_items, torch.from_numpy(data.popularity))
    short = SASRec(facts, width=16, blocks=1, heads=1, max_length=2, dropout=0.0).eval()
    torch.manual_seed(0)
    module = parts_of("llm=tiny_random", *MODEL).recommender(data, needs_of(short)).eval()
    assert module.max_length == 4
    batch = ranking_batch(data, module)
    read = RankBatches(data, users_with_target(data, "test"), "test", 2, 6, with_seen=True)[0]
    assert batch.lengths != read.lengths
    with torch.no_grad():
        found = module.rank(batch, N_ITEMS).items
        expected = rank_by_scores(short.user_states(read), short.output_table(), read.targets, read.seen, N_ITEMS).items
    assert torch.equal(found[:, 6:], expected[:, 6:])


def test_a_target_that_ties_with_what_is_listed_is_no_candidate(made, data) -> None:
    module = made(*MODEL).eval()
    module.retriever = copy.deepcopy(module.retriever)
    with torch.no_grad():
        module.retriever.items.weight.zero_()  # all items tie: those of the lowest ids are listed
    batch = ranking_batch(data, module, rows=12)
    with torch.no_grad():
        listed, alone = (module.rank(replace(batch, seen=None), k).target_rank for k in (10, 0))
    assert torch.equal(listed, alone)
    assert (listed == N_ITEMS).all()


def test_training_moves_the_adapters_and_not_the_retriever(made, data) -> None:
    module = made(*MODEL)
    module.batch_losses(training_batch(data, module))[0].sum().backward()
    moved = {name for name, p in module.named_parameters() if p.grad is not None}
    assert moved
    assert all(name.startswith("language.") and "lora_" in name for name in moved)
    assert {name.split(".")[-4] for name in moved} == {"q_proj", "v_proj"}
    assert not module.train().retriever.training


def test_the_opening_s_dropout_is_new_in_every_step(made, data) -> None:
    module = made(*MODEL, "llm.lora.dropout=0.5").train()
    for p in module.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.3)
    batch = training_batch(data, module)
    first, again, later = (
        module.batch_losses(each)[1] for each in (batch, batch, replace(batch, step_key=batch.step_key + 1))
    )
    assert torch.equal(first, again)
    assert (first - later).abs().max() > 1e-4


def test_letters_that_are_no_tokens_are_refused(made, data, first_stage, monkeypatch) -> None:
    from recsys_lt.llm.language_model import LanguageModel

    plain = LanguageModel.ids

    def split(self, texts):
        return [
            ids + ids[-1:] if text.endswith("F") else ids for text, ids in zip(texts, plain(self, texts), strict=True)
        ]

    monkeypatch.setattr(LanguageModel, "ids", split)
    with pytest.raises(UserError, match="does not read a letter"):
        made(*MODEL)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.candidates=1", r"model\.candidates"),
        ("model.candidates=27", r"model\.candidates: it is 27\. Give 2 to 26: each candidate is one letter"),
        ("model.candidates=null", r"model\.candidates: it is null"),
        ("model.order=shuffled", r"model\.order"),
        ("model.title_tokens=0", r"model\.title_tokens: it is 0"),
        ("+llm.weights.context=64", "reads 64"),
    ],
)
def test_what_means_nothing_is_refused(made, change, said) -> None:
    with pytest.raises(UserError, match=said):
        made(*MODEL, change)


def test_another_loss_is_refused() -> None:
    with pytest.raises(UserError, match="objective of its own"):
        parts_of("llm=tiny_random", *MODEL, "loss=ce")
    with pytest.raises(UserError, match="no objective of its own"):
        parts_of("loss=own")


def test_titles_are_needed(data, first_stage) -> None:
    bare = replace(data, item_data={})
    with pytest.raises(UserError, match="which made lacks"):
        parts_of("llm=tiny_random", *MODEL).recommender(bare, needs_of(first_stage))


def test_a_row_s_loss_is_the_mean_over_its_answer(made, data) -> None:
    language = made(*MODEL).eval().language
    opening = language.opening("ab")
    answers = [[65], [66, 67, 68]]
    both = language.answer_losses(opening, [[70, 71], [72]], answers, torch.arange(2), 0)
    for row, (prompt, answer) in enumerate(zip([[70, 71], [72]], answers, strict=True)):
        text = torch.tensor([*opening.tolist(), *prompt, *answer])
        logits = language._inner(input_ids=text.unsqueeze(0)).logits[0, -len(answer) - 1 :]
        expected = F.cross_entropy(logits, torch.tensor([*answer, language.end]))
        torch.testing.assert_close(both[row], expected, rtol=1e-4, atol=1e-4)


def test_letters_may_follow_the_candidates(made, data) -> None:
    ends = ("model.prompt.candidate='; '", "model.prompt.behind='={letter}'", "model.title_tokens=64")
    module = made(*MODEL, *ends)
    (prompt,) = module._prompts([torch.tensor([7])], torch.tensor([[3, 1, 4, 15, 9, 2]]))
    title = [str(each) for each in data.titles]
    text = module.language.tokenizer.decode(prompt)
    assert f"Candidates:;  {title[3]}=A;  {title[1]}=B;  {title[4]}=C;" in text
    with pytest.raises(UserError, match=r"model\.prompt\.behind: .*Only \{noun\} and \{letter\} may stand in braces"):
        made(*MODEL, "model.prompt.behind='{number}'")


def test_candidates_told_in_random_order(made, data, monkeypatch) -> None:
    """By scores that are the items' own the order told changes nothing; by those of the letters it is the order."""
    told, shuffled = made(*MODEL).eval(), made(*MODEL, "model.order=random").eval()
    batch = ranking_batch(data, told, rows=12)
    own = torch.randn(N_ITEMS, generator=torch.Generator().manual_seed(0))
    seen = {}
    for module in (told, shuffled):

        def of_items(_batch, _users, pools, module=module):
            seen[module] = pools
            return own[pools]

        monkeypatch.setattr(module, "_logits", of_items)
    with torch.no_grad():
        one, other = (module.rank(batch, 10) for module in (told, shuffled))
        again = shuffled.rank(batch, 10)
    assert torch.equal(one.items, other.items)
    assert torch.equal(one.target_rank, other.target_rank)
    assert torch.equal(again.measured["position_bias"], other.measured["position_bias"])
    places = (seen[shuffled].unsqueeze(2) == seen[told].unsqueeze(1)).int().argmax(2)
    assert torch.equal(places.sort(1).values, torch.arange(6).expand(12, 6))
    assert len({tuple(row) for row in places.tolist()}) > 6  # each user's own
    letters = torch.arange(6, 0, -1).float()
    monkeypatch.setattr(shuffled, "_logits", lambda _batch, users, _pools: letters.expand(len(users), 6))
    with torch.no_grad():
        found = shuffled.rank(batch, 10)
    assert torch.equal(found.items[:, :6], seen[shuffled])
    assert (found.measured["position_bias"] == 1).all()


def test_position_bias_is_the_rank_correlation_with_the_order_told(made, data, monkeypatch) -> None:
    module = made(*MODEL).eval()
    batch = ranking_batch(data, module, rows=12)
    scores = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(module, "_logits", lambda _batch, users, _pools: scores[users])
    with torch.no_grad():
        bias, of_few = (module.rank(batch, k).measured["position_bias"] for k in (10, 0))
        alone = module.rank(batch, 0).parts["retriever"].target_rank
    for row in range(12):
        place = scores[row].argsort(descending=True).argsort()  # of each candidate told
        expected = torch.corrcoef(torch.stack([place.double(), torch.arange(6).double()]))[0, 1]
        assert float(bias[row]) == pytest.approx(float(expected), abs=1e-6)
    # In validation those alone are put in order whose target is a candidate.
    assert torch.equal(of_few.isnan(), alone > 6)
    collector = Collector(N_ITEMS, ())
    collector.add(batch.users, batch.targets, module.rank(batch, 0))
    found = measure(data, MetricsSettings(), ItemGroups(data.popularity), collector.finish())
    assert found["position_bias"] == pytest.approx(float(of_few[alone <= 6].double().mean()))
