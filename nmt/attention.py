"""Attention over the encoder's memory, after the recurrent stack: for all steps of a target at once, or for one.

The decoder's output asks, and an attentional output of the same size takes its place (Luong et al. 2015, section 3.1,
equations 5 to 8): nothing of it goes back into the recurrent layers, so that these still run over a whole target in one
call. Of two sources, the additive score is that of Bahdanau et al. (2014), section A.1.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from data.errors import UserError
from nmt.config import Score


@dataclass(frozen=True)
class Memory:
    """What is attended over, a row for each hypothesis: compared by `keys`, read as `values`, real where `mask` is."""

    keys: Float[Tensor, "rows positions hidden"]
    values: Float[Tensor, "rows positions features"]
    mask: Bool[Tensor, "rows positions"]

    def float(self) -> "Memory":
        values = self.values.float()
        return Memory(values if self.keys is self.values else self.keys.float(), values, self.mask)

    def select(self, rows: Int[Tensor, " selected"]) -> "Memory":
        values = self.values.index_select(0, rows)
        keys = values if self.keys is self.values else self.keys.index_select(0, rows)
        return Memory(keys, values, self.mask.index_select(0, rows))


@dataclass(frozen=True)
class Attended:
    """What attention made of the decoder's outputs, and how much of each position is in it: weights sum to one."""

    outputs: Float[Tensor, "rows time hidden"]
    weights: Float[Tensor, "rows time positions"]


class Attention(nn.Module):
    def __init__(self, kind: Score, hidden: int, features: int) -> None:
        """Args: features: Size of a position of the memory; `dot` compares it with the decoder's `hidden` as it is.

        Raises:
            UserError: the two differ and `kind` is dot.
        """
        super().__init__()
        if kind == "dot" and features != hidden:
            raise UserError(
                f"model.attention dot compares vectors of one size, but the decoder's have {hidden} numbers and the "
                f"source's {features}: choose general or additive"
            )
        self.key = None if kind == "dot" else nn.Linear(features, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden) if kind == "additive" else None
        self.score = nn.Linear(hidden, 1, bias=False) if kind == "additive" else None
        self.combine = nn.Linear(features + hidden, hidden, bias=False)

    def remember(
        self, memory: Float[Tensor, "rows positions features"], mask: Bool[Tensor, "rows positions"]
    ) -> Memory:
        """What is done once for each source."""
        return Memory(memory if self.key is None else self.key(memory), memory, mask)

    @staticmethod
    def tanh(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """A method, since search has a faster one (nmt/folding.py)."""
        return torch.tanh(values)

    def forward(self, queries: Float[Tensor, "rows time hidden"], memory: Memory) -> Attended:
        scores = self._scores(queries, memory.keys).float().masked_fill(~memory.mask[:, None], -torch.inf)
        weights = scores.softmax(-1)
        read = torch.bmm(weights.to(memory.values.dtype), memory.values)
        return Attended(self._output(read, queries), weights)

    def _output(
        self, read: Float[Tensor, "rows time features"], queries: Float[Tensor, "rows time hidden"]
    ) -> Float[Tensor, "rows time hidden"]:
        return self.tanh(self.combine(torch.cat([read, queries], -1)))

    def _scores(
        self, queries: Float[Tensor, "rows time hidden"], keys: Float[Tensor, "rows positions hidden"]
    ) -> Float[Tensor, "rows time positions"]:
        if self.query is None or self.score is None:
            return torch.bmm(queries, keys.transpose(1, 2))
        both = self.tanh(self.query(queries)[:, :, None] + keys[:, None])
        scores: Tensor = self.score(both)
        return scores.squeeze(-1)
