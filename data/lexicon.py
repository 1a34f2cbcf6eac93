"""Which target words a source word is translated by: IBM Model 1 (Brown et al. 1993, section 4.1), learnt from pairs.

The table holds the pairs of words that stand in one sentence pair at least. In a large corpus these are too many, so
that no more than a fixed number of them are kept: those that have the largest shares of their source words.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.pool import Pool
from data.source import Ragged
from data.tokenizer import PAD_ID

NULL_ID = PAD_ID  # as a source word: the empty word, which gives what no word of the sentence gives
_ITERATIONS = 5
_MOST_ENTRIES = 1 << 25  # 16 bytes each
_CELLS = 1 << 21  # pairs of words looked at together

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lexicon:
    """t(target | source) of pairs of words, sorted by source and then target; the source 0 is the empty word."""

    sources: Integers
    targets: Integers
    probabilities: Numbers

    def best(self, count: int) -> "Lexicon":
        """The most probable targets of each source, most probable first."""
        order = np.lexsort((self.targets, -self.probabilities, self.sources))
        sources = self.sources[order]
        rank = np.arange(len(sources)) - np.searchsorted(sources, sources)
        order = order[rank < count]
        return Lexicon(self.sources[order], self.targets[order], self.probabilities[order])


def learn_lexicon(
    pools: Callable[[], Iterable[Pool]],
    target_size: int,
    *,
    iterations: int = _ITERATIONS,
    most_entries: int = _MOST_ENTRIES,
) -> Lexicon:
    """Learn a lexicon by expectation maximization, from equal probabilities.

    Args:
        pools: Gives the training pairs, of text both, anew each time.
        target_size: Entries of the target vocabulary.
        most_entries: Pairs of words that are kept.
    """
    keys, values = np.zeros(0, np.int64), np.zeros(0)
    for source, target, place, length in _cells(pools()):
        keys, values = _merged(keys, values, source * target_size + target, 1 / length[place])
        keys, values = _largest(keys, values, target_size, most_entries)
    values = _normalised(keys, values, target_size)
    for _ in range(iterations - 1):
        counts = np.zeros_like(values)
        for source, target, place, _ in _cells(pools()):
            wanted, inverse = np.unique(source * target_size + target, return_inverse=True)
            found = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
            known = keys[found] == wanted
            shares = np.where(known, values[found], 0)[inverse]
            # of each target word all of it is given by the words of its sentence
            total = np.bincount(place, shares)[place]
            shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
            counts[found[known]] += np.bincount(inverse, shares)[known]
        values = _normalised(keys, counts, target_size)
    return Lexicon(keys // target_size, keys % target_size, values)


def _cells(pools: Iterable[Pool]) -> Iterator[tuple[Integers, Integers, Integers, Integers]]:
    """Every source word, the empty one too, with every target word of its sentence.

    Yields:
        ids of the source words, ids of the target words, which of the target words at hand each is of, and for each of
        these how many source words stand in its sentence.
    """
    for pool in pools:
        assert isinstance(pool.source, Ragged)
        heights, widths = pool.source.lengths + 1, pool.target.lengths
        part = np.cumsum(heights * widths) // _CELLS
        starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(part)], strict=True):
            rows = np.arange(start, end)
            height, width = heights[rows], widths[rows]
            target = pool.target.taken(rows).astype(np.int64)
            high = np.repeat(height, width)  # of each target word
            place = np.repeat(np.arange(len(target)), high)
            source_place = np.arange(len(place)) - np.repeat(np.cumsum(high) - high, high)
            offset = np.repeat(np.repeat(pool.source.offsets[rows], width), high)
            values = pool.source.values[np.maximum(offset + source_place - 1, 0)].astype(np.int64)
            yield np.where(source_place == 0, NULL_ID, values), target[place], place, high


def _merged(keys: Integers, values: Numbers, more: Integers, counts: Numbers) -> tuple[Integers, Numbers]:
    """The sums by key, sorted by key, where there are sums already."""
    found, inverse = np.unique(more, return_inverse=True)
    both = np.concatenate([keys, found])
    order = np.argsort(both, kind="stable")  # of two sorted runs, which takes one pass
    both, sums = both[order], np.concatenate([values, np.bincount(inverse, counts)])[order]
    first = np.flatnonzero(np.diff(both, prepend=-1))
    return both[first], np.add.reduceat(sums, first) if len(first) else sums


def _largest(keys: Integers, values: Numbers, target_size: int, most: int) -> tuple[Integers, Numbers]:
    """Those with the largest shares of their sources, of too many."""
    if len(keys) <= most:
        return keys, values
    kept = np.sort(np.argpartition(_normalised(keys, values, target_size), -most)[-most:])
    return keys[kept], values[kept]


def _normalised(keys: Integers, counts: Numbers, target_size: int) -> Numbers:
    """Counts as shares of those of their sources."""
    sources = keys // target_size
    return counts / np.maximum(np.bincount(sources, counts)[sources], 1e-300)
