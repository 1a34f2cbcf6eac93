"""The text encoder as search runs it: of each word of a batch, what the first layer makes of it is computed once."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from data.source import Source, TextSource
from nmt.config import Cell
from nmt.encoder import TextEncoder
from nmt.folding import STEPS, linear
from nmt.recurrent import LongestFirst, RecurrentState


class FoldedEncoder(TextEncoder):
    """An encoder that does not learn, with the weights of one that does; its products are linear layers."""

    def __init__(self, whole: TextEncoder) -> None:
        nn.Module.__init__(self)
        self.vector, self.memory, self.starts_decoder = whole.vector, whole.memory, whole.starts_decoder
        self.pretrained, self.residual = None, whole.stack.residual
        assert whole.embedding is not None
        weight = whole.embedding.weight
        self.embedding = copy.deepcopy(whole.embedding, {id(weight): weight})  # which may get other weights
        layers = [layer for layer in whole.stack.layers if isinstance(layer, nn.RNNBase)]
        self.layers = nn.ModuleList(_Layer(layer, whole.stack.cell) for layer in layers)

    def read(self, source: Source) -> tuple[Float[Tensor, "batch source_time hidden"], RecurrentState]:
        assert isinstance(source, TextSource) and self.embedding is not None
        order = LongestFirst.of(source.lengths, source.ids.device)
        packed = pack_padded_sequence(source.ids.index_select(0, order.rows), order.lengths, batch_first=True)
        words, places = torch.unique(packed.data, return_inverse=True)
        rows, below, ends = packed.batch_sizes.tolist(), self.embedding(words), []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, _Layer)
            given = layer.of_inputs(below)
            outputs, end = layer(given if i else given.index_select(0, places), rows)
            ends.append([part.index_select(0, order.back) for part in end])
            below = outputs + below if self.residual and i else outputs
        padded, _ = pad_packed_sequence(PackedSequence(below, packed.batch_sizes), True, 0.0, source.ids.shape[1])
        return padded.index_select(0, order.back), RecurrentState.of(ends)


class _Layer(nn.Module):
    """A recurrent layer in one or both directions, given the product with its inputs."""

    def __init__(self, whole: nn.RNNBase, cell: Cell) -> None:
        super().__init__()
        self.cell, self.hidden = cell, whole.hidden_size
        inputs, states, input_biases, state_biases = zip(*whole.all_weights, strict=True)
        self.of_inputs: nn.Module = linear(torch.cat(inputs), torch.cat(input_biases))
        self.of_states = nn.ModuleList(map(linear, states, state_biases))

    def forward(
        self, given: Float[Tensor, "words gates"], rows: list[int]
    ) -> tuple[Float[Tensor, "words hidden"], list[Float[Tensor, "batch hidden"]]]:
        """What it gives at each word, and its state at the end of each row.

        Args:
            given: Of each word its product with the input, the longest row first, step by step.
            rows: How many rows have a word at each step.
        """
        outputs, ends, steps = [], [], range(len(rows))
        for way, (product, gates) in enumerate(zip(self.of_states, given.chunk(len(self.of_states), 1), strict=True)):
            state = [given.new_zeros(rows[0], self.hidden) for _ in range(1 + (self.cell == "lstm"))]
            at, written = gates.split_with_sizes(rows), {}
            for t in reversed(steps) if way else steps:
                begin = [part[: rows[t]] for part in state]
                end = STEPS[self.cell](at[t], begin if len(begin) > 1 else begin[0], product)
                end = end if isinstance(end, tuple) else (end,)
                for part, new in zip(begin, end, strict=True):
                    part.copy_(new)
                written[t] = end[0]
            outputs.append(torch.cat([written[t] for t in steps]))
            ends.append(state)
        return torch.cat(outputs, 1), [torch.cat(parts, 1) for parts in zip(*ends, strict=True)]
