"""Item ids of a residual-quantised autoencoder, which is trained on the item vectors first."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recsys_lt.generative.quantised import Quantised, Vectors, kmeans

_RESTART = 100  # steps between restarts of codes that no vector has
_KMEANS = 10  # iterations of the k-means that codes begin at
_FEWEST, _MOST = 0.5, 0.05  # share of the first level's codes that are used, and of the items that have one of them


@dataclass(frozen=True)
class RqVae(Quantised):
    """Codes of the autoencoder of TIGER: an encoder, ``levels`` code books for what is left of its output, a decoder.

    Codes begin at k-means centres of the untrained encoder's outputs; one that no vector has for 100 steps begins anew
    at what is left of a random vector. A warning says when the codes have collapsed: the first level uses under half of
    its codes, or one of them has over 5 % of the items.

    Parameters
    ----------
    vectors, levels, size
        See ``Quantised``.
    latent
        Entries of a code's vector.
    hidden
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    commitment
        Weight of the encoder's distance to its codes; that of the codes to the encoder is 1.
    steps, batch, lr, weight_decay
        Of training by AdamW.

    References
    ----------
    Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023.
    """

    latent: PositiveInt = 32
    hidden: Sequence[PositiveInt] = (512, 256, 128)
    commitment: NonNegativeFloat = 0.25
    steps: PositiveInt = 3000
    batch: PositiveInt = 1024
    lr: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4

    def codes(self, vectors: Vectors, rng: np.random.Generator) -> NDArray[np.int32]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            scaled = torch.from_numpy(vectors / max(float(vectors.std()), 1e-12)).float()
            found = self._trained(scaled, rng).codes(scaled)
        counts = np.bincount(found[:, 0], minlength=self.size)
        used = np.count_nonzero(counts) / min(self.size, len(found))
        if used < _FEWEST or counts.max() > max(_MOST * len(found), len(found) / self.size * 2):
            warnings.warn(
                f"item_ids: the codes have collapsed: the first level uses {used:.0%} of its codes, and one of them "
                f"has {counts.max() / len(found):.0%} of the items. Train longer (item_ids.steps), or use "
                "residual_kmeans",
                stacklevel=2,
            )
        return found

    def _trained(self, vectors: Tensor, rng: np.random.Generator) -> "_Autoencoder":
        model = _Autoencoder(vectors.shape[1], self.hidden, self.latent, self.levels, self.size)
        model.begin(vectors, rng)
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        used = torch.zeros(self.levels, self.size)
        for step in range(1, self.steps + 1):
            rows = torch.randint(len(vectors), (min(self.batch, len(vectors)),))
            loss, codes, residuals = model(vectors[rows], self.commitment)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            used.scatter_add_(1, codes.T, torch.ones(codes.T.shape))
            if step % _RESTART == 0 and step < self.steps:
                model.restart(used == 0, residuals)
                used.zero_()
        return model


class _Autoencoder(nn.Module):
    """Vectors [n, w] to a sum of one code of each book, and back."""

    def __init__(self, width: int, hidden: Sequence[int], latent: int, levels: int, size: int) -> None:
        super().__init__()
        self.encoder, self.decoder = _layers([width, *hidden, latent]), _layers([latent, *hidden[::-1], width])
        self.books = nn.Parameter(torch.zeros(levels, size, latent))

    @torch.no_grad()
    def begin(self, vectors: Tensor, rng: np.random.Generator) -> None:
        """Set the codes to k-means centres of what each level leaves of the encoder's outputs."""
        left = self.encoder(vectors).numpy()
        for book in self.books:
            centres, nearest = kmeans(left, len(book), _KMEANS, rng)
            book.copy_(torch.from_numpy(left[rng.integers(len(left), size=len(book))]))
            book[: len(centres)] = torch.from_numpy(centres)
            left = left - centres[nearest]

    def forward(self, vectors: Tensor, commitment: float) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the codes [n, levels], and what is left before each level, [levels, n, latent]."""
        latent = self.encoder(vectors)
        left, total, loss = latent, torch.zeros_like(latent), latent.new_zeros(())
        codes, residuals = [], []
        for book in self.books:
            code = _nearest(left, book)
            chosen = book[code]
            loss = loss + F.mse_loss(chosen, left.detach()) + commitment * F.mse_loss(left, chosen.detach())
            codes.append(code)
            residuals.append(left.detach())
            left, total = left - chosen.detach(), total + chosen.detach()
        straight = latent + (total - latent).detach()  # the decoder's gradient passes to the encoder as it is
        loss = loss + F.mse_loss(self.decoder(straight), vectors)
        return loss, torch.stack(codes, 1), torch.stack(residuals)

    @torch.no_grad()
    def restart(self, dead: Tensor, residuals: Tensor) -> None:
        """Set codes [levels, size] to what was left of random vectors."""
        level, code = dead.nonzero(as_tuple=True)
        self.books[level, code] = residuals[level, torch.randint(residuals.shape[1], (len(level),))]

    @torch.no_grad()
    def codes(self, vectors: Tensor) -> NDArray[np.int32]:
        left, found = self.encoder(vectors), []
        for book in self.books:
            found.append(_nearest(left, book))
            left = left - book[found[-1]]
        return torch.stack(found, 1).numpy().astype(np.int32)


def _nearest(points: Tensor, book: Tensor) -> Tensor:
    """The code nearest to each point, [n]."""
    with torch.no_grad():
        return (book.square().sum(1) - 2 * points @ book.T).argmin(1)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    made: list[nn.Module] = []
    for before, after in pairwise(widths):
        made += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*made[:-1])
