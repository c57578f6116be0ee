"""HSTU on packed histories beside the published block in a padded window, written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.hstu import HSTU
from recsys_lt.data.interactions import Interactions
from recsys_lt.data.loader import RankBatches
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.errors import UserError

L = 12


def model_of(facts, **settings) -> HSTU:
    torch.manual_seed(0)
    model = HSTU(facts, **{
        "width": 8, "heads": 3, "head_width": 2, "max_length": L, "dropout": 0.0, "hidden_dropout": 0.0, **settings,
    })  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def written_out(model: HSTU, row: list[int], times: list[int] | None = None) -> Tensor:
    """States of a row, in a left-padded window whose pads are zeroed in every block: [n, d]."""
    n_pads = L - len(row)
    real = torch.tensor([0.0] * n_pads + [1.0] * len(row)).unsqueeze(1)
    x = model.items.weight[[0] * n_pads + row] * math.sqrt(model.items.embedding_dim) + model.positions.weight
    for block in model.blocks:
        x = x * real
        z = F.silu(F.layer_norm(x, x.shape[1:], eps=1e-6) @ block.into.weight.T)
        u, q, k, v = z.chunk(4, 1)
        answers = torch.zeros_like(u)
        for head in torch.arange(u.shape[1]).chunk(block.heads):
            for t in range(L):
                for s in range(t + 1):
                    bias = block.by_distance.weight[t - s, 0]
                    if times is not None:
                        gap = times[t] - times[s]
                        bias = bias + block.by_time.weight[min(int(math.log(max(1, gap)) / 0.301), 128), 0]
                    answers[t, head] = answers[t, head] + F.silu(q[t, head] @ k[s, head] + bias) / L * v[s, head]
        x = x + block.out(u * F.layer_norm(answers, answers.shape[1:], eps=1e-6))
    return F.normalize(x[n_pads:], dim=1)


def test_states_are_those_of_a_padded_window(facts, make_batch, histories, assert_same_with_gradients, float64):
    model = model_of(facts)
    rows = histories(5, L)
    batch = make_batch(rows)
    assert_same_with_gradients(
        model, lambda: model.states(batch), lambda: torch.cat([written_out(model, row) for row in rows])
    )
    torch.testing.assert_close(model.user_states(batch), model.states(batch)[batch.offsets[1:] - 1])


def test_a_time_aware_model_also_weighs_the_time_between_events(
    facts, make_batch, histories, assert_same_with_gradients, float64
):
    model = model_of(facts, time_bias=True)
    rows = histories(4, L)
    stamps = [sorted(torch.randint(0, 10 ** (2 + 3 * b), (len(row),)).tolist()) for b, row in enumerate(rows)]
    batch = replace(make_batch(rows), times=torch.tensor([time for of_row in stamps for time in of_row]))

    def plain() -> Tensor:
        padded = [[0] * (L - len(of_row)) + of_row for of_row in stamps]
        return torch.cat([written_out(model, *pair) for pair in zip(rows, padded, strict=True)])

    assert_same_with_gradients(model, lambda: model.states(batch), plain)
    torch.testing.assert_close(model.user_states(batch), model.states(batch)[batch.offsets[1:] - 1])
    assert not torch.allclose(model.states(batch), model.states(replace(batch, times=batch.times // 10)))


def test_is_causal(facts, make_batch, float64):
    model = model_of(facts)
    before, after = (model.states(make_batch([[1, 2, 3, x, 5]])) for x in (4, 9))
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.isclose(before[3:], after[3:]).all(1).any()


def test_a_row_does_not_depend_on_its_batch(facts, make_batch, histories):
    model = model_of(facts, dropout=0.4, hidden_dropout=0.3).train()
    rows = histories(6, L)
    together = model.user_states(make_batch(rows))
    assert torch.equal(together, model.user_states(make_batch(rows)))
    assert not torch.allclose(together, model.user_states(make_batch(rows, epoch=1)))
    for row in (0, 1, 4):
        torch.testing.assert_close(model.user_states(make_batch([rows[row]], rows=[row])), together[[row]])


def test_scores_are_cosines_over_the_temperature(facts, make_batch):
    model = model_of(facts, temperature=0.1)
    states, table = model.user_states(make_batch([[1, 2], [3]])), model.output_table()
    scores = table.block(states, 0, table.n_items)
    expected = F.cosine_similarity(states.unsqueeze(1), model.items.weight.unsqueeze(0), dim=2) / 0.1
    torch.testing.assert_close(scores, expected)
    assert [id(one) for one in model.item_tables()] == [id(model.items.weight)]


def test_parameters_on_beauty_and_task(beauty, parameter_count):
    model = HSTU(beauty, blocks=4, heads=2, head_width=4)
    # Items and positions; per block 64 x 32 into, 8 x 64 + 64 out, 50 distances.
    assert parameter_count(model) == (12101 + 50) * 64 + 4 * (64 * 32 + 8 * 64 + 64 + 50)
    assert model.task == EveryPosition(50)
    assert HSTU(beauty, time_bias=True).task == EveryPosition(50, times=True)
    assert parameter_count(HSTU(beauty, time_bias=True)) - parameter_count(HSTU(beauty)) == 2 * 129


def dated(with_times: bool):
    events = 3 * 6
    interactions = Interactions(
        users=np.repeat(np.arange(3, dtype=np.int32), 6),
        items=np.tile(np.arange(6, dtype=np.int32), 3),
        user_ids=np.array(["a", "b", "c"]),
        item_ids=np.array(list("uvwxyz")),
        times=np.arange(events, dtype=np.float64) * 100 + 0.5 if with_times else None,
    )
    return Preparation(k_core=1)(interactions, "dated")[0]


def test_training_and_ranking_batches_bring_the_times_of_their_events(facts):
    data = dated(True)
    model = model_of(facts, time_bias=True, max_length=3)
    batch = model.task.batch(data, np.arange(2), 0)
    assert batch.times.tolist() == [0, 100, 200, 600, 700, 800]  # four items are for training, the last a target
    assert batch.times.dtype == torch.int64
    ranking = RankBatches(data, np.array([1]), "test", 3, 8, with_seen=False)[0]
    assert ranking.times.tolist() == [800, 900, 1000]
    assert ranking.latest(2).times.tolist() == [900, 1000]
    assert model.user_states(ranking).shape == (1, 8)
    assert EveryPosition(3).batch(data, np.arange(2), 0).times is None  # who does not ask does not pay


def test_a_time_aware_model_refuses_histories_without_times(facts):
    model = model_of(facts, time_bias=True)
    with pytest.raises(UserError, match=r"model\.time_bias reads when events happened"):
        model.states(model.task.batch(dated(False), np.arange(2), 0))
    with pytest.raises(UserError, match="HSTU has no padded form"):
        model.padded_states(torch.zeros(1, L, dtype=torch.int64), torch.ones(1, L, dtype=torch.bool))


@pytest.mark.parametrize("settings", [{"heads": 0}, {"head_width": 0}, {"blocks": 0}, {"temperature": 0.0}])
def test_settings_are_checked(facts, settings):
    with pytest.raises(UserError, match="HSTU has"):
        HSTU(facts, **settings)
