"""Products of weights that search need not compute at every step, since what they are of is known before.

Of each word, there is what the first recurrent layer makes of it, beside what it makes of its state. Of each position
of the source, there is what attention makes of it once its share in what was read is known.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nmt.attention import Attention, Memory
from nmt.config import Cell
from nmt.decoder import Decoder

_LARGEST = 1 << 25  # numbers in the table of all words: 128 MB


def fold(decoder: Decoder) -> None:
    """Take these products out of the steps of a decoder, in place.

    Its memory must then be that of `FoldedAttention.fold`, and its word vectors are those of no layer but the first.
    A table of words that would be too large is not made, and none where that layer reads more than the word, or on a
    GPU.
    """
    if decoder.attention is not None:
        decoder.attention = FoldedAttention(decoder.attention)
    stack, words = decoder.stack, decoder.embedding
    first = stack.layers[0]
    assert isinstance(first, nn.RNNBase)
    inputs, _, bias, _ = first.all_weights[0]
    if words is None or first.input_size != words.embedding_dim or words.num_embeddings * len(inputs) > _LARGEST:
        return
    if words.weight.is_cuda:  # torch's own step is one kernel there
        return
    table = F.linear(words.weight, inputs, bias)
    decoder.embedding = nn.Embedding(len(table), table.shape[1], _weight=table, _freeze=True)
    stack.layers[0], stack.steps[0] = FoldedLayer(first), STEPS[stack.cell]


class FoldedAttention(Attention):
    """Attention that finds in its memory what combining makes of the values."""

    def __init__(self, whole: Attention) -> None:
        nn.Module.__init__(self)
        self.key, self.query, self.score = None, whole.query, whole.score  # the keys are in the memory already
        hidden, both = whole.combine.weight.shape
        self._of_values = whole.combine.weight[:, : both - hidden].contiguous()
        self.combine = linear(whole.combine.weight[:, both - hidden :].contiguous())

    def fold(self, memory: Memory) -> Memory:
        """What is done once for each source."""
        return Memory(memory.keys, F.linear(memory.values, self._of_values), memory.mask)

    @staticmethod
    def tanh(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return _tanh(values)

    def _output(
        self, read: Float[Tensor, "rows time hidden"], queries: Float[Tensor, "rows time hidden"]
    ) -> Float[Tensor, "rows time hidden"]:
        return self.tanh(read + self.combine(queries))


class FoldedLayer(nn.Module):
    """What is left of a recurrent layer that is given the product with its input."""

    def __init__(self, whole: nn.RNNBase) -> None:
        super().__init__()
        _, weight, _, bias = whole.all_weights[0]
        self.product = linear(weight, bias)

    @property
    def all_weights(self) -> list[list[nn.Module]]:
        """What its step takes, where torch's own layers have it."""
        return [[self.product]]


def linear(weight: Float[Tensor, "outputs features"], bias: Float[Tensor, " outputs"] | None = None) -> nn.Linear:
    """A linear layer of these weights, which do not learn."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _lstm(
    given: Float[Tensor, "rows gates"], state: list[Float[Tensor, "rows hidden"]], product: nn.Module
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"]]:
    """A step as torch.nn.LSTM documents it, the gates in its order."""
    hidden, cell = state
    entry, forget, candidate, way_out = (given + product(hidden)).chunk(4, 1)
    cell = forget.sigmoid() * cell + entry.sigmoid() * _tanh(candidate)
    return way_out.sigmoid() * _tanh(cell), cell


def _gru(
    given: Float[Tensor, "rows gates"], hidden: Float[Tensor, "rows hidden"], product: nn.Module
) -> Float[Tensor, "rows hidden"]:
    """A step as torch.nn.GRU documents it, the gates in its order."""
    reset, update, candidate = given.chunk(3, 1)
    its_reset, its_update, its_candidate = product(hidden).chunk(3, 1)
    candidate = _tanh(candidate + (reset + its_reset).sigmoid() * its_candidate)
    new: Tensor = candidate + (update + its_update).sigmoid() * (hidden - candidate)
    return new


def _rnn(
    given: Float[Tensor, "rows gates"], hidden: Float[Tensor, "rows hidden"], product: nn.Module
) -> Float[Tensor, "rows hidden"]:
    return _tanh(given + product(hidden))


def _tanh(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Within 2e-7 of torch.tanh, which takes four times as long on processors (docs/performance.md)."""
    if values.is_cuda:
        return values.tanh()
    return torch.sigmoid(2 * values.float()).mul_(2).sub_(1).to(values.dtype)


STEPS: dict[Cell, Callable[..., Any]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
