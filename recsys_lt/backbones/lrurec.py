"""LRURec: linear recurrent units, supervised at every position."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.backbones.recurrence import LinearRecurrence, Steps
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import EveryPosition
from recsys_lt.losses.output_table import OutputTable


class LRURec(Backbone):
    """Blocks of a linear recurrence and a feed-forward over a user's events; scored with the embeddings and a bias.

    The recurrence, diagonal and complex, is the only thing that knows of order: no positions are learned, and a
    history may be continued event by event. Pads of the published window carry nothing on, so they are left out
    altogether: the same function.

    Parameters: see ``Backbone``. The recurrence is 2d complex numbers wide.

    References
    ----------
    Yue et al., "Linear Recurrent Units for Sequential Recommendation", WSDM 2024 (arXiv 2310.02367), as trained for the
    retriever of LlamaRec (Yueeeeeeee/LlamaRec); the unit is that of Orvieto et al., ICML 2023 (arXiv 2303.06349).
    """

    def __init__(
        self, facts: DataFacts, *, width: int = 64, blocks: int = 2, max_length: int = 50, dropout: float = 0.2
    ) -> None:
        super().__init__(width=width, blocks=blocks, max_length=max_length)
        self.max_length = max_length
        self.task = EveryPosition(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.out_bias = nn.Parameter(torch.empty(facts.n_items))
        self.dropout = RowDropout(dropout, salt=0)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, dropout, first_salt=1 + 3 * block) for block in range(blocks))
        # The reference draws all but the norms and the recurrence this way, its biases too.
        drawn = [self.items, *(module for module in self.modules() if isinstance(module, nn.Linear))]
        for parameter in (self.out_bias, *(p for module in drawn for p in module.parameters())):
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight, self.out_bias)

    def states(self, batch: Batch) -> Tensor:
        """[T, d]: after every event."""
        steps, x, streams = self._begun(batch)
        for block in self.blocks:
            x = block(x, streams, steps)
        return x[steps.places]

    def user_states(self, batch: Batch) -> Tensor:
        """[B, d]; a row without history has a state of zeros, and the biases for its scores."""
        steps, x, streams = self._begun(batch)
        if len(x) == 0:
            return x.new_zeros(len(batch), x.shape[1])
        for block in self.blocks[:-1]:
            x = block(x, streams, steps)
        # What is read is the last event of each row: of the others the last block need only know the recurrence.
        # The "last event" of a row without any is the one before its first: of another row, or -1.
        x = self.blocks[-1](x, streams, steps, steps.places[batch.offsets[1:] - 1])
        if min(batch.lengths) == 0:
            x = x.masked_fill(batch.offsets.diff().eq(0).unsqueeze(1), 0)
        return x

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``; a row without history has a state of zeros."""
        x = self.norm(self.items(items))
        for block in self.blocks:
            assert isinstance(block, _Block)
            x = block.padded(x, real)
        return x[:, -1] * real[:, -1:]

    def _begun(self, batch: Batch) -> tuple[Steps, Tensor, Tensor]:
        """How the batch is walked through; in that order, the events embedded [T, d] and their streams [T]."""
        steps = Steps.of(batch.lengths, batch.items.device)
        streams = batch.event_streams()[steps.order]
        x = self.norm(self.dropout(self.items(batch.items[steps.order]), streams))
        return steps, x, streams


