"""Linear attention: both orders of the products and the chunks beside a plain loop; what a layout lets an event see."""

import pytest
import torch
from torch import Tensor

from recsys_lt.backbones.attention import Layout
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.backbones.linear_attention import CHUNK, LinearAttention, attended, by_chunks, by_pairs, by_sums


def parts(length: int, queries: int | None = None, width: int = 3) -> list[Tensor]:
    torch.manual_seed(length)
    sizes = (queries or length, length, length)
    return [torch.randn(2, 2, n, width, dtype=torch.float64, requires_grad=True) for n in sizes]


def by_loop(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    def answer(t: int) -> Tensor:
        seen = range(t + 1 if causal else k.shape[2])
        return sum((q[:, :, t] * k[:, :, s]).sum(2, keepdim=True) * v[:, :, s] for s in seen)  # type: ignore[return-value]

    return torch.stack([answer(t) for t in range(q.shape[2])], 2)


def assert_same(ways, given):
    results = []
    for way in ways:
        out = way(*given)
        results.append(
            (out, *torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), given))
        )
    for other in results[1:]:
        for ours, theirs in zip(other, results[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("length", "queries"), [(1, 1), (7, 7), (9, 1)])
def test_both_orders_of_the_products_are_the_loop(length, queries):
    ways = (lambda *x: by_loop(*x, causal=False), lambda *x: by_pairs(*x, causal=False), by_sums)
    assert_same(ways, parts(length, queries))


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK - 5])
def test_chunks_are_the_causal_pairs(length):
    assert_same((lambda *x: by_pairs(*x, causal=True), by_chunks), parts(length))


def test_causal_pairs_are_the_loop():
    assert_same((lambda *x: by_loop(*x, causal=True), lambda *x: by_pairs(*x, causal=True)), parts(6))


@pytest.mark.parametrize(
    ("length", "queries", "causal", "largest"),
    [
        (4, 4, False, 4 * 4),  # short: what is held is of size length x length
        (300, 300, False, 8 * 8),  # long: of width x width
        (300, 1, False, 300),  # one query
        (40, 40, True, 40 * 40),
        (300, 300, True, 5 * CHUNK * CHUNK),  # chunks
    ],
)
def test_the_cheaper_order_is_taken(length, queries, causal, largest):
    """Of all products on the way, none is larger than the cheaper order has them, but the answers."""
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.bmm.default and out.shape[1:].numel() != queries * 8:
                sizes.append(out.numel())
            return out

    q, k, v = (torch.randn(1, 1, n, 8) for n in (queries, length, length))
    with Sizes():
        attended(q, k, v, causal)
    assert max(sizes) == largest


class Plain(LinearAttention):
    """Maps of one number for each event are enough."""

    def query_map(self, q, n):
        return q / n

    def key_map(self, k):
        return k


class OverRows(Plain):
    """Keys normalised over the events of a row, as one reading of LinRec has it."""

    def __init__(self, layout, *settings):
        super().__init__(*settings)
        self.rows, self.n_rows = layout.batch.rows_of_events(), len(layout.batch)

    def key_map(self, k):
        norms = k.new_zeros(self.n_rows, *k.shape[1:]).index_add_(0, self.rows, k * k).sqrt()
        return k / norms[self.rows]


def answers(attend: LinearAttention, layout: Layout, last: bool = False, changed: int | None = None) -> Tensor:
    """Answers to random queries; event ``changed`` has another key."""
    torch.manual_seed(0)
    query, key_value = torch.randn(len(layout.batch.items), 4), torch.randn(len(layout.batch.items), 8)
    if changed is not None:
        key_value[changed, :4] += 1
    queries = layout.last() if last else layout.every()
    return attend(query if queries.events is None else query[queries.events], key_value, torch.zeros(8), queries)


def test_causal_answers_do_not_depend_on_later_events_unless_keys_are_normalised_over_rows(make_batch, float64):
    layout = Layout(make_batch([[1, 2, 3, 4], [5, 6]]), 5)
    changed = {}
    for attend in (Plain(2, 5, RowDropout(0.0, 0)), OverRows(layout, 2, 5, RowDropout(0.0, 0))):
        difference = answers(attend, layout) - answers(attend, layout, changed=2)
        changed[type(attend)] = difference.ne(0).any(1).tolist()
    assert changed[Plain] == [False, False, True, True, False, False]
    assert changed[OverRows] == [True, True, True, True, False, False]  # what will be leaks into what was


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_rows_of_any_length_are_those_of_a_loop(make_batch, histories, float64, causal, last):
    """Rows longer than a chunk too, beside short ones; a query that is the last sees its whole row."""
    rows = [*histories(6, 2 * CHUNK + 3), [1, 2]]
    layout = Layout(make_batch(rows), 2 * CHUNK + 3, causal)
    torch.manual_seed(0)
    query, key_value = torch.randn(len(layout.batch.items), 4), torch.randn(len(layout.batch.items), 8)
    expected = []
    for q, kv in zip(query.split(layout.batch.lengths), key_value.split(layout.batch.lengths), strict=True):
        q, k, v = (part.unflatten(1, (2, 2)).transpose(0, 1).unsqueeze(0) for part in (q / len(q), *kv.chunk(2, 1)))
        expected.append(by_loop(q, k, v, causal)[0].transpose(0, 1).flatten(1)[-1 if last else 0 :])
    torch.testing.assert_close(answers(Plain(2, 200, RowDropout(0.0, 0)), layout, last), torch.cat(expected))


def test_dropout_is_of_answers_by_event(make_batch):
    layout = Layout(make_batch([[1, 2, 3], [1, 2, 3]]), 4)
    dropped = Plain(2, 4, RowDropout(0.5, 3)).train()
    kept = answers(dropped.eval(), layout)
    first = answers(dropped.train(), layout)
    assert torch.equal(first, answers(dropped, layout))
    zeros = first == 0
    torch.testing.assert_close(first[~zeros], 2 * kept[~zeros])
    assert 0.1 < zeros.float().mean() < 0.9
    assert not torch.equal(zeros[:3], zeros[3:])
