"""Several models that write one translation together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nmt.search import State, Step

S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class Ensembled(Generic[S]):
    """The states of several models that write one translation together."""

    states: tuple[S, ...]

    def select(self, rows: Int[Tensor, " selected"], sentences: Int[Tensor, " kept"] | None = None) -> "Ensembled[S]":
        """The same rows of every state."""
        return Ensembled(tuple(state.select(rows, sentences) for state in self.states))


def average(steps: Sequence[Step[S]]) -> Step[Ensembled[S]]:
    """The step of an ensemble: the mean of the models' probabilities, which Sutskever et al. leave open."""

    def step(previous: Int[Tensor, " rows"], state: Ensembled[S]) -> tuple[Float[Tensor, "rows vocab"], Ensembled[S]]:
        pairs = [one(previous, its) for one, its in zip(steps, state.states, strict=True)]
        stacked = torch.stack([log_probs.float() for log_probs, _ in pairs])
        return stacked.logsumexp(0) - math.log(len(pairs)), Ensembled(tuple(after for _, after in pairs))

    return step
