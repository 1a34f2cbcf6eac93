"""Batches by token budget, cut from pools sorted by length."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.pool import Corpus, Pool, random_for
from data.source import Ragged, Source
from data.tokenizer import BOS_ID, EOS_ID, PAD_ID


@dataclass(frozen=True)
class Batch:
    """Sentence pairs ready for teacher forcing.

    target is the start token and then the sentence; labels are the sentence and then the end token, at the real
    positions only, in the order in which `positions` numbers them in the flattened (batch x target_time) grid.
    weights, if there are any, say how much the loss of each label counts.
    """

    source: Source
    target: Int[Tensor, "batch target_time"]
    positions: Int[Tensor, " tokens"]
    labels: Int[Tensor, " tokens"]
    weights: Float[Tensor, " tokens"] | None = None

    def to(self, device: torch.device) -> "Batch":
        return replace(
            self,
            source=self.source.to(device),
            target=self.target.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            weights=None if self.weights is None else self.weights.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class Plan:
    """A batch before its tensors are made: which rows of which pool.

    target_tokens counts the end tokens; cells is what the padded source and target take together.
    """

    pool: Pool
    rows: npt.NDArray[np.int64]

    @property
    def target_tokens(self) -> int:
        return int(self.pool.target.lengths[self.rows].sum()) + len(self.rows)

    @property
    def real(self) -> int:
        return int(self.pool.source.lengths[self.rows].sum()) + self.target_tokens

    @property
    def cells(self) -> int:
        longest = self.pool.source.lengths[self.rows].max() + self.pool.target.lengths[self.rows].max() + 1
        return len(self.rows) * int(longest)

    def collate(self, *, reverse_source: bool) -> Batch:
        return make_batch(self.pool.source.collate(self.rows, reverse=reverse_source), self.pool.target, self.rows)


def make_batch(source: Source, targets: Ragged, rows: npt.NDArray[np.int64]) -> Batch:
    """Teacher forcing of these rows of `targets`; `source` has their sources already."""
    lengths = targets.lengths[rows]
    time = int(lengths.max()) + 1
    inputs = np.full((len(rows), time), PAD_ID, dtype=np.int64)
    inputs[:, 0] = BOS_ID
    inputs[:, 1:] = targets.padded(rows, reverse=False)
    labels = np.full((len(rows), time), PAD_ID, dtype=np.int64)
    labels[:, :-1] = inputs[:, 1:]
    labels[np.arange(len(rows)), lengths] = EOS_ID
    positions = np.flatnonzero(np.arange(time) <= lengths[:, None])
    return Batch(
        source, torch.from_numpy(inputs), torch.from_numpy(positions), torch.from_numpy(labels.ravel()[positions])
    )


def plan_batches(
    corpus: Corpus,
    *,
    batch_tokens: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    sampling: Callable[[Pool, np.random.Generator], Pool] | None = None,
) -> Iterator[Plan]:
    """The batches of one epoch, like lengths together, in an order that is a function of (seed, epoch).

    Args:
        batch_tokens: The most cells (sentences times longest length, on the longer side) of a batch; a single pair
            that is longer makes a batch of its own.
        skip: How many batches to leave out at the start: where a resumed run goes on.
        sampling: Changes each pool before it is cut (data/sampling.py), with random numbers of its own.
    """
    number = 0
    for index, pool in enumerate(corpus.pools(seed, epoch)):
        if sampling:
            pool = sampling(pool, random_for(seed, epoch, index, 2))
        batches = _cut(pool, batch_tokens, random_for(seed, epoch, index))
        if epoch == 0 and index == 0:
            # memory that will not suffice shows in the first step, not after an hour
            largest = max(range(len(batches)), key=lambda i: Plan(pool, batches[i]).cells)
            batches.insert(0, batches.pop(largest))
        for rows in batches:
            if number >= skip:
                yield Plan(pool, rows)
            number += 1


def plan_in_order(pools: Iterable[Pool], *, batch_tokens: int) -> Iterator[Plan]:
    """All pairs of the pools once, sorted by length, as for validation."""
    for pool in pools:
        for rows in _cut(pool, batch_tokens, None):
            yield Plan(pool, rows)


def _cut(pool: Pool, batch_tokens: int, random: np.random.Generator | None) -> list[npt.NDArray[np.int64]]:
    """Sort a pool by length, ties in random order, and cut it where the budget is full."""
    shuffled = np.arange(len(pool.target)) if random is None else random.permutation(len(pool.target))
    source, target = pool.source.lengths[shuffled], pool.target.lengths[shuffled] + 1
    order = shuffled[np.lexsort((source, target))]
    batches, start, longest = [], 0, 0
    lengths = np.maximum(pool.source.lengths[order], pool.target.lengths[order] + 1).tolist()
    for end, length in enumerate(lengths):
        longest = max(longest, length)
        if end > start and longest * (end - start + 1) > batch_tokens:
            batches.append(order[start:end])
            start, longest = end, length
    batches.append(order[start:])
    if random is not None:
        batches = [batches[i] for i in random.permutation(len(batches))]
    return batches
