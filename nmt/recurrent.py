"""A stack of recurrent layers with dropout and residual connections between them, whole or step by step.

Shapes: rows are sentences (times beam in search), time is padded length.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


@dataclass(frozen=True)
class RecurrentState:
    """What an LSTM stack remembers: output and cell of each layer (Hochreiter and Schmidhuber 1997)."""

    hidden: Float[Tensor, "layers rows hidden"]
    cell: Float[Tensor, "layers rows hidden"]

    def select(self, rows: Int[Tensor, " selected"]) -> "RecurrentState":
        return RecurrentState(self.hidden.index_select(1, rows), self.cell.index_select(1, rows))


@dataclass(frozen=True)
class _LongestFirst:
    """The order that packing wants, and the way back from it.

    torch would find them itself (enforce_sorted=False), but reads them back from the device to unpack.
    """

    lengths: Int[Tensor, " rows"]
    rows: Int[Tensor, " rows"]
    back: Int[Tensor, " rows"]

    @classmethod
    def of(cls, lengths: Int[Tensor, " rows"], device: torch.device) -> "_LongestFirst":
        ordered, rows = lengths.sort(descending=True)
        return cls(ordered, rows.to(device, non_blocking=True), rows.argsort().to(device, non_blocking=True))


class RecurrentStack(nn.Module):
    """LSTM layers of equal width; dropout and residual connections lie between them."""

    def __init__(self, inputs: int, hidden: int, layers: int, dropout: float, residual: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.LSTM(inputs if i == 0 else hidden, hidden, batch_first=True) for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.hidden = hidden
        self.residual = residual

    def zeros(self, rows: int, like: Tensor) -> RecurrentState:
        state = like.new_zeros(len(self.layers), rows, self.hidden)
        return RecurrentState(state, state)

    def forward(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: RecurrentState | None = None,
        lengths: Int[Tensor, " rows"] | None = None,
    ) -> tuple[Float[Tensor, "rows time hidden"], RecurrentState]:
        """All steps at once.

        Args:
            lengths: Real steps of each row, in host memory; the state returned is then that of each row's own last
                step. Without it every step counts.
        """
        state = state or self.zeros(inputs.shape[0], inputs)
        order = None if lengths is None else _LongestFirst.of(lengths, inputs.device)
        hiddens, cells = [], []
        outputs = inputs
        for i, layer in enumerate(self.layers):
            below = self.dropout(outputs) if i else outputs
            hidden, cell = state.hidden[i : i + 1].contiguous(), state.cell[i : i + 1].contiguous()
            if order is None:
                outputs, (hidden, cell) = layer(below, (hidden, cell))
            else:
                start = hidden.index_select(1, order.rows), cell.index_select(1, order.rows)
                packed = pack_padded_sequence(below.index_select(0, order.rows), order.lengths, batch_first=True)
                packed, (hidden, cell) = layer(packed, start)
                outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=inputs.shape[1])
                outputs = outputs.index_select(0, order.back)
                hidden, cell = hidden.index_select(1, order.back), cell.index_select(1, order.back)
            if self.residual and i:
                outputs = outputs + below
            hiddens.append(hidden[0])
            cells.append(cell[0])
        return outputs, RecurrentState(torch.stack(hiddens), torch.stack(cells))

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: RecurrentState
    ) -> tuple[Float[Tensor, "rows hidden"], RecurrentState]:
        """One step, without what a call of `nn.LSTM` costs beyond its arithmetic."""
        hiddens, cells = [], []
        outputs = inputs
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.LSTM)
            below = self.dropout(outputs) if i else outputs
            before = (state.hidden[i], state.cell[i])
            hidden, cell = torch.lstm_cell(below, before, *layer.all_weights[0])
            outputs = hidden + below if self.residual and i else hidden
            hiddens.append(hidden)
            cells.append(cell)
        return outputs, RecurrentState(torch.stack(hiddens), torch.stack(cells))
