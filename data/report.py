"""What the prepare stage found and did, as numbers, as JSON and as tables."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Table

from data.length_ratio import LengthRatio

PERCENTILES = (5, 50, 95, 99, 100)


@dataclass(frozen=True)
class SideReport:
    """One side of one split; `lengths` are percentiles of the tokens of a sentence, before any is dropped."""

    tokens: int
    unknown: int
    lengths: dict[int, int]

    @property
    def unknown_rate(self) -> float:
        return self.unknown / max(1, self.tokens)


@dataclass(frozen=True)
class SplitReport:
    """One split: what was read, what became of it, and what stands in it or in train more than once.

    Sentences that differ only in case, punctuation and white space count as the same.

    duplicates: pairs that stood earlier in the same split (they are kept)
    source_in_train, pair_in_train: pairs whose source sentence, or whose source and target, stand in train too
    """

    read: int
    kept: int
    dropped: dict[str, int]
    truncated: int
    source: SideReport
    target: SideReport
    duplicates: int
    source_in_train: int | None
    pair_in_train: int | None
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class VocabularyReport:
    """One vocabulary: `distinct` counts the words of the training text, `coverage` their running share in it."""

    level: str
    size: int
    distinct: int
    coverage: float


@dataclass(frozen=True)
class PrepareReport:
    splits: dict[str, SplitReport]
    source: VocabularyReport | None  # none where the source is no text
    target: VocabularyReport
    length_ratio: LengthRatio
    pairs_per_second: float
    seconds: float
    notes: list[str]


def percentiles(lengths: npt.NDArray[np.int32]) -> dict[int, int]:
    """The length below which so many percent of the sentences lie."""
    if not len(lengths):
        return dict.fromkeys(PERCENTILES, 0)
    values = np.percentile(lengths, PERCENTILES, method="higher")
    return {p: int(v) for p, v in zip(PERCENTILES, values, strict=True)}


def write_report(report: PrepareReport, path: Path) -> None:
    path.write_text(json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def render(report: PrepareReport) -> RenderableType:
    """The report as tables for a terminal."""
    pairs = Table(title="Sentence pairs", title_justify="left")
    for name in ("split", "read", "kept", "dropped", "cut off", "repeated", "source in train", "pair in train"):
        pairs.add_column(name, justify="left" if name in ("split", "dropped") else "right")
    sides = Table(title="Tokens", title_justify="left")
    for name in ("split", "side", "tokens", "unknown", *(f"{p} %" for p in PERCENTILES)):
        sides.add_column(name, justify="left" if name in ("split", "side") else "right")
    for name, split in report.splits.items():
        dropped = ", ".join(f"{count:,} {why}" for why, count in split.dropped.items() if count) or "none"
        inside = ("-" if n is None else f"{n:,}" for n in (split.source_in_train, split.pair_in_train))
        counts = (split.read, split.kept, dropped, split.truncated, split.duplicates)
        pairs.add_row(name, *(c if isinstance(c, str) else f"{c:,}" for c in counts), *inside)
        for label, side in (("source", split.source), ("target", split.target)):
            lengths = (str(side.lengths[p]) for p in PERCENTILES)
            sides.add_row(name, label, f"{side.tokens:,}", f"{side.unknown_rate:.2%}", *lengths)
    sides.caption = "the last columns: so many percent of the sentences have at most this many tokens"
    words = Table(title="Vocabulary", title_justify="left")
    for name in ("side", "level", "entries", "distinct words in train", "running text covered"):
        words.add_column(name, justify="left" if name in ("side", "level") else "right")
    for label, known in (("source", report.source), ("target", report.target)):
        if known:
            words.add_row(label, known.level, f"{known.size:,}", f"{known.distinct:,}", f"{known.coverage:.2%}")
    per_token = report.target.size
    pairs.caption = "repeated: stood earlier in the split, whatever its case and punctuation; such pairs are kept"
    words.caption = (
        f"softmax: {per_token:,} outputs for every target token, which is {per_token * 512 / 1e6:.1f} M multiply-adds "
        "and as many weights with a decoder of 512 units"
    )
    return Group(pairs, sides, words, *report.notes)
