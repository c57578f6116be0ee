"""Each compiled kernel against its plain form."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.backbones.attention import HistoryAttention, Layout
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.data.streams import keys_of, plain_integers
from recsys_lt.losses.ce import CE
from recsys_lt.losses.loss import Draw
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled_losses import BCE, SCE
from recsys_lt.native import functions
from recsys_lt.native.functions import NativeDropout, exp_rows, integers
from tests.backbones.test_sasrec import L, batch_of
from tests.losses.loss_cases import plain

HISTORIES = [[1], [2, 3, 4], list(range(L)), [5, 6], list(range(L - 1)), [7] * 9]


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("last", [False, True])
def test_the_kernel_is_the_plain_form(compiled: ctypes.CDLL, heads: int, dropout: float, last: bool) -> None:
    torch.manual_seed(1)
    width = 24
    layout = Layout(batch_of(HISTORIES), L)
    queries = layout.last() if last else layout.every()
    attend = HistoryAttention(heads, L, RowDropout(dropout, salt=2))
    n_events = len(layout.position)
    shapes = [(len(HISTORIES) if last else n_events, width), (n_events, 2 * width), (2 * width,)]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    by_out = torch.randn(shapes[0])

    fast = attend(*inputs, queries)
    assert fast.grad_fn is not None
    assert "NativeAttention" in fast.grad_fn.name()
    plain = attend.plain(*inputs, queries)
    torch.testing.assert_close(fast, plain)
    for of_fast, of_plain in zip(
        torch.autograd.grad(fast, inputs, by_out), torch.autograd.grad(plain, inputs, by_out), strict=True
    ):
        torch.testing.assert_close(of_fast, of_plain, atol=1e-5, rtol=1e-4)


def test_no_dropout_when_ranking(compiled: ctypes.CDLL) -> None:
    layout = Layout(batch_of(HISTORIES), L)
    attend = HistoryAttention(1, L, RowDropout(0.9, salt=2)).eval()
    query, pad = torch.randn(len(layout.position), 8), torch.randn(16)
    key_value = torch.randn(len(layout.position), 16)
    torch.testing.assert_close(
        attend(query, key_value, pad, layout.every()), attend.plain(query, key_value, pad, layout.every())
    )


def test_a_longer_history_than_is_read_is_refused() -> None:
    with pytest.raises(ValueError, match="a history of 4 events, where 3 are read"):
        Layout(batch_of([[1], [2, 3, 4, 5]]), 3)


def test_exp_is_as_exact_as_float32_allows(compiled: ctypes.CDLL) -> None:
    exact = torch.linspace(-86.9, 88.0, 400_001).view(1, -1)
    x = exact.clone()
    exp_rows(compiled, x)
    assert ((x.double() / exact.double().exp() - 1).abs() < 3e-7).all()


@pytest.mark.parametrize("width", [1, 15, 512, 1300])
def test_sums_of_rows(compiled: ctypes.CDLL, width: int) -> None:
    torch.manual_seed(0)
    scores = torch.randn(7, width) * 5
    x = scores.clone()
    torch.testing.assert_close(exp_rows(compiled, x), scores.double().exp().sum(1).float(), rtol=3e-6, atol=0)
    strided = torch.randn(7, width + 3)
    before = strided.clone()
    exp_rows(compiled, strided[:, 1 : 1 + width])
    torch.testing.assert_close(strided[:, 1 : 1 + width], before[:, 1 : 1 + width].exp())
    assert torch.equal(strided[:, 0], before[:, 0])
    assert torch.equal(strided[:, 1 + width :], before[:, 1 + width :])


def test_edges(compiled: ctypes.CDLL) -> None:
    x = torch.tensor([[-torch.inf, -1e30, -88.0, 89.0, torch.inf, torch.nan, 0.0]])
    exp_rows(compiled, x)
    assert x[0, :3].tolist() == [0, 0, 0]
    assert x[0, 3:5].isinf().all()
    assert x[0, 5].isnan()
    assert x[0, 6] == 1


def test_cross_entropy_with_the_kernel_is_the_textbook_one(compiled: ctypes.CDLL) -> None:
    torch.manual_seed(0)
    states, table = torch.randn(30, 16, requires_grad=True), torch.randn(900, 16, requires_grad=True)
    targets = torch.randint(900, (30,))
    fast = CE()(states, targets, OutputTable(table, None))
    plain = CE().by_blocks(states, targets, OutputTable(table, None))
    torch.testing.assert_close(fast[1], plain[1], atol=1e-5, rtol=1e-5)
    for of_fast, of_plain in zip(
        torch.autograd.grad(fast[0], (states, table)), torch.autograd.grad(plain[0], (states, table)), strict=True
    ):
        torch.testing.assert_close(of_fast, of_plain, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("width", [1, 15, 512, 1300])
def test_rows_are_shifted(compiled: ctypes.CDLL, width: int) -> None:
    torch.manual_seed(0)
    scores, shifts = torch.randn(7, width + 2)[:, 1 : 1 + width] * 5, torch.randn(7)
    expected = (scores - shifts.unsqueeze(1)).exp()
    sums = exp_rows(compiled, scores, shifts)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(sums, expected.double().sum(1).float(), rtol=3e-6, atol=0)
    assert exp_rows(compiled, torch.tensor([[torch.nan, 0.0]]), torch.zeros(1)).isnan().all()


@given(
    high=st.one_of(
        st.integers(1, 70), st.integers(1, 1 << 62), st.sampled_from([1 << 31, (1 << 31) + 1, (1 << 62) - 1])
    ),
    key=st.integers(-(1 << 63), (1 << 63) - 1),
    count=st.integers(0, 40),
)
@settings(deadline=None, max_examples=60)
def test_integers(compiled: ctypes.CDLL, high: int, key: int, count: int) -> None:
    keys = keys_of(key, torch.arange(5))
    assert torch.equal(integers(compiled, keys, count, high), plain_integers(keys, count, high))


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (9, 5), (33, 64), (6, 3, 7)])
@pytest.mark.parametrize("relu", [False, True])
def test_dropout(compiled: ctypes.CDLL, shape: tuple[int, ...], relu: bool) -> None:
    torch.manual_seed(0)
    layer = RowDropout(0.35, salt=3)
    x = torch.randn(shape, requires_grad=True)
    keys = keys_of(1, torch.arange(shape[0]))
    by_out = torch.randn(shape)

    fast = NativeDropout.apply(x, keys, layer.salt, layer.cut, layer.scale, relu, compiled)
    (by_fast,) = torch.autograd.grad(fast, x, by_out)
    keep = layer.kept(x.shape[1:].numel(), keys).view_as(x)
    plain = (x.relu() if relu else x) * keep * layer.scale
    (by_plain,) = torch.autograd.grad(plain, x, by_out)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(by_fast, by_plain)


def test_the_layer_gives_both_types_the_same_mask() -> None:
    layer, keys = RowDropout(0.5, salt=1), keys_of(2, torch.arange(20))
    x = torch.ones(20, 6)
    assert torch.equal(layer(x, keys), layer(x.double(), keys).float())
    assert torch.equal(layer.relu(x - 2, keys), torch.zeros_like(x))


def test_dropout_of_very_wide_rows(compiled: ctypes.CDLL) -> None:
    layer, keys = RowDropout(0.5, salt=1), keys_of(3, torch.arange(2))
    width = 3_000_001
    fast = layer(torch.ones(2, width), keys)
    assert torch.equal(fast != 0, layer.kept(width, keys))


def test_what_is_not_a_number_stays_so(compiled: ctypes.CDLL) -> None:
    layer, keys = RowDropout(0.5, salt=1), keys_of(3, torch.arange(4))
    x = torch.full((4, 50), torch.nan)
    kept = layer.kept(50, keys)
    for masked in (layer(x, keys), layer.relu(x, keys)):
        assert masked[kept].isnan().all()


def test_a_row_without_a_key_is_refused(compiled: ctypes.CDLL) -> None:
    with pytest.raises(ValueError, match="3 keys for 4 rows"):
        RowDropout(0.5, salt=1)(torch.ones(4, 2), keys_of(3, torch.arange(3)))


@pytest.mark.parametrize(
    ("n", "k", "items", "width"), [(1, 1, 1, 1), (5, 3, 7, 20), (40, 11, 300, 64), (3, 900, 4, 83)]
)
def test_scores_and_gradients(compiled: ctypes.CDLL, n: int, k: int, items: int, width: int) -> None:
    torch.manual_seed(0)
    states, table, weights = torch.randn(n, width), torch.randn(items, width), torch.rand(n)
    ids = torch.randint(items, (n, k))
    by_scores = torch.randn(n, k)
    vectors = table[ids]
    torch.testing.assert_close(
        functions.scores(compiled, states, table, ids), (states.unsqueeze(1) * vectors).sum(2), atol=1e-4, rtol=1e-4
    )

    by_states = torch.ones_like(states)  # what is there is added to
    functions.add_by_states(compiled, by_states, table, ids, by_scores)
    torch.testing.assert_close(by_states, 1 + (by_scores.unsqueeze(2) * vectors).sum(1), atol=1e-4, rtol=1e-4)

    by_table = torch.ones_like(table)
    functions.add_by_table(compiled, by_table, states, ids, by_scores, weights)
    share = (by_scores * weights.unsqueeze(1)).unsqueeze(2) * states.unsqueeze(1)
    plain = torch.ones_like(table).index_add_(0, ids.flatten(), share.flatten(0, 1))
    torch.testing.assert_close(by_table, plain, atol=1e-3, rtol=1e-4)


def test_table_gradient_does_not_depend_on_threads(compiled: ctypes.CDLL) -> None:
    torch.manual_seed(0)
    states, weights = torch.randn(200, 64), torch.rand(200)
    ids, by_scores = torch.randint(50, (200, 30)), torch.randn(200, 30)
    threads = torch.get_num_threads()
    answers = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            answers.append(torch.zeros(50, 64))
            functions.add_by_table(compiled, answers[-1], states, ids, by_scores, weights)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_an_item_that_does_not_exist_is_refused(compiled: ctypes.CDLL) -> None:
    for wrong in (-1, 7):
        with pytest.raises(IndexError, match="not in the table of 7"):
            functions.scores(compiled, torch.ones(2, 4), torch.ones(7, 4), torch.tensor([[0, 6], [wrong, 1]]))


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", [SCE(5, 20.0), BCE(2, pool="non_target")])
def test_a_loss_takes_the_kernels_and_stays_what_it_is(
    compiled: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, loss: SCE | BCE, bias: bool, rows: bool
) -> None:
    torch.manual_seed(0)
    n, items, width = 30, 2_000, 64
    states, weight = torch.randn(n, width, requires_grad=True), torch.randn(items, width, requires_grad=True)
    of_items = torch.randn(items, requires_grad=True) if bias else None
    weights, targets = torch.rand(3, n), torch.randint(items, (n,))
    draw = Draw(keys=keys_of(7, torch.arange(n)), step_key=1, rows=torch.arange(n), seen_items=None, seen_offsets=None)
    inputs = [x for x in (states, weight, of_items) if x is not None]
    called = []
    taken = loss._gathered
    monkeypatch.setattr(loss, "_gathered", lambda *of: called.append(of[2]) or taken(*of))

    fast, fast_losses = loss(states, targets, OutputTable(weight, of_items, rows), weights, draw)
    slow, plain_losses = plain(loss, states, targets, OutputTable(weight, of_items), weights, draw)
    assert called == [compiled]
    torch.testing.assert_close(fast_losses, plain_losses, atol=1e-4, rtol=1e-4)
    by_totals = torch.rand(3)
    for of_fast, of_plain in zip(
        torch.autograd.grad(fast, inputs, by_totals), torch.autograd.grad(slow, inputs, by_totals), strict=True
    ):
        assert of_fast.is_sparse == (rows and of_fast.shape[0] == items)
        torch.testing.assert_close(of_fast.to_dense(), of_plain, atol=1e-4, rtol=1e-3)
