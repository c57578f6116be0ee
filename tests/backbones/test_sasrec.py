import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.attention import Layout
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.streams import keys_of
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.errors import UserError

L = 12


def make(n_items: int = 40, **changes: object) -> SASRec:
    torch.manual_seed(3)
    settings: dict[str, object] = {"width": 16, "blocks": 2, "heads": 2, "max_length": L, "dropout": 0.0}
    facts = DataFacts(50, n_items, torch.zeros(n_items))
    model = SASRec(facts, **(settings | changes)).double()  # type: ignore[arg-type]
    with torch.no_grad():  # the reference starts biases at zero, where mistakes with pads would not show
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


def batch_of(histories: list[list[int]], keys: list[int] | None = None) -> Batch:
    lengths = [len(history) for history in histories]
    flat = torch.tensor([item for history in histories for item in history])
    n = len(histories)
    return Batch(
        users=torch.arange(n),
        items=flat,
        offsets=torch.tensor([0, *lengths]).cumsum(0),
        lengths=tuple(lengths),
        targets=flat,
        streams=keys_of(5, torch.tensor(keys if keys is not None else list(range(n)))),
        target_events=torch.arange(len(flat)),
        step_key=6,
        global_targets=len(flat),
    )


def padded_reference(model: SASRec, history: list[int]) -> Tensor:
    """The published model, written down from the specification: left-padded, nn.MultiheadAttention, zeroed pads."""
    width, n_pads = model.items.embedding_dim, L - len(history)
    real = torch.tensor([0.0] * n_pads + [1.0] * len(history)).double().unsqueeze(1)
    ids = torch.tensor([0] * n_pads + history)
    x = (model.items.weight[ids] * math.sqrt(width) + model.positions.weight) * real
    for block in model.blocks:
        attention = nn.MultiheadAttention(width, block.attend.heads, batch_first=True).double()
        state = {
            "in_proj_weight": torch.cat([block.query.weight, block.key_value.weight]),
            "in_proj_bias": torch.cat([block.query.bias, block.key_value.bias]),
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
        query = F.layer_norm(x, (width,), block.norm_query.weight, block.norm_query.bias, 1e-8)
        mask = torch.ones(L, L, dtype=torch.bool).triu(1)
        out, _ = torch.func.functional_call(attention, state, (query[None], x[None], x[None]), {"attn_mask": mask})
        x = out[0] + x
        x = F.layer_norm(x, (width,), block.norm.weight, block.norm.bias, 1e-8)
        x = (x + block.outer(F.relu(block.inner(x)))) * real
    x = F.layer_norm(x, (width,), model.norm.weight, model.norm.bias, 1e-8)
    return x[n_pads:]


HISTORIES = [[1], [2, 3, 4], list(range(5, 5 + L)), [7, 7, 7, 7, 7, 7, 7, 7, 7], [1, 2], list(range(20, 31))]


def test_equals_the_padded_reference_in_value_and_gradient() -> None:
    model = make()
    batch = batch_of(HISTORIES)
    ours = model.states(batch)
    theirs = torch.cat([padded_reference(model, history) for history in HISTORIES])
    torch.testing.assert_close(ours, theirs)
    probe = torch.randn_like(ours)
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad((ours * probe).sum(), parameters),
        torch.autograd.grad((theirs * probe).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def padded_gated(model: SASRec, history: list[int]) -> Tensor:
    """LiGR's blocks in a left-padded window, written down from the specification."""
    width, n_pads = model.items.embedding_dim, L - len(history)
    real = torch.tensor([0.0] * n_pads + [1.0] * len(history)).double().unsqueeze(1)
    x = model.items.weight[[0] * n_pads + history] * math.sqrt(width) + model.positions.weight
    for block in model.blocks:
        x = x * real
        state = {
            "in_proj_weight": torch.cat([block.query.weight, block.key_value.weight]),
            "in_proj_bias": torch.cat([block.query.bias, block.key_value.bias]),
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
        attention = nn.MultiheadAttention(width, block.attend.heads, batch_first=True).double()
        normed = block.norm_attention(x)[None]
        mask = torch.ones(L, L, dtype=torch.bool).triu(1)
        out, _ = torch.func.functional_call(attention, state, (normed, normed, normed), {"attn_mask": mask})
        x = x + torch.sigmoid(x @ block.gate_attention.weight.T + block.gate_attention.bias) * out[0]
        w_a, w_b = block.inner.weight.chunk(2)
        z = block.norm_hidden(x)
        hidden = (F.silu(z @ w_a.T) * (z @ w_b.T)) @ block.outer.weight.T
        x = x + torch.sigmoid(x @ block.gate_hidden.weight.T + block.gate_hidden.bias) * hidden
    return F.layer_norm(x, (width,), model.norm.weight, model.norm.bias, 1e-8)[n_pads:]


def test_gated_blocks_equal_those_written_down_in_value_and_gradient() -> None:
    model = make(gated=True)
    ours = model.states(batch_of(HISTORIES))
    theirs = torch.cat([padded_gated(model, history) for history in HISTORIES])
    torch.testing.assert_close(ours, theirs)
    probe, parameters = torch.randn_like(ours), list(model.parameters())
    for a, b in zip(
        torch.autograd.grad((ours * probe).sum(), parameters),
        torch.autograd.grad((theirs * probe).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("gated", [False, True])
def test_is_causal(gated: bool) -> None:
    model = make(gated=gated)
    before = model.states(batch_of([[1, 2, 3, 4, 5]]))
    after = model.states(batch_of([[1, 2, 3, 9, 5]]))
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.allclose(before[3:], after[3:])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_row_does_not_depend_on_its_batch(dropout: float, gated: bool) -> None:
    model = make(dropout=dropout, gated=gated)
    together = model.states(batch_of(HISTORIES)).split([len(history) for history in HISTORIES])
    for key, history in enumerate(HISTORIES):
        torch.testing.assert_close(model.states(batch_of([history], [key])), together[key])


def test_asking_again_gives_the_same_dropout_and_another_row_another() -> None:
    model = make(dropout=0.5)
    batch = batch_of([[1, 2, 3], [1, 2, 3]])
    first = model.states(batch)
    assert torch.equal(first, model.states(batch))
    assert not torch.allclose(first[:3], first[3:])


def test_attention_dropout_has_the_law_of_independent_pads() -> None:
    """Mean and variance of the pads' share over many rows, against independent masks on every pad."""
    torch.manual_seed(0)
    model = make(blocks=1, heads=1, dropout=0.4)
    block = model.blocks[0]
    with torch.no_grad():  # all keys alike: each of the L slots has probability 1 / L; pads alone have a value
        block.query.weight.zero_(), block.query.bias.zero_()
        block.key_value.weight.zero_(), block.key_value.bias.fill_(1.0)
    batch = batch_of([[1, 2]] * 4000)
    queries = Layout(batch, L).every()
    width = model.items.embedding_dim
    x = torch.zeros(len(batch.items), width).double()
    out = block.attend(block.query(x), block.key_value(x), block.key_value.bias, queries)[:, 0].view(-1, 2)
    # The second query sees 10 pads and 2 events, all of value 1: the mean of 12 slots kept with probability 0.6.
    kept = out[:, 1]
    assert abs(kept.mean().item() - 1) < 0.01
    assert abs(kept.var().item() - 0.4 / 0.6 / L) < 0.004


@pytest.mark.parametrize(("blocks", "dropout"), [(0, 0.5), (1, 0.0), (2, 0.5)])
def test_user_states_are_the_last_positions(blocks: int, dropout: float) -> None:
    model = make(blocks=blocks, dropout=dropout)
    batch = batch_of(HISTORIES)
    torch.testing.assert_close(model.user_states(batch), model.states(batch)[batch.offsets[1:] - 1])


def test_parameters_on_beauty_and_task() -> None:
    facts = DataFacts(22363, 12101, torch.zeros(12101))
    model = SASRec(facts, width=64, blocks=2, heads=1, max_length=50, dropout=0.6)
    assert abs(sum(p.numel() for p in model.parameters()) / 0.83e6 - 1) < 0.02
    assert model.task == EveryPosition(50)


def test_an_untied_model_scores_with_a_table_of_its_own() -> None:
    model = make(tied=False)
    assert model.output is not None
    assert model.output_table().weight is model.output.weight
    assert [id(table) for table in model.item_tables()] == [id(model.items.weight), id(model.output.weight)]


@pytest.mark.parametrize("change", [{"heads": 3}, {"max_length": 0}, {"dropout": 1.7}])
def test_refuses_nonsense(change: dict[str, object]) -> None:
    with pytest.raises(UserError):
        make(**change)
