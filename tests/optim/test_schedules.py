import itertools
import math

import pytest

from recsys_lt.errors import UserError
from recsys_lt.optim.schedules import Constant, Cosine, Linear, Schedule
from recsys_lt.training.instantiate import checked

STEPS = 40


def factors(schedule):
    return [schedule(step, STEPS) for step in range(STEPS)]


def test_constant_is_one():
    assert factors(Constant()) == [1.0] * STEPS


@pytest.mark.parametrize("schedule", [Constant(0.25), Linear(0.25), Cosine(0.25)])
def test_warm_up_rises_in_a_line_to_the_whole_rate(schedule):
    found = factors(schedule)
    assert found[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert found[10] == 1.0


@pytest.mark.parametrize(
    ("schedule", "half"), [(Linear(0, 0.2), 0.6), (Cosine(0, 0.2), 0.6), (Linear(), 0.5), (Cosine(), 0.5)]
)
def test_it_falls_to_what_is_left(schedule, half):
    found = factors(schedule)
    assert found[0] == 1.0
    assert all(a > b for a, b in itertools.pairwise(found))
    assert schedule(STEPS // 2, STEPS) == pytest.approx(half)
    assert schedule(STEPS, STEPS) == pytest.approx(schedule.final)


def test_cosine_is_torchs():
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        assert Cosine()(step, STEPS) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("Cosine", "warmup", 1.0), ("Linear", "warmup", -0.1), ("Cosine", "final", 2), ("Constant", "warmup", math.nan)],
)
def test_what_is_refused(name, key, value):
    node = {"_target_": f"recsys_lt.optim.schedules.{name}", key: value}
    with pytest.raises(UserError, match=rf"schedule\.{key}: it is {value}"):
        checked("schedule", node, Schedule)
