"""Adam on rows of a table against Adam on whole tables."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from recsys_lt.optim.lazy_adam import LazyAdam, clip_norm
from recsys_lt.optim.rule import Plain
from tests.optim.problems import ADAM

ITEMS, D = 30, 4


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sparse(ids: Tensor, rows: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(ids.unsqueeze(0), rows, (ITEMS, *rows.shape[1:]), check_invariants=True)


def pair() -> tuple[nn.Parameter, nn.Parameter]:
    start = numbers(ITEMS, D, seed=0)
    return nn.Parameter(start.clone()), nn.Parameter(start.clone())


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_where_every_row_is_touched_it_is_adam_to_the_last_bit(weight_decay: float) -> None:
    dense, lazy = pair()
    optimizers = [Plain(ADAM, 0.01, weight_decay).build([dense]), Plain(LazyAdam, 0.01, weight_decay).build([lazy])]
    for step in range(30):
        gradient = numbers(ITEMS, D, seed=step + 1) * (1 + step % 3)
        order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(step))
        dense.grad, lazy.grad = gradient, sparse(order, gradient[order])
        for optimizer in optimizers:
            optimizer.step()
        assert torch.equal(dense, lazy)


def test_untouched_rows_stand_still_and_touched_ones_get_adams_update() -> None:
    """The plain form: Adam's formulas for the touched rows, one by one."""
    lr, decay, (b1, b2), eps = 0.01, 0.1, (0.9, 0.999), 1e-8
    _, lazy = pair()
    expected = lazy.detach().double().clone()
    first, second = torch.zeros_like(expected), torch.zeros_like(expected)
    optimizer = Plain(LazyAdam, lr, decay).build([lazy])
    for step in range(1, 21):
        ids = torch.randint(0, ITEMS, (6,), generator=torch.Generator().manual_seed(step))  # repeats add up
        rows = numbers(6, D, seed=step)
        before = lazy.detach().clone()
        lazy.grad = sparse(ids, rows)
        optimizer.step()
        for row in ids.unique().tolist():
            gradient = rows[ids == row].double().sum(0) + decay * expected[row]
            first[row] = b1 * first[row] + (1 - b1) * gradient
            second[row] = b2 * second[row] + (1 - b2) * gradient**2
            size = (second[row] / (1 - b2**step)).sqrt() + eps
            expected[row] -= lr * first[row] / (1 - b1**step) / size
        still = torch.ones(ITEMS, dtype=torch.bool)
        still[ids] = False
        assert still.any()
        assert torch.equal(lazy[still], before[still])
    torch.testing.assert_close(lazy.detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_dense_and_sparse_steps_and_parameters_mix() -> None:
    """A table may get either kind of gradient, from step to step; other parameters step as in Adam."""
    dense, lazy = pair()
    others = [nn.Parameter(numbers(D, seed=3)) for _ in range(2)]
    adam, rows = Plain(ADAM, 0.01).build([dense, others[0]]), Plain(LazyAdam, 0.01).build([lazy, others[1]])
    for step in range(8):
        gradient = numbers(ITEMS, D, seed=step)
        dense.grad = gradient
        lazy.grad = gradient.clone() if step % 2 else sparse(torch.arange(ITEMS), gradient)
        for other in others:
            other.grad = numbers(D, seed=step)
        adam.step()
        rows.step()
        assert lazy.grad.is_sparse == (step % 2 == 0)  # as it was: a step leaves the gradient
    assert torch.equal(dense, lazy)
    assert torch.equal(*others)


def test_hooks_of_a_step_run_once() -> None:
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # hooks torch's own class
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = LazyAdam([weight], lr=0.1)
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append(1))
    weight.grad = torch.ones(3)
    optimizer.step()
    assert called == [1]
    assert (weight < 0).all()


def test_a_checkpoint_goes_on_where_it_was() -> None:
    _, lazy = pair()
    copy = nn.Parameter(lazy.detach().clone())
    gradients = [sparse(torch.tensor([1, 5, step]), numbers(3, D, seed=step)) for step in range(6, 12)]
    optimizer = Plain(LazyAdam, 0.01).build([lazy])
    for gradient in gradients[:3]:
        lazy.grad = gradient
        optimizer.step()
    resumed = Plain(LazyAdam, 0.01).build([copy])
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    copy.data.copy_(lazy.detach())
    for gradient in gradients[3:]:
        for parameter, by in ((lazy, optimizer), (copy, resumed)):
            parameter.grad = gradient
            by.step()
    assert torch.equal(lazy, copy)


def test_a_step_makes_nothing_of_the_tables_size() -> None:
    table = nn.Parameter(torch.zeros(200_000, 8))
    optimizer = Plain(LazyAdam, 0.01).build([table])
    made: list[int] = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
            answer = function(*arguments, **(keywords or {}))
            for tensor in answer if isinstance(answer, tuple | list) else (answer,):
                if isinstance(tensor, Tensor) and not tensor.is_sparse and tensor.data_ptr() not in known:
                    made.append(tensor.numel())
            return answer

    for step in range(3):
        gradient = torch.sparse_coo_tensor([[3, 7, 9, 7]], numbers(4, 8, seed=step), table.shape, check_invariants=True)
        table.grad = gradient
        known = {t.data_ptr() for t in (table, *optimizer.state[table].values())}
        with Sizes():
            optimizer.step()
        if step:
            assert max(made) < 100
        made.clear()


@pytest.mark.parametrize("largest", [0.1, 1e6])
def test_clipping_is_torchs(largest: float) -> None:
    dense, lazy = pair()
    ids, rows = torch.tensor([3, 8, 3]), numbers(3, D, seed=1)
    lazy.grad = sparse(ids, rows)
    dense.grad = lazy.grad.to_dense()
    other, same = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(D))
    other.grad, same.grad = numbers(D, seed=2), numbers(D, seed=2)
    expected = nn.utils.clip_grad_norm_([dense, other], largest)
    norm = clip_norm([lazy, same, nn.Parameter(torch.zeros(1))], largest)
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(lazy.grad.to_dense(), dense.grad)
    torch.testing.assert_close(same.grad, other.grad)
