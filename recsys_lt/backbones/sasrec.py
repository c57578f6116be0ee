"""SASRec as in the CE/SCE reference runs, on packed histories."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone, DataFacts
from recsys_lt.backbones.dropout import RowDropout, event_streams
from recsys_lt.data.batch import Batch
from recsys_lt.data.rows import EveryPosition
from recsys_lt.errors import UserError
from recsys_lt.output_table import OutputTable


class SASRec(Backbone):
    """Causal self-attention over a user's events, supervised at every position.

    The reference pads every history on the left to ``max_length`` and lets the pads take part in the attention
    (zero vectors, whose keys and values are the projections' biases). Eight of nine positions of a padded
    Amazon batch are pads; here they are never computed. All of a row's pads share one key and one value, so
    they enter the softmax as one extra term with their number as its multiplicity: the same function.

    Parameters
    ----------
    facts
        Sizes of the data.
    width
        d, width of embeddings and states.
    blocks
        Attention blocks.
    heads
        Attention heads; must divide ``width``.
    max_length
        L, latest events read.
    dropout
        Probability, for embeddings, attention weights and feed-forward alike.

    References
    ----------
    Kang & McAuley, ICDM 2018; residuals and initialisation of MTandHJ/CE-SCE-LLMRec (the residual goes
    round the normalised query to x, and the feed-forward residual adds the normalised x).
    """

    def __init__(
        self, facts: DataFacts, *, width: int, blocks: int, heads: int, max_length: int, dropout: float
    ) -> None:
        super().__init__()
        if max_length < 1 or width < 1 or heads < 1 or blocks < 0 or width % heads:
            raise UserError(
                f"width {width}, heads {heads}, blocks {blocks}, max_length {max_length} make no SASRec",
                where="model",
                remedy="heads must divide width, and lengths must be positive",
            )
        self.max_length = max_length
        self.row_plan = EveryPosition(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.positions = nn.Embedding(max_length, width)
        self.dropout = RowDropout(dropout, salt=0)
        self.blocks = nn.ModuleList(
            _Block(width, heads, max_length, dropout, first_salt=1 + 3 * b) for b in range(blocks)
        )
        self.norm = nn.LayerNorm(width, eps=1e-8)
        for table in (self.items, self.positions):
            nn.init.xavier_normal_(table.weight)

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight)

    def states(self, batch: Batch) -> Tensor:
        layout = _Layout(batch, self.max_length)
        x = self.items(batch.items) * math.sqrt(self.items.embedding_dim) + self.positions(layout.position)
        x = self.dropout(x, layout.streams)
        for block in self.blocks:
            x = block(x, layout)
        states: Tensor = self.norm(x)
        return states

    def user_states(self, batch: Batch) -> Tensor:
        return self.states(batch)[batch.offsets[1:] - 1]


class _Layout:
    """Where each event of a packed batch stands: its position, its stream, and its attention group.

    Attention needs rectangles. Rows are grouped by length (each group padded to its own longest row, at
    most twice its shortest), so that long histories do not make short ones pay.
    """

    def __init__(self, batch: Batch, max_length: int) -> None:
        device = batch.items.device
        self.streams = event_streams(batch)
        rows = batch.rows_of_events()
        lengths = batch.offsets.diff()
        place = torch.arange(len(batch.items), device=device) - batch.offsets[rows]
        pads = max_length - lengths[rows]
        # Positions are counted over the padded window: the last event always has the last one.
        self.position = pads + place
        self.pads = pads
        self.groups: list[_Group] = []
        host = torch.tensor(batch.lengths)
        order: list[Tensor] = []
        low = 0
        while low < max_length:
            high = min(max(2 * low, 8), max_length)
            members = ((host > low) & (host <= high)).nonzero().squeeze(1)
            low = high
            if len(members) == 0:
                continue
            longest = int(host[members].max())
            members = members.to(device, non_blocking=True)
            columns = torch.arange(longest, device=device)
            index = batch.offsets[members].unsqueeze(1) + columns
            real = columns < lengths[members].unsqueeze(1)
            # A pad points at some event: as a key it lies in every real query's future, as a query it is dropped.
            events = index[real]
            index = index.clamp_(max=len(batch.items) - 1)
            self.groups.append(_Group(len(members), longest, index.flatten(), real.flatten().nonzero().squeeze(1)))
            order.append(events)
        # Attention gives the events group after group; this puts them back in the batch's order.
        self.order = torch.cat(order)


class _Group(NamedTuple):
    """Rows padded to one length: ``events`` [rows * longest] of the batch, ``real`` those that are no pads."""

    rows: int
    longest: int
    events: Tensor
    real: Tensor


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, max_length: int, dropout: float, first_salt: int) -> None:
        super().__init__()
        self.heads = heads
        self.max_length = max_length
        self.norm_query = nn.LayerNorm(width, eps=1e-8)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-8)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.drop_attention = RowDropout(dropout, first_salt)
        self.drop_inner = RowDropout(dropout, first_salt + 1)
        self.drop_outer = RowDropout(dropout, first_salt + 2)
        # The reference's nn.MultiheadAttention: one Xavier-uniform matrix [3d, d] for the three projections,
        # Xavier-normal for its output; the feed-forward keeps PyTorch's default.
        bound = math.sqrt(6 / (width + 3 * width))
        for projection in (self.query, self.key_value):
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)
        nn.init.xavier_normal_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, layout: _Layout) -> Tensor:
        x = self.out(self._attend(self.query(self.norm_query(x)), self.key_value(x), layout)) + x
        x = self.norm(x)
        inner = self.drop_inner(F.relu(self.inner(x)), layout.streams)
        return x + self.drop_outer(self.outer(inner), layout.streams)

    def _attend(self, query: Tensor, key_value: Tensor, layout: _Layout) -> Tensor:
        """Causal attention of every event to its row's events and pads: [T, d] and [T, 2d] -> [T, d]."""
        width, heads = query.shape[1], self.heads
        depth = width // heads
        pad_key, pad_value = self.key_value.bias.view(2, heads, depth)
        # [T, h]: the score of one pad for each query, raised by the log of their number.
        pad_score = (query.view(-1, heads, depth) * pad_key).sum(2) / math.sqrt(depth)
        pad_score = pad_score + layout.pads.log().unsqueeze(1)
        kept = None
        if self.drop_attention.training and self.drop_attention.p > 0:
            # Each query has max_length slots a head: real keys take the first, pads the rest; bits are alike.
            kept = self.drop_attention.kept(heads * self.max_length, layout.streams)
            kept = kept.view(-1, heads, self.max_length)
        scale = self.drop_attention.scale
        outputs = []
        for rows, longest, flat, real in layout.groups:
            q = query.index_select(0, flat).view(rows, longest, heads, depth).transpose(1, 2)
            k, v = key_value.index_select(0, flat).view(rows, longest, 2, heads, depth).permute(2, 0, 3, 1, 4)
            scores = (q @ k.transpose(2, 3)) / math.sqrt(depth)  # [g, h, l, l]
            future = torch.ones(longest, longest, dtype=torch.bool, device=q.device).triu_(1)
            scores = scores.masked_fill(future, -torch.inf)
            pad = pad_score.index_select(0, flat).view(rows, longest, heads).transpose(1, 2).unsqueeze(3)
            probabilities = torch.cat([scores, pad], 3).softmax(3)
            attention, on_pads = probabilities[..., :-1], probabilities[..., -1:]
            if kept is not None:
                bits = kept[flat].view(rows, longest, heads, self.max_length).transpose(1, 2)
                n_pads = layout.pads[flat].view(rows, 1, longest, 1)
                # Real keys take the first length slots, pads the n_pads slots at the end.
                last = torch.arange(self.max_length, device=q.device) >= self.max_length - n_pads
                share = (bits & last).sum(3, keepdim=True) / n_pads.clamp(min=1)
                attention = attention * (bits[..., :longest] * scale)
                on_pads = on_pads * (share * scale)
            out = attention @ v + on_pads * pad_value.unsqueeze(1)
            outputs.append(out.transpose(1, 2).reshape(rows * longest, width).index_select(0, real))
        joined = torch.cat(outputs)
        return torch.empty_like(joined).index_copy(0, layout.order, joined)
