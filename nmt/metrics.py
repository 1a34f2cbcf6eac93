"""BLEU, chrF and TER as the sacrebleu command gives them, ROUGE-L, and the significance of their differences.

All scores but ROUGE-L (nmt/rouge.py) come from sacrebleu (Post 2018), with its command's defaults and its way of
reading files, on detokenized output against untouched references. They are percentages: of BLEU (Papineni et al. 2002),
chrF (Popović 2015) and ROUGE-L (Lin 2004) the higher is the better, of TER (Snover et al. 2006) the lower.

The command knows no missing reference: a blank line in a second or later reference file is a translation of no words
to it. For BLEU that is one more length to be close to; for TER, which divides by the mean length of the references, it
can change the score beyond recognition. Where there are such lines, the scores without them are given as well.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result
from sacrebleu.utils import smart_open

from data.errors import UserError
from data.text_files import read_lines
from nmt.rouge import RougeL

BOOTSTRAP_SAMPLES = 1000
_BUCKETS = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 30), (31, None))  # words of the source


@dataclass(frozen=True)
class Score:
    """A percentage and sacrebleu's description of how it was computed."""

    score: float
    signature: str


@dataclass(frozen=True)
class Bucket:
    """BLEU of the sentences whose source has so many words between spaces; None if there are none."""

    words: str
    sentences: int
    bleu: float | None


@dataclass(frozen=True)
class Difference:
    """One metric for two systems: `difference` is score - other, and the intervals hold 95 % of the resamples."""

    score: float
    interval: float
    other: float
    other_interval: float
    difference: float
    p_value: float
    signature: str


def read_scored_text(path: Path) -> list[str]:
    """Lines as the sacrebleu command reads them: without space at the end, and with a byte order mark if there is one.

    Raises:
        UserError: the file is missing, a folder, empty, damaged, not UTF-8 or not readable.
    """
    for _ in read_lines(path):
        pass
    with smart_open(str(path)) as file:  # type: ignore[no-untyped-call]
        return [line.rstrip() for line in file]


def bootstrap_seed() -> str:
    """The seed that sacrebleu resamples with: SACREBLEU_SEED, which "none" turns off, or 12345.

    Raises:
        UserError: the variable is no seed; 0 is refused because sacrebleu takes it for none.
    """
    seed = os.environ.get("SACREBLEU_SEED", "12345").lower()
    if seed != "none" and not (seed.isdecimal() and int(seed)):
        raise UserError(f"the environment variable SACREBLEU_SEED is {seed!r}: set it to a whole number above 0")
    return seed


def make_metrics(references: Sequence[Sequence[str | None]]) -> dict[str, Metric]:
    """The metrics by name, with what they need of the references computed once."""
    streams = cast(Sequence[Sequence[str]], references)  # sacrebleu's types do not know of None
    return {
        "bleu": BLEU(references=streams),
        "bleu_lowercase": BLEU(lowercase=True, force=True, references=streams),
        "chrf": CHRF(references=streams),
        "chrf_lowercase": CHRF(lowercase=True, references=streams),
        "ter": TER(references=streams),
        "ter_cased": TER(case_sensitive=True, references=streams),
        "rouge_l": RougeL(references),
    }


def score_lines(lines: Sequence[str], metrics: Mapping[str, Metric]) -> dict[str, Score]:
    """Every metric of these translations; ter_lowercase is ter, since TER ignores case by default."""
    scores = {}
    for name, metric in metrics.items():
        score = float(metric.corpus_score(lines, None).score)
        scores[name] = Score(score, metric.get_signature().format())
    scores["ter_lowercase"] = scores["ter"]
    return scores


def exact_match(lines: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The percentage of lines that are, letter for letter, one of their references.

    A blank line in a second or later file of references is none.
    """
    found = 0
    for line, first, *more in zip(lines, *references, strict=True):
        found += line == first or (bool(line) and line in more)
    return 100 * found / max(1, len(lines))


def score_by_length(
    lines: Sequence[str], sources: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool
) -> list[Bucket]:
    """BLEU of short, longer and long sentences; blank sources are in none of the buckets."""
    bleu = BLEU(lowercase=lowercase, force=True)
    buckets = []
    for words, rows in rows_by_length(sources).items():
        score = None
        if rows:
            streams = [[stream[i] for i in rows] for stream in references]
            score = float(bleu.corpus_score([lines[i] for i in rows], streams).score)
        buckets.append(Bucket(words, len(rows), score))
    return buckets


def rows_by_length(texts: Sequence[str]) -> dict[str, list[int]]:
    """The places of short, longer and long texts, by their words between spaces; of blank ones in none."""
    words = [len(text.split()) for text in texts]
    return {
        f"{low}-{high or ''}": [i for i, count in enumerate(words) if low <= count <= (high or count)]
        for low, high in _BUCKETS
    }


def compare_systems(
    lines: Sequence[str], other: Sequence[str], metrics: Mapping[str, Metric], *, lowercase: bool
) -> dict[str, Difference]:
    """Paired bootstrap resampling (Koehn 2004) by sacrebleu, with `other` as the baseline.

    A difference of zero has the p-value 1. For two systems with the same output sacrebleu's formula would give the
    smallest there is, since no resample exceeds a difference of zero.
    """
    found = {}
    for name in ("bleu", *(["bleu_lowercase"] if lowercase else []), "chrf", "ter", "rouge_l"):
        # one metric at a time: sacrebleu would take two kinds of BLEU for one
        test = PairedTest([("other", other), ("this", lines)], {name: metrics[name]}, None, "bs", BOOTSTRAP_SAMPLES)
        signatures, results = test()
        key = next(iter(signatures))
        baseline, result = (one for one in results[key] if isinstance(one, Result))
        found[name] = Difference(
            score=float(result.score),
            interval=float(result.ci or 0),
            other=float(baseline.score),
            other_interval=float(baseline.ci or 0),
            difference=float(result.score - baseline.score),
            p_value=1.0 if result.score == baseline.score else float(result.p_value or 0),
            signature=signatures[key].format(),
        )
    return found
