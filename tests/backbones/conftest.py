"""Small hand-made batches and the checks every backbone must pass."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.streams import key_of, keys_of

Histories = Sequence[Sequence[int]]
MakeBatch = Callable[..., Batch]


@pytest.fixture
def facts() -> DataFacts:
    return DataFacts(n_users=40, n_items=30, popularity=torch.arange(30) % 7)


@pytest.fixture
def beauty() -> DataFacts:
    return DataFacts(n_users=22363, n_items=12101, popularity=torch.ones(12101, dtype=torch.int64))


@pytest.fixture
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def make_batch() -> MakeBatch:
    """Batch of one row per history, one target each; ``rows`` names them in the random streams."""

    def make(histories: Histories, rows: Sequence[int] | None = None, epoch: int = 0) -> Batch:
        rows = range(len(histories)) if rows is None else rows
        lengths = tuple(len(history) for history in histories)
        return Batch(
            users=torch.tensor([row % 40 for row in rows]),
            items=torch.tensor([item for history in histories for item in history], dtype=torch.int64),
            offsets=torch.tensor([0, *lengths]).cumsum(0),
            lengths=lengths,
            targets=torch.zeros(len(histories), dtype=torch.int64),
            streams=keys_of(key_of(1, epoch), torch.tensor(list(rows), dtype=torch.int64)),
            step_key=key_of(1, epoch, 0),
            global_targets=len(histories),
        )

    return make


@pytest.fixture
def histories() -> Callable[..., list[list[int]]]:
    """Random histories of 1..longest items, the first and second rows of length one and longest."""

    def make(count: int, longest: int, seed: int = 0) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
        lengths[:2] = [1, longest]
        return [torch.randint(0, 30, (n,), generator=generator).tolist() for n in lengths]

    return make


@pytest.fixture
def check_rows_stand_alone(make_batch, histories) -> Callable[[Backbone], None]:
    """A row's state, dropout included, is its own: alone, in any company and order, asked once or twice."""

    def check(model: Backbone) -> None:
        model.train()
        rows = histories(9, model.max_length)
        together = model.states(make_batch(rows))
        assert torch.equal(together, model.states(make_batch(rows)))
        assert not torch.allclose(together, model.states(make_batch(rows, epoch=1)))
        order = [4, 0, 8, 2, 6, 1, 7, 3, 5]
        shuffled = model.states(make_batch([rows[r] for r in order], rows=order))
        torch.testing.assert_close(shuffled, together[order])
        for r in (0, 1, 5):
            alone = model.user_states(make_batch([rows[r]], rows=[r]))
            torch.testing.assert_close(alone, together[[r]])
        model.eval()
        assert torch.equal(model.states(make_batch(rows)), model.user_states(make_batch(rows)))

    return check


@pytest.fixture
def check_no_history(make_batch) -> Callable[[Backbone], None]:
    """A row without history has a finite state, beside others and alone."""

    def check(model: Backbone) -> None:
        model.eval()
        beside = model.user_states(make_batch([[1, 2], [], [3]]))
        alone = model.user_states(make_batch([[]], rows=[1]))
        assert beside.isfinite().all()
        torch.testing.assert_close(alone, beside[[1]])

    return check


@pytest.fixture
def assert_same_with_gradients() -> Callable[..., None]:
    """Two ways to the same states [B, d] have equal values and parameter gradients."""

    def check(model: Backbone, fast: Callable[[], Tensor], plain: Callable[[], Tensor]) -> None:
        results = []
        for way in (fast, plain):
            model.zero_grad()
            states = way()
            weights = torch.linspace(-1, 1, states.numel()).view_as(states)
            (states * weights).sum().backward()
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            results.append((states.detach(), gradients))
        (value, gradients), (plain_value, plain_gradients) = results
        torch.testing.assert_close(value, plain_value)
        for name, gradient in plain_gradients.items():
            if name != "items.pad":  # never learned, whatever the plain form says
                torch.testing.assert_close(gradients[name], gradient, msg=lambda m, n=name: f"{n}: {m}")

    return check


@pytest.fixture
def left_padded() -> Callable[..., Tensor]:
    """A window of item and pad vectors by a plain loop, [B, length, d]."""

    def pad(items: Tensor, pad_vector: Tensor, rows: Histories, length: int) -> Tensor:
        return torch.stack(
            [torch.stack([pad_vector] * (length - len(row)) + [items[item] for item in row]) for row in rows]
        )

    return pad


def _parameter_count(model: Backbone) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.fixture
def parameter_count() -> Callable[[Backbone], int]:
    return _parameter_count
