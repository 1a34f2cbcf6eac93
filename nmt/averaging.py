"""Averages of weights: a moving one while a model is trained, and the mean of finished models."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class MovingAverage:
    """The exponential moving average of what a model learns (Polyak averaging as in Kingma and Ba 2015, section 7.2).

    After update n it is moved by 1 - min(decay, (1 + n) / (10 + n)) towards the weights, so that the random ones it
    starts from are soon forgotten. What is not learnt, such as the counts of batch norm, is not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._learnt = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._average = self._copy()

    def update(self, n: int) -> None:
        """Take in the weights after update `n`, counted from 1."""
        share = 1 - min(self._decay, (1 + n) / (10 + n))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), list(self._learnt.values()), share)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[dict[str, Tensor]]:
        """Let the model have the average for weights meanwhile; yields its own by name."""
        own = self._copy()
        self._fill(self._average)
        try:
            yield own
        finally:
            self._fill(own)

    def resume(self, own: dict[str, Tensor]) -> None:
        """Go on with what the model holds as the average, and with these as its own weights."""
        self._average = self._copy()
        self._fill(own)

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._learnt.items()}

    def _fill(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self._learnt.items():
                weight.copy_(values[name])