class _Block(nn.Module):
    """x <- LN(x + drop(LRU(x))), then x <- LN(x + drop(MLP(x))), with dropout within the MLP too.

    Uses dropout salts ``first_salt`` and the next two.
    """

    def __init__(self, width: int, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.unit = LinearRecurrentUnit(width)
        self.unit_dropout = RowDropout(dropout, first_salt)
        self.unit_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.inner_dropout = RowDropout(dropout, first_salt + 1)
        self.outer = nn.Linear(4 * width, width)
        self.outer_dropout = RowDropout(dropout, first_salt + 2)
        self.outer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, streams: Tensor, steps: Steps, wanted: Tensor | None = None) -> Tensor:
        """All events [T, d] -> all of them, or those in the places ``wanted`` [n] -> [n, d]."""
        h = self.unit.hidden(x, steps)
        if wanted is not None:
            h, x, streams = h[wanted], x[wanted], streams[wanted]
        x = self.unit_norm(x + self.unit_dropout(self.unit.out_of(h), streams))
        inner = self.inner_dropout(F.gelu(self.inner(x)), streams)
        return self.outer_norm(x + self.outer_dropout(self.outer(inner), streams))

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """``forward`` in a window [B, L, d], of which the places ``real`` [B, L] hold an event, without dropout."""
        x = self.unit_norm(x + self.unit.out_of(self.unit.padded_hidden(x, real)))
        return self.outer_norm(x + self.outer(F.gelu(self.inner(x))))


class LinearRecurrentUnit(nn.Module):
    """h_t = lambda * h_{t-1} + gamma * (W_in x_t + b_in), y_t = Re(W_out h_t + b_out), with h complex [2d].

    ``lambda = exp(-exp(nu) + i exp(theta))`` lies within the unit circle whatever the parameters: a state never grows.
    Complex maps are kept as real ones, so that optimizers and precisions meet nothing unusual: W_in makes a
    real and an imaginary part side by side, W_out reads them so (its imaginary weights with the sign turned). At the
    start lambda is drawn evenly over the ring of moduli from 0.8 to 0.99.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        modulus = torch.empty(2 * width).uniform_(0.8**2, 0.99**2).sqrt()
        phase = 2 * math.pi * (1 - torch.rand(2 * width))  # (0, 2 pi]: zero has no logarithm
        self.nu_log = nn.Parameter((-modulus.log()).log())
        self.theta_log = nn.Parameter(phase.log())
        # With it a stationary input gives states as large as itself, wherever lambda lies.
        self.gamma_log = nn.Parameter((1 - modulus**2).sqrt().log())
        self.into = nn.Linear(width, 4 * width)
        self.out_of = nn.Linear(4 * width, width)

    def decay(self) -> Tensor:
        """The recurrence's lambda, [2d] complex."""
        return torch.polar((-self.nu_log.exp()).exp(), self.theta_log.exp())

    def _inputs(self, x: Tensor) -> Tensor:
        """The recurrence's inputs for x [..., d] -> [..., 4d]."""
        # gamma goes to the weights, of which there are fewer than events.
        gamma = self.gamma_log.exp().repeat_interleave(2)
        return F.linear(x, self.into.weight * gamma.unsqueeze(1), self.into.bias * gamma)

    def padded_hidden(self, x: Tensor, real: Tensor) -> Tensor:
        """``hidden`` in a window [B, L, d] -> [B, L, 4d], in real numbers: each pass doubles how far a state looks."""
        h = (self._inputs(x) * real.unsqueeze(2)).unflatten(2, (-1, 2))
        modulus, phase = (-self.nu_log.exp()).exp(), self.theta_log.exp()
        step = 1
        while step < x.shape[1]:
            a, b = modulus**step * (step * phase).cos(), modulus**step * (step * phase).sin()
            before = F.pad(h[:, :-step], (0, 0, 0, 0, step, 0))
            h = h + torch.stack([a * before[..., 0] - b * before[..., 1], b * before[..., 0] + a * before[..., 1]], 3)
            step *= 2
        return h.flatten(2)

    def hidden(self, x: Tensor, steps: Steps) -> Tensor:
        """States after x [T, d], in the order of ``steps`` -> [T, 4d]: each number's real and its imaginary part."""
        u = self._inputs(x)
        if u.dtype in (torch.bfloat16, torch.float16):  # there are no complex numbers of these
            u = u.float()
        h = LinearRecurrence.apply(torch.view_as_complex(u.view(len(u), -1, 2)), self.decay(), steps)
        return torch.view_as_real(h).flatten(1)
