"""Dropout, with a mask of its own for each step or with one for all steps of a sequence."""

import torch.nn.functional as F
from jaxtyping import Float
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
        if not self.variational or values.dim() == 2 or not self.training:
            return super().forward(values)
        return values * F.dropout(values.new_ones(values.shape[0], 1, values.shape[2]), self.p)
