"""Dropout, with a mask of its own for each step or with one for all steps of a sequence."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nmt.config import ModelConfig


class Dropout(nn.Dropout):
    """Dropout of activations. Variational dropout (Gal and Ghahramani 2016, section 4) drops the same units at every
    step of a sequence; here on what a layer reads and writes, not between the steps of a layer, whose recurrence is
    one fused call."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.dropout)
        self.variational = config.variational_dropout

    def forward(self, values: Float[Tensor, "rows *time features"]) -> Float[Tensor, "rows *time features"]:
        if not self.training or not self.p:
            return values
        whole = not self.variational or values.dim() == 2
        shape = values.shape if whole else torch.Size((values.shape[0], 1, values.shape[2]))
        if values.device.type == "cpu":
            return values * (_kept(shape, self.p) * values.new_tensor(1 / (1 - self.p)))
        return super().forward(values) if whole else values * F.dropout(values.new_ones(shape), self.p)


def _kept(shape: torch.Size, dropped: float) -> Bool[Tensor, "..."]:
    """True with a probability of 1 - `dropped`, which is rounded to 16 bits: torch draws 64 bits in about the time that
    it takes for one such decision, which is 4 % of training's time (docs/performance.md)."""
    count = shape.numel()
    least = torch.iinfo(torch.int64).min
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(least, None).view(torch.int16)
    least_kept = min(round(dropped * 2**16), 2**16 - 1) - 2**15
    return (drawn[:count] >= least_kept).view(shape)
