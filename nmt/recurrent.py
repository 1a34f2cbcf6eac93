"""A stack of recurrent layers with dropout and residual connections between them, whole or step by step.

Shapes: rows are sentences (times beam in search), time is padded length.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nmt.config import Cell, ModelConfig
from nmt.dropout import Dropout

_LAYERS: dict[Cell, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_STEPS: dict[Cell, Callable[..., Any]] = {"lstm": torch.lstm_cell, "gru": torch.gru_cell, "rnn": torch.rnn_tanh_cell}


@dataclass(frozen=True)
class RecurrentState:
    """What a stack remembers: the output of each layer, and the cell of an LSTM's (Hochreiter and Schmidhuber 1997)."""

    hidden: Float[Tensor, "layers rows hidden"]
    cell: Float[Tensor, "layers rows hidden"] | None = None

    def select(self, rows: Int[Tensor, " selected"]) -> "RecurrentState":
        cell = None if self.cell is None else self.cell.index_select(1, rows)
        return RecurrentState(self.hidden.index_select(1, rows), cell)

    def float(self) -> "RecurrentState":
        return RecurrentState(self.hidden.float(), None if self.cell is None else self.cell.float())

    @classmethod
    def of(cls, layers: list[list[Float[Tensor, "rows hidden"]]]) -> "RecurrentState":
        """That of a stack from the parts of each of its layers'."""
        return cls(*(torch.stack(parts) for parts in zip(*layers, strict=True)))

    def parts(self) -> list[Float[Tensor, "layers rows hidden"]]:
        return [self.hidden] if self.cell is None else [self.hidden, self.cell]


@dataclass(frozen=True)
class LongestFirst:
    """The order that packing wants, and the way back from it.

    torch would find them itself (enforce_sorted=False), but reads them back from the device to unpack.
    """

    lengths: Int[Tensor, " rows"]
    rows: Int[Tensor, " rows"]
    back: Int[Tensor, " rows"]

    @classmethod
    def of(cls, lengths: Int[Tensor, " rows"], device: torch.device) -> "LongestFirst":
        ordered, rows = lengths.sort(descending=True)
        return cls(ordered, rows.to(device, non_blocking=True), rows.argsort().to(device, non_blocking=True))


class RecurrentStack(nn.Module):
    """Layers of equal width: LSTM, GRU (Cho et al. 2014) or plain tanh; dropout and residual connections lie between
    them. Where both directions are read, each has half of a layer's width."""

    def __init__(self, config: ModelConfig, inputs: int, *, bidirectional: bool = False) -> None:
        """Args: inputs: Size of what the first layer reads."""
        super().__init__()
        hidden = config.hidden
        self.directions = 1 + bidirectional
        self.layers = nn.ModuleList(
            _LAYERS[config.cell](
                inputs if i == 0 else hidden, hidden // self.directions, batch_first=True, bidirectional=bidirectional
            )
            for i in range(config.layers)
        )
        self.dropout = Dropout(config)
        self.hidden, self.residual, self.cell = hidden, config.residual, config.cell
        self.steps = [_STEPS[config.cell]] * config.layers  # of each layer: from inputs, state and the layer's weights

    def zeros(self, rows: int, like: Tensor) -> RecurrentState:
        state = like.new_zeros(len(self.layers), rows, self.hidden)
        return RecurrentState(state, state if self.cell == "lstm" else None)

    def forward(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: RecurrentState | None = None,
        lengths: Int[Tensor, " rows"] | None = None,
    ) -> tuple[Float[Tensor, "rows time hidden"], RecurrentState]:
        """All steps at once.

        Args:
            lengths: Real steps of each row, in host memory; the state returned is then that of each row's own last
                step (of its first, for the direction that comes from the end). Without it every step counts.
        """
        state = state or self.zeros(inputs.shape[0], inputs)
        ragged = lengths is not None and int(lengths.min()) < inputs.shape[1]
        order = LongestFirst.of(lengths, inputs.device) if lengths is not None and ragged else None
        ends: list[list[Tensor]] = []
        outputs = inputs
        for i, layer in enumerate(self.layers):
            below = self.dropout(outputs) if i else outputs
            begin = [self._by_direction(part[i]) for part in state.parts()]
            if order is None:
                outputs, end = layer(below, _given(begin))
            else:
                begin = [part.index_select(1, order.rows) for part in begin]
                packed = pack_padded_sequence(below.index_select(0, order.rows), order.lengths, batch_first=True)
                packed, end = layer(packed, _given(begin))
                outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=inputs.shape[1])
                outputs = outputs.index_select(0, order.back)
            parts = [part.transpose(0, 1).flatten(1) for part in (end if isinstance(end, tuple) else (end,))]
            ends.append(parts if order is None else [part.index_select(0, order.back) for part in parts])
            if self.residual and i:
                outputs = outputs + below
        return outputs, RecurrentState.of(ends)

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: RecurrentState
    ) -> tuple[Float[Tensor, "rows hidden"], RecurrentState]:
        """One step forward, without what a call of a whole layer costs beyond its arithmetic."""
        ends: list[list[Tensor]] = []
        outputs = inputs
        for i, layer in enumerate(self.layers):
            below = self.dropout(outputs) if i else outputs
            begin = [part[i] for part in state.parts()]
            end = self.steps[i](below, begin if len(begin) > 1 else begin[0], *cast(nn.RNNBase, layer).all_weights[0])
            end = list(end) if isinstance(end, tuple) else [end]
            outputs = end[0] + below if self.residual and i else end[0]
            ends.append(end)
        return outputs, RecurrentState.of(ends)

    def _by_direction(self, part: Float[Tensor, "rows hidden"]) -> Float[Tensor, "directions rows half"]:
        return part.reshape(len(part), self.directions, -1).transpose(0, 1).contiguous()


def _given(begin: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """The initial state in the form that torch's layers take it."""
    return tuple(begin) if len(begin) > 1 else begin[0]
