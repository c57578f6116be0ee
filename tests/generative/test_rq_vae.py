"""The residual-quantised autoencoder: its codes say more of a vector with each level, and dead codes come back."""

import warnings

import numpy as np
import pytest
import torch

from recsys_lt.generative.rq_vae import RqVae, _Autoencoder
from recsys_lt.generative.vectors import Counts


def vectors_of(n: int = 400) -> np.ndarray:
    """Vectors of four groups, each of the same four groups."""
    rng = np.random.default_rng(0)
    coarse, fine = rng.normal(size=(4, 12)) * 3, rng.normal(size=(4, 12))
    group = np.arange(n) % 16
    return (coarse[group // 4] + fine[group % 4] + rng.normal(size=(n, 12)) * 0.05).astype(np.float32)


SMALL = {"latent": 8, "hidden": (32,), "steps": 300, "batch": 128}


def within(codes: np.ndarray, vectors: np.ndarray) -> float:
    """Squared distance of the vectors to the mean of those with the same codes."""
    _, cell = np.unique(codes, axis=0, return_inverse=True)
    means = np.stack([vectors[cell.ravel() == one].mean(0) for one in range(cell.max() + 1)])
    return float(((vectors - means[cell.ravel()]) ** 2).sum(1).mean())


def test_the_first_code_is_the_group_and_the_second_says_more():
    ids, vectors = RqVae(Counts(), levels=2, size=4, **SMALL), vectors_of()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ids.codes(vectors, np.random.default_rng(0))
    assert len(np.unique(np.column_stack([found[:, 0], np.arange(400) % 16 // 4]), axis=0)) == 4
    assert within(found, vectors) < 0.6 * within(found[:, :1], vectors)
    np.testing.assert_array_equal(found, ids.codes(vectors, np.random.default_rng(0)))


def test_equal_vectors_are_a_collapse_that_is_said():
    ids = RqVae(Counts(), levels=2, size=8, **(SMALL | {"steps": 2}))
    vectors = np.concatenate([np.ones((90, 4)), np.eye(4)[np.arange(10) % 4]]).astype(np.float32)
    with pytest.warns(UserWarning, match="have collapsed: the first level uses"):
        ids.codes(vectors, np.random.default_rng(0))


def test_codes_that_no_vector_has_begin_anew_at_residuals():
    torch.manual_seed(0)
    model = _Autoencoder(6, [8], 4, levels=2, size=5)
    before, residuals = model.books.detach().clone(), torch.randn(2, 7, 4)
    dead = torch.tensor([[True, False, False, True, False], [False] * 4 + [True]])
    model.restart(dead, residuals)
    assert torch.equal(model.books[~dead], before[~dead])
    for level in range(2):
        for code in model.books[level][dead[level]]:
            assert (residuals[level] == code).all(1).any()


def test_the_gradient_of_the_reconstruction_reaches_the_encoder():
    torch.manual_seed(0)
    model, vectors = _Autoencoder(6, [8], 4, levels=2, size=5), torch.randn(9, 6)
    model.begin(vectors, np.random.default_rng(0))
    loss, codes, residuals = model(vectors, 0.0)
    loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
    assert (codes.shape, residuals.shape) == ((9, 2), (2, 9, 4))
    np.testing.assert_array_equal(codes.numpy(), model.codes(vectors))
