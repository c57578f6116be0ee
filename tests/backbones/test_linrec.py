"""LinRec in both forms beside its attention written out for one row at a time."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.linrec import CausalLinRec, LinRec
from recsys_lt.data.tasks.masked_items import MaskedItems
from recsys_lt.data.tasks.next_item import EveryPosition

L = 14
MASK = 30
CAUSAL = {"width": 8, "blocks": 2, "heads": 2, "max_length": L, "dropout": 0.0}


def drawn(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def features(x: Tensor) -> Tensor:
    x = torch.where(x > 0, x, x.exp() - 1)
    return x / x.square().sum(1, keepdim=True).sqrt()


def attention(block, query: Tensor, key_value: Tensor, causal: bool) -> Tensor:
    """Of one row: [n, d] and [n, 2d] -> [n, d]."""
    heads, answers = block.attend.heads, []
    parts = (part.chunk(heads, 1) for part in (query, *key_value.chunk(2, 1)))
    for q, k, v in zip(*parts, strict=True):
        weights = features(q) @ features(k).T / q.shape[1] ** 0.5
        answers.append((weights.tril() if causal else weights) @ v)
    return torch.cat(answers, 1)


def test_masked_states_are_those_written_out(facts, make_batch, histories, assert_same_with_gradients, float64):
    torch.manual_seed(0)
    model = drawn(LinRec(facts, width=8, heads=2, max_length=L, dropout=0.0))
    rows = histories(7, L)
    for row in rows:
        row[-1] = MASK

    def written_out(row: list[int]) -> Tensor:
        table = torch.cat([model.items.weight, model.mask.unsqueeze(0)])
        x = model.norm(table[row] + model.positions.weight[L - len(row) :])
        for block in model.blocks:
            y = attention(block, block.query(x), block.key_value(x), causal=False)
            x = block.attention_norm(x + block.out(y))
            x = block.mlp_norm(x + block.mlp(x))
        return x[-1]

    batch = make_batch(rows)
    batch = replace(batch, target_events=batch.offsets[1:] - 1)
    assert_same_with_gradients(
        model, lambda: model.states(batch), lambda: torch.stack([written_out(row) for row in rows])
    )
    assert model.task == MaskedItems(L, 0.2, 0.1)


def test_causal_states_are_those_written_out(facts, make_batch, histories, assert_same_with_gradients, float64):
    torch.manual_seed(0)
    model = drawn(CausalLinRec(facts, **CAUSAL))

    def written_out(row: list[int]) -> Tensor:
        x = model.items.weight[row] * 8**0.5 + model.positions.weight[L - len(row) :]
        for block in model.blocks:
            y = attention(block, block.query(block.norm_query(x)), block.key_value(x), causal=True)
            x = block.norm(block.out(y) + x)
            x = x + block.outer(F.relu(block.inner(x)))
        return model.norm(x)

    rows = histories(7, L)
    assert_same_with_gradients(
        model, lambda: model.states(make_batch(rows)), lambda: torch.cat([written_out(row) for row in rows])
    )
    assert model.task == EveryPosition(L)


@pytest.mark.parametrize("gated", [False, True])
def test_the_causal_form_is_causal(facts, make_batch, float64, gated):
    torch.manual_seed(0)
    model = drawn(CausalLinRec(facts, **CAUSAL, gated=gated))
    before, after = (model.states(make_batch([[1, 2, 3, x, 5]])) for x in (4, 9))
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.isclose(before[3:], after[3:]).all(1).any()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_user_states_are_the_last_positions_in_any_company(facts, make_batch, histories, dropout):
    torch.manual_seed(0)
    model = drawn(CausalLinRec(facts, **CAUSAL | {"dropout": dropout})).train()
    rows = histories(7, L)
    batch = make_batch(rows)
    together = model.user_states(batch)
    torch.testing.assert_close(together, model.states(batch)[batch.offsets[1:] - 1])
    for row in (0, 1, 5):
        torch.testing.assert_close(model.user_states(make_batch([rows[row]], rows=[row])), together[[row]])


def test_a_masked_form_s_row_does_not_depend_on_its_batch(facts, make_batch, histories, check_no_history):
    torch.manual_seed(0)
    model = drawn(LinRec(facts, width=8, heads=2, max_length=L, dropout=0.4)).train()
    rows = histories(5, L - 1)
    together = model.user_states(make_batch(rows))
    for row in (0, 1, 4):
        torch.testing.assert_close(model.user_states(make_batch([rows[row]], rows=[row])), together[[row]])
    check_no_history(model)
