"""Sentence pairs in memory: what a corpus hands out and batches are cut from.

No corpus library is imported here: translating needs batches, but no corpus.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

POOL_PAIRS = 1 << 16


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row i is `values[offsets[i] : offsets[i] + lengths[i]]`."""

    values: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(lengths.sum()))
        return cls(values, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def of_arrow(cls, column: Any) -> "Ragged":
        """Of a list column (pyarrow.ChunkedArray) that is taken from a table."""
        array = column.combine_chunks()
        offsets = array.offsets.to_numpy().astype(np.int64)
        return cls(array.values.to_numpy(), offsets[:-1], np.diff(offsets))

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Pool:
    """Pairs that are sorted and cut into batches together; `rows` tells where in the corpus each one stands."""

    source: Ragged
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
