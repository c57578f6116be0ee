"""Cotten4Rec beside its attention written out for one row at a time."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from recsys_lt.backbones.attention import Layout
from recsys_lt.backbones.bert4rec import BERT4Rec
from recsys_lt.backbones.cotten4rec import CosineAttention, Cotten4Rec
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.backbones.linear_attention import LinearAttention
from recsys_lt.data.tasks.masked_items import MaskedItems
from recsys_lt.errors import UserError
from recsys_lt.native import cosine_attention

L = 20
MASK = 30  # the number after the last item


def model_of(facts, **settings) -> Cotten4Rec:
    torch.manual_seed(0)
    model = Cotten4Rec(facts, **{"width": 8, "max_length": L, "dropout": 0.0, **settings})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def written_out(model: Cotten4Rec, row: list[int]) -> Tensor:
    """All states of a row, with masks: [n, d]."""
    table = torch.cat([model.items.weight, model.mask.unsqueeze(0)])
    x = model.norm(table[row] + model.positions.weight[L - len(row) :])
    for block in model.blocks:
        parts = (block.query(x), *block.key_value(x).chunk(2, 1))
        answers = []
        for head, exponent in enumerate(block.attend.exponent[:, 0]):
            width = x.shape[1] // block.attend.heads
            q, k, v = (part[:, head * width : (head + 1) * width] for part in parts)
            cosines = nn.functional.cosine_similarity(q[:, None], k[None], dim=2)
            answers.append(cosines @ v / len(row) ** torch.sigmoid(exponent))
        x = block.attention_norm(x + block.out(torch.cat(answers, 1)))
        x = block.mlp_norm(x + block.mlp(x))
    return x


@pytest.mark.parametrize("heads", [1, 4])  # of width 8 or 2: rows of up to 20 events take either order
def test_masked_states_are_those_written_out(facts, make_batch, histories, assert_same_with_gradients, float64, heads):
    model = model_of(facts, heads=heads)
    rows = histories(7, L)
    for row in rows:
        row[:: max(len(row) // 3, 1)] = [MASK] * len(row[:: max(len(row) // 3, 1)])
    batch = make_batch(rows)
    masked = batch.items == MASK
    batch = replace(batch, target_events=masked.nonzero().squeeze(1))
    assert_same_with_gradients(
        model, lambda: model.states(batch), lambda: torch.cat([written_out(model, row) for row in rows])[masked]
    )
    assert all(block.attend.exponent.grad.ne(0).all() for block in model.blocks)


def test_ranking_reads_a_mask_after_the_history(facts, make_batch, histories, float64):
    model = model_of(facts).eval()
    rows = [*histories(6, L - 1), []]
    expected = torch.stack([written_out(model, [*row, MASK])[-1] for row in rows])
    torch.testing.assert_close(model.user_states(make_batch(rows)), expected)


def test_a_row_s_states_do_not_depend_on_its_batch(facts, make_batch, histories, check_no_history):
    model = model_of(facts, dropout=0.4).train()
    rows = histories(5, L - 1)
    together = model.user_states(make_batch(rows))
    assert torch.equal(together, model.user_states(make_batch(rows)))
    assert not torch.allclose(together, model.user_states(make_batch(rows, epoch=1)))
    for row in (0, 1, 4):
        alone = model.user_states(make_batch([rows[row]], rows=[row]))
        torch.testing.assert_close(alone, together[[row]])
    check_no_history(model)


def test_only_the_attention_differs_from_bert4rec(beauty, parameter_count):
    ours, theirs = Cotten4Rec(beauty, heads=2), BERT4Rec(beauty, heads=2)
    assert parameter_count(ours) - parameter_count(theirs) == 2 * 2  # an exponent for each head of each block
    assert ours.task == MaskedItems(50, 0.2, 0.1)
    assert ours.blocks[1].attend.exponent.tolist() == [[0.5], [0.5]]


def test_a_table_of_its_own_scores_where_untied(facts):
    model = model_of(facts, tied=False)
    assert model.output_table().weight is model.output.weight
    assert [id(table) for table in model.item_tables()] == [id(model.items.weight), id(model.output.weight)]
    assert model_of(facts).output is None


@pytest.mark.parametrize("settings", [{"heads": 3}, {"max_length": 1}])
def test_settings_are_checked(facts, settings):
    with pytest.raises(UserError, match="Cotten4Rec has"):
        Cotten4Rec(facts, **settings)


@pytest.mark.parametrize("longest", [8, 150])
def test_the_triton_kernel_is_the_plain_form(monkeypatch, make_batch, histories, assert_same_with_gradients, longest):
    """By Triton's interpreter, which needs no GPU (see the tests' conftest.py)."""
    pytest.importorskip("triton")
    monkeypatch.setattr(cosine_attention, "usable", lambda *heads: True)
    torch.manual_seed(0)
    attend = CosineAttention(2, longest, RowDropout(0.0, 0))
    layout = Layout(make_batch([*histories(5, longest), [], [3] * longest]), longest, causal=False)
    parts = nn.ParameterList(torch.randn(len(layout.batch.items), width) for width in (32, 64))
    with torch.no_grad():
        attend.exponent.copy_(torch.tensor([[0.5], [-1.0]]))
    model, given = nn.ModuleList([attend, parts]), (torch.zeros(64), layout.every())
    assert_same_with_gradients(
        model, lambda: attend(*parts, *given), lambda: LinearAttention.forward(attend, *parts, *given)
    )


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from recsys_lt.native import triton_kernels
from recsys_lt.native.cosine_attention import _BLOCK

of = {"heads": "i32", "offsets": "*i64", "scale_of": "*fp32", "product": "*fp32"}
constants = {"width": 32, "block": _BLOCK, "eps": 1e-12}
for kind in ("*fp32", "*bf16"):
    for kernel in (triton_kernels.forward, triton_kernels.backward):
        signature = {name: "constexpr" if name in constants else of.get(name, kind) for name in kernel.arg_names}
        source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=constants)
        print(triton.compile(source, target=GPUTarget("cuda", 80, 32)).metadata.shared)
"""


def test_the_triton_kernels_compile_for_a_gpu(tmp_path):
    """For compute capability 8.0; consumer GPUs have 99 KB of shared memory for a program."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [int(line) < 99_000 for line in done.stdout.split()] == [True] * 4
