"""Generative recommenders: what a batch costs, how lists are ranked, and what they share with every other model."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.dataset import Dataset
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, users_with_target
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.errors import UserError
from recsys_lt.generative.item_ids import IdMap
from recsys_lt.generative.recommender import GenerativeRecommender
from recsys_lt.recommenders.step_closure import StepClosure
from recsys_lt.training.build import build

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'recsys_lt[llm]'")

N_ITEMS = 40
SIZES = ("width=16", "inner=24", "heads=2", "blocks=1", "dropout=0.2")
TINY = ("model.max_length=5", *(f"model.sizes.{size}" for size in SIZES))
MODELS = {
    "tiger": ("model=tiger",),
    "decoder": ("model=tiger", "model.arch=decoder"),
    "p5": ("model=p5", "item_ids=random"),
    "pod": ("model=pod", "model.candidates=6", "model.top_n=0.5", "model.prompt_vectors=2"),
}
Made = Callable[..., GenerativeRecommender]


def ids(ragged: bool = False) -> IdMap:
    """Codes of two or three levels, of which the last tells apart."""
    codes = np.array([[n % 5, n // 5, 0 if ragged and n % 2 else 1] for n in range(N_ITEMS)], dtype=np.int32)
    if ragged:
        codes[1::2, 2] = -1
    return IdMap(codes, (5, 8, 2), "test")


def digits() -> IdMap:
    codes = np.array([[n // 10, n % 10] for n in range(N_ITEMS)], dtype=np.int32)
    return IdMap(codes, (10, 10), "test", shared=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    source = Synthetic(n_users=30, n_items=N_ITEMS, mean_length=8)
    cache = str(tmp_path_factory.mktemp("cache"))
    return Dataset(source, name="made", k_core=1, cache_dir=cache).load(lambda _line: None)


@pytest.fixture(scope="module")
def made(data: Sequences) -> Made:
    def recommender(*choices: str, of: IdMap | None = None) -> GenerativeRecommender:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", ["dataset=synthetic", "strategy=cpu", "logger=none", *TINY, *choices])
        parts = build(config)
        torch.manual_seed(0)
        given = of or (digits() if "model=pod" in choices else ids())
        found = parts.recommender(data, {"model.item_ids": given})
        assert isinstance(found, GenerativeRecommender)
        return found

    return recommender


def training_batch(data: Sequences, module: GenerativeRecommender, rows: int = 6) -> Batch:
    return TrainBatches(data, module.task, rows, 0, Share(), module.needs_seen)[0, 0]


def ranking_batch(data: Sequences, module: GenerativeRecommender, rows: int = 6, seen: bool = True) -> Batch:
    return RankBatches(data, users_with_target(data, "test"), "test", module.max_length, rows, with_seen=seen)[0]


def rows_of(batch: Batch, kept: list[int]) -> Batch:
    """Some rows of a training batch that have one target each."""
    histories = [batch.items.split(batch.lengths)[row] for row in kept]
    lengths = tuple(map(len, histories))
    seen = batch.seen
    if seen is not None:
        sets = [seen.items[seen.offsets[row] : seen.offsets[row + 1]] for row in kept]
        seen = SeenSets(torch.cat(sets), torch.tensor([0, *map(len, sets)]).cumsum(0))
    return replace(
        batch, users=batch.users[kept], items=torch.cat(histories), offsets=torch.tensor([0, *lengths]).cumsum(0),
        lengths=lengths, targets=batch.targets[kept], streams=batch.streams[kept], seen=seen,
    )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_losses_are_weighed_by_item_and_asking_again_gives_the_same(made: Made, data, model: str) -> None:
    module = made(*MODELS[model])
    batch, weights = training_batch(data, module), torch.rand(2, N_ITEMS)
    totals, losses, items = module.batch_losses(batch, weights)
    assert torch.equal(items, batch.targets)
    torch.testing.assert_close(totals, (weights[:, items] * losses).mean(1), rtol=1e-4, atol=1e-5)
    assert torch.equal(losses, module.batch_losses(batch)[1])
    totals.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())
    assert (losses - module.eval().batch_losses(batch)[1]).abs().max() > 1e-3  # dropout was there


@pytest.mark.parametrize("model", ["tiger", "p5", "pod"])
def test_a_row_costs_the_same_in_any_batch(made: Made, data, model: str) -> None:
    module = made(*MODELS[model])
    batch = training_batch(data, module, rows=12)
    kept = [7, 2, 11]
    alone = module.batch_losses(rows_of(batch, kept))[1]
    torch.testing.assert_close(alone, module.batch_losses(batch)[1][kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sam", "eisam"])
@pytest.mark.parametrize("model", MODELS)
def test_sharpness_aware_rules_put_everything_back(made: Made, data, model: str, optimizer: str) -> None:
    module = made(*MODELS[model], f"optimizer={optimizer}", "optimizer.rho=0.3")
    batch, parameters = training_batch(data, module), list(module.parameters())
    before = [p.detach().clone() for p in parameters]
    plain = torch.autograd.grad(module.batch_losses(batch)[0].sum(), parameters)
    total, gradients = module.rule.gradients(StepClosure(module, parameters, [batch]))
    assert torch.isfinite(total)
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    assert any((g - old).abs().max() > 1e-6 for g, old in zip(gradients, plain, strict=True))


@torch.no_grad()
def likelihoods(module: GenerativeRecommender, batch: Batch, decoder: bool) -> torch.Tensor:
    """Log-probability of each item as the next one of each row of a ranking batch, as training has it, [B, I]."""
    expected = torch.empty(len(batch), N_ITEMS)
    for item in range(N_ITEMS):
        # A row that is to answer this item, as in training.
        targets = torch.full((len(batch),), item)
        if decoder:
            inside = batch.items.split(batch.lengths)
            targets = torch.cat([torch.cat([events[1:], targets[:1]]) for events in inside])
        losses = module.batch_losses(replace(batch, targets=targets))[1]
        last = batch.offsets[1:] - 1 if decoder else torch.arange(len(batch))
        expected[:, item] = -losses[last] * module.ids.lengths[item]
    return expected


@pytest.mark.parametrize("model", ["tiger", "decoder"])
def test_logit_adjustment_shifts_what_is_trained_and_not_what_is_ranked(made: Made, data, model: str) -> None:
    prior = torch.from_numpy(data.popularity).clamp(min=1).double()
    prior = (prior / prior.sum()).log().float()
    single = IdMap(np.arange(N_ITEMS, dtype=np.int32)[:, None], (N_ITEMS,), "test")
    for of in (single, ids(ragged=True)):
        none, least, adjusted = (made(*MODELS[model], f"model.tau={tau}", of=of).eval() for tau in (0, 1e-9, 0.7))
        batch = ranking_batch(data, adjusted, rows=3, seen=False)
        plain, among, found = (likelihoods(one, batch, model == "decoder") for one in (none, least, adjusted))
        for given in (among, found):
            torch.testing.assert_close(given.exp().sum(1), torch.ones(3))  # no token leads to no item
        if of is single:  # the published form
            torch.testing.assert_close(found, (plain + 0.7 * prior).log_softmax(1), rtol=1e-4, atol=1e-4)
        else:
            assert (found - among).abs().max() > 0.1
        with torch.no_grad():
            lists = adjusted.rank(batch, 20)
        torch.testing.assert_close(lists.scores, among.gather(1, lists.items), rtol=1e-4, atol=1e-4)


def test_a_run_of_before_has_no_logit_adjustment(made: Made, data) -> None:
    module, before = made("model=tiger"), made("model=tiger", "~model.tau")
    batch = training_batch(data, module)
    assert torch.equal(module.batch_losses(batch)[1], before.batch_losses(batch)[1])


@pytest.mark.parametrize("model", ["tiger", "decoder", "p5"])
@pytest.mark.parametrize("ragged", [False, True])
def test_lists_of_many_beams_are_the_catalogue_in_order_of_likelihood(made: Made, data, model, ragged: bool) -> None:
    module = made(*MODELS[model], "model.beams=40", "model.length_penalty=0", of=ids(ragged)).eval()
    if model == "p5":  # ranked after the only template that rows are read in
        module._templates.sequential = [module._templates.ranking]
    batch = ranking_batch(data, module, rows=3, seen=False)
    with torch.no_grad():
        found = module.rank(batch, 40)
    expected = likelihoods(module, batch, model == "decoder")
    torch.testing.assert_close(found.scores, expected.gather(1, found.items), rtol=1e-3, atol=1e-3)
    assert (found.scores.diff(dim=1) <= 0).all()
    assert (found.items.sort(1).values == torch.arange(N_ITEMS)).all()
    places = (found.items == batch.targets.unsqueeze(1)).nonzero()[:, 1] + 1
    assert torch.equal(found.target_rank, places)
    torch.testing.assert_close(found.scores.exp().sum(1) < 1.0001, torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("model", MODELS)
def test_seen_items_cost_no_places_and_both_protocols_are_ranked(made: Made, data, model: str) -> None:
    module = made(*MODELS[model], "model.beams=12").eval()
    batch = ranking_batch(data, module, rows=20)
    module.begin_ranking()
    with torch.no_grad():
        found, bare = module.rank(batch, 20), module.rank(replace(batch, seen=None), 20)
    assert batch.seen is not None
    seen = batch.seen.items.split(batch.seen.offsets.diff().tolist())
    assert not any(set(row.tolist()) & set(own.tolist()) for row, own in zip(found.items, seen, strict=True))
    assert found.depth == 12
    assert (found.items[:, 12:] == -1).all()  # beyond the beam nothing is ranked
    if model != "pod":
        assert (found.items[:, :12] >= 0).all()
    listed = (found.items == batch.targets.unsqueeze(1)).any(1)
    assert torch.equal(found.target_rank > 0, listed)
    assert (found.target_rank == 0).any()
    assert torch.equal(found.parts["unmasked"].target_rank, bare.target_rank)
    assert not bare.parts
    alone = module.rank(batch, 0)  # one search, for ranks alone
    assert alone.items.shape == (20, 0)
    assert torch.equal(alone.target_rank, found.target_rank)


def test_free_strings_that_are_no_item_keep_their_place(made: Made, data) -> None:
    module = made(*MODELS["pod"], "model.beams=100").eval()
    batch = ranking_batch(data, module, rows=8, seen=False)
    module.begin_ranking()
    with torch.no_grad():
        found = module.rank(batch, 100)
    assert (found.items >= 0).sum(1).tolist() == [N_ITEMS] * 8  # 40 of the 100 strings of two digits
    assert module.facts()["notes"]["valid_strings"] == pytest.approx(0.4)
    place = (found.items == batch.targets.unsqueeze(1)).nonzero()[:, 1] + 1
    assert (found.target_rank >= place).all()
    assert (found.target_rank > place).any()
    tree = made(*MODELS["pod"], "model.beams=40", "model.decode=trie").eval()
    with torch.no_grad():
        assert torch.equal(tree.rank(batch, 40).items, found.items[:, :40])


def test_rows_of_the_second_task_choose_among_unseen_candidates(made: Made, data) -> None:
    module = made(*MODELS["pod"])
    batch = training_batch(data, module, rows=20)
    pools = module._pools(batch, torch.ones(20, dtype=torch.bool))
    assert pools == module._pools(batch, torch.ones(20, dtype=torch.bool))
    assert batch.seen is not None
    places = []
    for row, pool in pools.items():
        target = int(batch.targets[row])
        seen = set(batch.seen.items[batch.seen.offsets[row] : batch.seen.offsets[row + 1]].tolist())
        assert len(set(pool)) == 6
        assert set(pool) & seen <= {target}
        places.append(pool.index(target))
    assert len(set(places)) > 2
    first = module.network.start + 1
    heads = [read.tokens[:2] for read in module._training_rows(batch)]
    assert [first, first + 1] in heads
    assert [first + 2, first + 3] in heads


def test_histories_begin_anywhere_in_training_alone(made: Made, data) -> None:
    fixed, free = (made("model=tiger", f"model.random_start={on}") for on in ("false", "true"))
    batch = training_batch(data, fixed, rows=30)
    lengths = [[len(read.tokens) for read in module._training_rows(batch)] for module in (fixed, free)]
    assert lengths[0] == [3 * length for length in batch.lengths]
    assert all(3 <= one <= other for one, other in zip(lengths[1], lengths[0], strict=True))
    assert lengths[1] != lengths[0]
    ranked = ranking_batch(data, fixed)
    with torch.no_grad():
        assert torch.equal(fixed.eval().rank(ranked, 10).items, free.eval().rank(ranked, 10).items)


def test_a_user_without_history_is_ranked_for(made: Made, data) -> None:
    for model in ("tiger", "decoder"):
        module = made(*MODELS[model]).eval()
        batch = ranking_batch(data, module, rows=1, seen=False)
        empty = replace(batch, items=batch.items[:0], offsets=torch.zeros(2, dtype=torch.int64), lengths=(0,))
        with torch.no_grad():
            found = module.rank(empty, 10)
        assert (found.items >= 0).all()


def test_a_new_model_expects_every_token_about_equally(made: Made, data) -> None:
    module = made("model=tiger").eval()
    losses = module.batch_losses(training_batch(data, module, rows=30))[1]
    assert float(losses.mean()) == pytest.approx(math.log(15), rel=0.5)


def test_it_starts_from_a_pretrained_t5(made: Made, data, tmp_path) -> None:
    folder = tmp_path / "t5"
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    pieces = {"<pad>": 0, "user": 1, "ne": 2, "##xt": 3}
    bare = tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token="<pad>"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>").save_pretrained(folder)
    sizes = {"d_model": 12, "d_kv": 4, "num_heads": 3, "d_ff": 20, "num_layers": 1, "feed_forward_proj": "gated-gelu"}
    config = transformers.T5Config(vocab_size=6, decoder_start_token_id=0, tie_word_embeddings=False, **sizes)
    old = transformers.T5ForConditionalGeneration(config)
    old.save_pretrained(folder)
    text = "'user {user} {items} next'"
    module = made(
        "model=p5", "item_ids=random", f"model.weights={folder}", f"model.templates.ranking={text}",
        f"model.templates.sequential=[{text}]",
    )  # fmt: skip
    network, words = module.network, module._vocabulary
    assert module.facts()["notes"]["weights"] == str(folder)
    assert torch.equal(network.t5.shared.weight[words["user"]], old.shared.weight[1])
    torch.testing.assert_close(network.t5.shared.weight[words["next"]], old.shared.weight[2:4].mean(0))
    assert torch.equal(network.t5.shared.weight[network.start], old.shared.weight[0])
    assert torch.equal(
        network.t5.encoder.block[0].layer[0].SelfAttention.q.weight,
        old.encoder.block[0].layer[0].SelfAttention.q.weight,
    )
    module.batch_losses(training_batch(data, module))[0].sum().backward()
    with torch.no_grad():
        assert (module.eval().rank(ranking_batch(data, module), 10).items >= 0).all()
    with pytest.raises(UserError, match="no T5 model can be read from it"):
        made("model=tiger", f"model.weights={tmp_path}")


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (("model=tiger", "model.beams=5"), "model.beams: a beam search with 5 beams"),
        (("model=p5", "item_ids=random", "model.arch=decoder"), "model.arch=decoder: a decoder reads only item tokens"),
        (
            ("model=tiger", "model.templates.ranking='user {user} {items}'"),
            "model.templates: this model does not read user numbers",
        ),
        (("model=tiger", "model.top_n=0.5"), "model.top_n: there is no template"),
        (("model=pod", "model.candidates=41"), "model.candidates=41: the catalogue has 40 items"),
        (("model=tiger", "model.decode=free"), "model.decode=free"),
        (("model=tiger", "model.sizes.heads=3"), "model.sizes: width 16 is not a multiple of 3 heads"),
    ],
)
def test_what_does_not_fit_is_refused(made: Made, choices: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as refusal:
        made(*choices)
    assert said in str(refusal.value)
