"""Sentences that belong to rows of another file (images, sequences of frames): to ids, beside the number of the row."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from data.errors import UserError
from data.report import SideReport, percentiles
from data.tokenizer import UNK_ID, Tokenizer, TokenizerConfig, segment

_IDS = datasets.Features({side: datasets.List(datasets.Value("int32")) for side in ("source", "target")})


@dataclass(frozen=True)
class RowText:
    """The sentences of one split as ids, each with its row.

    dropped: sentences that are not among them, by reason
    truncated: sentences that were cut off
    tokens: of all sentences, before any is dropped
    """

    rows: list[int]
    ids: list[list[int]]
    dropped: dict[str, int]
    truncated: int
    tokens: SideReport

    def save(self, path: Path) -> None:
        """Write them as a `data.corpus.PreparedCorpus`; raises UserError if there are none."""
        if not self.ids:
            raise UserError(f"no sentence of {path.name} is left: all are blank or longer than max_length allows")
        datasets.disable_progress_bars()
        columns = {"source": [[row] for row in self.rows], "target": self.ids}
        datasets.Dataset.from_dict(columns, features=_IDS).save_to_disk(path)


def learn_vocabulary(texts: Iterable[str], how: TokenizerConfig) -> tuple[Tokenizer, int]:
    """A tokenizer for these texts, and how many distinct words they have."""
    counts = Counter[str]()
    for segmented in _segment_all(texts, how):
        counts.update(segmented.split())
    return Tokenizer.train(counts, how), len(counts)


def encode_rows(
    tokenizer: Tokenizer,
    how: TokenizerConfig,
    rows: Iterable[int],
    texts: Iterable[str],
    max_length: int,
    *,
    truncate: bool = False,
) -> RowText:
    """The text of each row as ids.

    Args:
        max_length: The most tokens of a sentence; longer ones are dropped, or cut off with `truncate`.
    """
    ids = tokenizer.encode_segmented(_segment_all(texts, how))
    kept = [
        (row, one[:max_length])
        for row, one in zip(rows, ids, strict=True)
        if one and (truncate or len(one) <= max_length)
    ]
    overlong = sum(len(one) > max_length for one in ids)
    lengths = np.array([len(one) for one in ids], dtype=np.int32)
    return RowText(
        [row for row, _ in kept],
        [one for _, one in kept],
        {"blank": sum(not one for one in ids), "overlong": 0 if truncate else overlong},
        overlong if truncate else 0,
        SideReport(int(lengths.sum()), sum(one.count(UNK_ID) for one in ids), percentiles(lengths)),
    )


def _segment_all(texts: Iterable[str], how: TokenizerConfig) -> list[str]:
    return [segment(text, how) for text in texts]
