"""How much an item weighs."""

import pytest
import torch

from recsys_lt.optim.weighting import Weighting
from tests.optim.problems import COUNTS, ITEMS


def test_weightings():
    def of(name, gamma=0.5, normalise=False):
        return Weighting(name, gamma, normalise)(COUNTS)

    torch.testing.assert_close(of("power")[:2], torch.tensor([(5 / 50) ** 0.5, (5 / 20) ** 0.5]))
    assert of("power", 4.0)[0] == pytest.approx(0.1)
    assert of("power", 4.0)[7] == 10
    torch.testing.assert_close(of("power", -0.5)[:2], torch.tensor([(50 / 5) ** 0.5, (20 / 5) ** 0.5]))
    torch.testing.assert_close(of("focal", 2.0), (1 - COUNTS / 110) ** 2)
    torch.testing.assert_close(of("focal_max", 1.0), 1 - COUNTS / 51)
    assert of("effective")[0] == pytest.approx(0.001 / (1 - 0.999**50), rel=1e-5)
    assert of("step").tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1]  # a fifth of nine items; of equals the first
    assert of("uniform").tolist() == [1] * ITEMS
    for name in ("power", "focal", "focal_max", "effective", "step", "uniform"):
        weights = of(name, normalise=True)
        assert float((weights * COUNTS).sum() / COUNTS.sum()) == pytest.approx(1)
        assert (weights.diff() >= 0).all()  # rarer items weigh no less
