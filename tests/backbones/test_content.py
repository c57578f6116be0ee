"""Item tables that are computed from item features, in every backbone that has one."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.bsarec import BSARec
from recsys_lt.backbones.caser import Caser
from recsys_lt.backbones.content import Content, ItemFeatures
from recsys_lt.backbones.gru4rec import GRU4Rec
from recsys_lt.backbones.lrurec import LRURec
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.features import Column
from recsys_lt.errors import UserError

WIDTH = 5  # of the features
MODELS = {
    "sasrec": partial(SASRec, width=8, blocks=1, heads=1, max_length=4, dropout=0.0),
    "gsasrec": partial(SASRec, width=8, blocks=1, heads=1, max_length=4, dropout=0.0, tied=False),
    "gru4rec": partial(GRU4Rec, width=8, max_length=4),
    "lrurec": partial(LRURec, width=8, max_length=4),
    "bsarec": partial(BSARec, width=8, max_length=4),
    "caser": partial(Caser, width=8, max_length=4),
}


@pytest.fixture
def vectors(facts: DataFacts) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(facts.n_items, WIDTH)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def attached(model: Backbone, vectors: np.ndarray, facts: DataFacts, **settings: object) -> Content:
    content = ItemFeatures(Column("made"), **settings).attach(model, vectors, facts.popularity)
    assert content is not None
    return content


def projections(model: Backbone) -> list[nn.Parameter]:
    return [one for name, one in model.named_parameters() if name.endswith(".projection")]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_vectors_are_ids_and_projected_features(make, facts, vectors, make_batch):
    torch.manual_seed(0)
    model = make(facts)
    batch = make_batch([[1, 2, 3], [4]])
    ids = [table.detach().clone() for table in model.item_tables()]
    content = attached(model, vectors, facts)
    assert len(projections(model)) == sum(table.dim() == 2 for table in ids)
    assert all(torch.equal(one, was) for one, was in zip(content.item_tables, ids, strict=True))
    features, cold = torch.from_numpy(vectors), (facts.popularity == 0).unsqueeze(1)
    by_hand = ids[-1 if ids[-1].dim() == 2 else -2].masked_fill(cold, 0.0) + features @ projections(model)[-1]
    torch.testing.assert_close(model.output_table().weight, by_hand)
    with torch.no_grad():
        before = model.user_states(batch)
        for projection in projections(model):
            projection.zero_()
        assert not torch.allclose(model.user_states(batch), before)
    model.user_states(batch).square().sum().backward()
    assert all(projection.grad is not None for projection in projections(model)[:1])


def test_without_a_projection_it_is_the_plain_model(facts, vectors, make_batch):
    torch.manual_seed(0)
    plain = MODELS["sasrec"](facts)
    torch.manual_seed(0)
    model = MODELS["sasrec"](facts)
    attached(model, vectors, facts)
    batch = make_batch([[1, 2, 3], [4]])  # of items with training interactions
    with torch.no_grad():
        projections(model)[0].zero_()
        torch.testing.assert_close(model.user_states(batch), plain.user_states(batch))


def test_tables_are_computed_once_a_step_and_gradients_reach_both_parts(facts, vectors):
    model = MODELS["sasrec"](facts)
    content = attached(model, vectors, facts)
    content.begin()
    table = model.items.weight
    assert table is model.items.weight
    direction = torch.randn_like(table)
    (table * direction).sum().backward()
    known = (facts.popularity > 0).float().unsqueeze(1)
    torch.testing.assert_close(content.item_tables[0].grad, direction * known)
    torch.testing.assert_close(projections(model)[0].grad, torch.from_numpy(vectors).T @ direction)
    with torch.no_grad():
        projections(model)[0].add_(1.0)
    assert table is model.items.weight  # the step is not over
    content.begin()
    assert not torch.allclose(table, model.items.weight)


def test_weights_that_are_read_make_a_kept_table_stale(facts, vectors):
    model, other = MODELS["sasrec"](facts), MODELS["sasrec"](facts)
    content = attached(model, vectors, facts)
    attached(other, vectors, facts)
    with torch.no_grad():
        content.begin()
        model.load_state_dict(other.state_dict())
        torch.testing.assert_close(model.output_table().weight, other.output_table().weight)


def test_only_has_no_id_embedding_and_treats_items_of_one_content_alike(facts, vectors):
    vectors[7] = vectors[8]
    model = MODELS["sasrec"](facts)
    content = attached(model, vectors, facts, mode="only")
    assert content.item_tables == []
    assert all(len(one) != facts.n_items for one in model.parameters())
    assert not any("original" in name for name in model.state_dict())
    table = model.output_table().weight
    torch.testing.assert_close(table[7], table[8])
    torch.testing.assert_close(table, torch.from_numpy(vectors) @ projections(model)[0])


def test_init_starts_ids_at_projected_features_and_leaves_them_free(facts, vectors):
    model = MODELS["sasrec"](facts)
    size = float(model.items.weight.detach().std())
    assert ItemFeatures(Column("made"), mode="init").attach(model, vectors, facts.popularity) is None
    weight = model.items.weight
    assert isinstance(weight, nn.Parameter)
    assert projections(model) == []
    assert np.linalg.matrix_rank(weight.detach().numpy(), tol=1e-5) == WIDTH
    assert 0.5 < float(weight.detach().std()) / size < 2


def test_a_model_without_an_item_table_is_refused(facts, vectors):
    class Fixed(Backbone):
        def user_states(self, batch):
            raise NotImplementedError

        def output_table(self):
            return None

    with pytest.raises(UserError, match=r"features: Fixed has no item table that features could join\. "):
        attached(Fixed(), vectors, facts)
