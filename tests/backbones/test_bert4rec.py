"""BERT4Rec on packed histories beside nn.TransformerEncoder on padded ones."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from recsys_lt.backbones.bert4rec import BERT4Rec
from recsys_lt.data.tasks.masked_items import MaskedItems
from recsys_lt.errors import UserError

L = 20
MASK = 30  # the number after the last item


def encoder_of(model: BERT4Rec) -> nn.TransformerEncoder:
    """PyTorch's encoder with the model's weights, as views: gradients reach the model."""
    width, heads = model.items.embedding_dim, model.blocks[0].attend.heads
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", 1e-12, batch_first=True)
    return nn.TransformerEncoder(layer, len(model.blocks), enable_nested_tensor=False)


def weights_of(model: BERT4Rec) -> dict[str, Tensor]:
    named = {}
    for n, block in enumerate(model.blocks):
        at = f"layers.{n}."
        named[at + "self_attn.in_proj_weight"] = torch.cat([block.query.weight, block.key_value.weight])
        named[at + "self_attn.in_proj_bias"] = torch.cat([block.query.bias, block.key_value.bias])
        for ours, theirs in {
            "out": "self_attn.out_proj",
            "attention_norm": "norm1",
            "mlp.0": "linear1",
            "mlp.2": "linear2",
            "mlp_norm": "norm2",
        }.items():
            for kind in ("weight", "bias"):
                named[f"{at}{theirs}.{kind}"] = block.get_parameter(f"{ours}.{kind}")
    return named


def padded(model: BERT4Rec, rows: list[list[int]]) -> Tensor:
    """Every state of rows that may hold masks, left-padded: [B, L, d]."""
    table = torch.cat([model.items.weight, model.mask.unsqueeze(0), torch.zeros(1, model.items.embedding_dim)])
    ids = torch.tensor([[MASK + 1] * (L - len(row)) + row for row in rows])
    x = model.norm(table[ids] + model.positions.weight)
    call = torch.func.functional_call
    answer: Tensor = call(encoder_of(model), weights_of(model), (x,), {"src_key_padding_mask": ids == MASK + 1})
    return answer


def model_of(facts, **settings) -> BERT4Rec:
    torch.manual_seed(0)
    model = BERT4Rec(facts, **{"width": 8, "max_length": L, "dropout": 0.0, **settings})
    for parameter in model.parameters():  # biases too, and far enough from nothing for attention to differ
        nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize("blocks", [1, 3])
def test_masked_states_are_those_of_a_padded_encoder(
    facts, make_batch, histories, assert_same_with_gradients, float64, blocks
):
    model = model_of(facts, blocks=blocks)
    rows = histories(7, L)
    for row in rows:
        row[:: max(len(row) // 3, 1)] = [MASK] * len(row[:: max(len(row) // 3, 1)])
    batch = make_batch(rows)
    batch = replace(batch, target_events=(batch.items == MASK).nonzero().squeeze(1))
    real = torch.tensor([[place >= L - len(row) for place in range(L)] for row in rows])
    masked = torch.tensor([[item == MASK for item in [0] * (L - len(row)) + row] for row in rows])

    assert real[masked].all()
    assert_same_with_gradients(model, lambda: model.states(batch), lambda: padded(model, rows)[masked])


def test_ranking_reads_a_mask_after_the_history(facts, make_batch, histories, float64):
    model = model_of(facts).eval()
    assert model.max_length == L - 1
    rows = [*histories(6, L - 1), []]
    expected = padded(model, [[*row, MASK] for row in rows])[:, -1]
    torch.testing.assert_close(model.user_states(make_batch(rows)), expected)


def test_a_row_s_states_do_not_depend_on_its_batch(facts, make_batch, histories, check_no_history):
    """Dropout included, whether evaluated once or twice."""
    model = model_of(facts, dropout=0.4).train()
    rows = histories(5, L - 1)
    together = model.user_states(make_batch(rows))
    assert torch.equal(together, model.user_states(make_batch(rows)))
    assert not torch.allclose(together, model.user_states(make_batch(rows, epoch=1)))
    for row in (0, 1, 4):
        alone = model.user_states(make_batch([rows[row]], rows=[row]))
        torch.testing.assert_close(alone, together[[row]])
    check_no_history(model)


def test_a_masked_item_is_predicted_from_both_sides_and_not_from_pads(facts, make_batch):
    model = model_of(facts)
    batch = replace(make_batch([[1, 2, MASK, 4], [5, 6]]), target_events=torch.tensor([2]))
    seen = {}
    model.items.register_forward_hook(lambda _module, _args, out: seen.update(x=out) or out.retain_grad())
    model.states(batch).norm().backward()
    assert seen["x"].grad.ne(0).any(1).tolist() == [True, True, True, False, False]  # items 1, 2, 4; not 5, 6


def test_parameters_on_beauty_and_task(beauty, parameter_count):
    model = BERT4Rec(beauty)
    assert parameter_count(model) == 877_824  # published as 1.76 M: its code counts the parameters twice
    assert model.task == MaskedItems(50, 0.2, 0.1)
    assert model.items.weight.detach().std() == pytest.approx(0.0117, rel=0.02)  # of N(0, 2 / (I + d)) cut at 0.02
    assert model.blocks[0].query.weight.detach().abs().max() == pytest.approx((6 / 256) ** 0.5, rel=0.01)
    assert model.output_table().weight is model.items.weight


@pytest.mark.parametrize("settings", [{"heads": 3}, {"max_length": 1}, {"blocks": 0}, {"width": 0}])
def test_settings_are_checked(facts, settings):
    with pytest.raises(UserError, match="BERT4Rec has"):
        BERT4Rec(facts, **settings)
