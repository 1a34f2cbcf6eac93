"""Sentence pairs in memory: what a corpus hands out and batches are cut from.

No corpus library is imported here: translating needs batches, but no corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from data.source import Column, Ragged

POOL_PAIRS = 1 << 16


@dataclass(frozen=True)
class Pool:
    """Pairs that are sorted and cut into batches together; `rows` tells where in the corpus each one stands."""

    source: Column
    target: Ragged
    rows: npt.NDArray[np.int64]


def random_for(seed: int, *path: int) -> np.random.Generator:
    """A generator that depends on the whole path and on nothing else."""
    # as plain entropy, (1, 2) and (1, 2, 0) would be one seed
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=path)))


@runtime_checkable
class Corpus(Protocol):
    """Where pools come from."""

    def pools(self, seed: int, epoch: int, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All pairs once, in an order that depends on nothing but (seed, epoch)."""
        ...
