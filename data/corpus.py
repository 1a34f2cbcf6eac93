"""A prepared corpus as pools of sentence pairs, in an order that depends on nothing but (seed, epoch).

Only one pool is in memory at a time. A pool is large enough that sorting it by length leaves little padding and
small enough that it costs some megabytes, whatever the size of the corpus.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import datasets
import numpy as np
import numpy.typing as npt

from data.dialogues import clip
from data.errors import UserError
from data.pool import POOL_PAIRS, Pool, random_for
from data.readers import ParallelText, read_pairs
from data.source import Column, Ragged
from data.tokenizer import Tokenizer

_MOST_BLOCKS = 1 << 18


class PreparedCorpus:
    """The ids of one split, read from memory-mapped Arrow files."""

    def __init__(self, path: Path, *, shuffle_within: int = 0) -> None:
        """
        Args:
            shuffle_within: Hand out pools of so many neighbours in the order of the corpus; 0 mixes all of it.

        Raises:
            UserError: `path` holds no prepared split.
        """
        self._shuffle_within = shuffle_within
        try:
            self._rows = datasets.load_from_disk(str(path)).with_format("arrow")
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: no prepared data here ({error}): run scripts/prepare_translation.py") from error

    def __len__(self) -> int:
        return len(self._rows)

    def pools(self, seed: int, epoch: int, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All pairs in a random order. Blocks of neighbours are drawn once a corpus has more than 262,144 pairs,
        so that the order itself never takes more than two megabytes. In the order of the corpus if it was made so."""
        if self._shuffle_within:
            yield from self.in_order(self._shuffle_within)
            return
        block = -(-len(self) // _MOST_BLOCKS)
        order = random_for(seed, epoch).permutation(-(-len(self) // block))
        for start in range(0, len(order), max(1, size // block)):
            blocks = np.sort(order[start : start + max(1, size // block)])
            rows = (blocks[:, None] * block + np.arange(block)).ravel()
            yield self._pool(rows[rows < len(self)])

    def in_order(self, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All pairs as they stand in the corpus."""
        for start in range(0, len(self), size):
            yield self._pool(np.arange(start, min(start + size, len(self))))

    def _pool(self, rows: npt.NDArray[np.int64]) -> Pool:
        table: Any = self._rows[rows]
        return Pool(Ragged.of_arrow(table["source"]), Ragged.of_arrow(table["target"]), rows)


@runtime_checkable
class RowColumns(Protocol):
    """How the sources that stand in certain rows are to be read; `random` chooses where there is a choice."""

    def __call__(self, rows: npt.NDArray[np.int64], random: np.random.Generator | None, /) -> Column: ...


class RowCorpus:
    """Pairs whose source is the row of another file (of an image, of frames); it may stand there several times."""

    def __init__(self, pairs: PreparedCorpus, columns: RowColumns) -> None:
        self._pairs, self._columns = pairs, columns

    def __len__(self) -> int:
        return len(self._pairs)

    def pools(self, seed: int, epoch: int, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All pairs once, in an order that depends on nothing but (seed, epoch), and so do the random choices."""
        for index, pool in enumerate(self._pairs.pools(seed, epoch, size)):
            yield self._with_sources(pool, random_for(seed, epoch, index, 1))

    def in_order(self, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All pairs as they stand in the corpus, with nothing random."""
        for pool in self._pairs.in_order(size):
            yield self._with_sources(pool, None)

    def _with_sources(self, pool: Pool, random: np.random.Generator | None) -> Pool:
        assert isinstance(pool.source, Ragged)  # the row, alone
        rows = pool.source.values[pool.source.offsets].astype(np.int64)
        return Pool(self._columns(rows, random), pool.target, pool.rows)


class StreamedCorpus:
    """A training text that is read and encoded anew in every epoch, because it is too large to be prepared.

    Pairs are shuffled within a pool, not across the file. `read`, `dropped` (by reason) and `truncated` count the
    pairs of the latest epoch, as far as it has been read.
    """

    def __init__(
        self,
        text: ParallelText,
        base: Path,
        tokenizers: tuple[Tokenizer, Tokenizer],
        max_length: int,
        truncate: bool,
        *,
        shuffle_within: int = 0,
    ) -> None:
        self._text, self._base, self._tokenizers = text, base, tokenizers
        self._max_length, self._truncate, self._shuffle_within = max_length, truncate, shuffle_within
        self._reset()

    def _reset(self) -> None:
        self.read = self.truncated = 0
        self.dropped = {"blank": 0, "overlong": 0}

    def describe(self) -> str:
        """What became of the pairs of the latest epoch, in one line for the user."""
        dropped = ", ".join(f"{count:,} {why}" for why, count in self.dropped.items() if count) or "none"
        return (
            f"{self.read:,} pairs streamed; dropped: {dropped}; {self.truncated:,} truncated to "
            f"{self._max_length} tokens"
        )

    def pools(self, seed: int, epoch: int, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All pairs in the order of the files: the shuffling is left to the batches.

        Raises UserError if the text cannot be read, or no pair of it is short enough.
        """
        del seed, epoch
        size = self._shuffle_within or size
        self._reset()
        source: list[list[int]] = []
        target: list[list[int]] = []
        rows: list[int] = []
        for number, pair in enumerate(read_pairs(self._text, base=self._base)):
            one, two = self._tokenizers[0].encode(pair.source), self._tokenizers[1].encode(pair.target)
            self.read += 1
            overlong = max(len(one), len(two)) > self._max_length
            if not one or not two:
                self.dropped["blank"] += 1
                continue
            if overlong and not self._truncate:
                self.dropped["overlong"] += 1
                continue
            self.truncated += overlong
            source.append(list(clip(one, self._max_length, end=self._text.history > 0)))
            target.append(two[: self._max_length])
            rows.append(number)
            if len(rows) == size:
                yield Pool(Ragged.of(source), Ragged.of(target), np.array(rows))
                source, target, rows = [], [], []
        if rows:
            yield Pool(Ragged.of(source), Ragged.of(target), np.array(rows))
        if self.read == sum(self.dropped.values()):
            raise UserError(f"no pair of the training text is left: {self.describe()}")


def training_corpus(
    prepared: Path, settings: dict[str, Any], tokenizers: tuple[Tokenizer, Tokenizer]
) -> PreparedCorpus | StreamedCorpus:
    """The training split of a prepared directory, memory-mapped or streamed as its `settings` (config.yaml) say."""
    within = settings.get("shuffle_within", 0)  # data of earlier versions have no such setting
    if not settings["stream"]:
        return PreparedCorpus(prepared / "train", shuffle_within=within)
    return StreamedCorpus(
        ParallelText(**settings["train"]),
        Path(settings["base"]),
        tokenizers,
        settings["max_length"],
        settings["overlong"] == "truncate",
        shuffle_within=within,
    )
