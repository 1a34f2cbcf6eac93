"""Lists of candidate translations, put in a new order with the help of a second model's scores.

The scores of two models are combined log-linearly, as a feature of Cho et al. (2014), section 3, is with those of a
phrase-based system.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import StatisticsError, correlation, fmean

import numpy as np
import sacrebleu

from data.errors import UserError
from data.text_files import read_lines
from nmt.scoring import PairScore

WEIGHTS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class Candidate:
    """One translation of a list.

    log_prob: what the system that wrote the list made of it, without any penalty
    score: what the list is ordered by
    """

    log_prob: float
    score: float
    text: str


def read_candidates(path: Path) -> list[list[Candidate]]:
    """The candidates of each source line, from the five columns that `translate --n-best` writes.

    Raises:
        UserError: the file cannot be read, or a line is not of that form; naming the line.
    """
    found: list[list[Candidate]] = []
    for number, line in enumerate(read_lines(path), 1):
        columns = line.split("\t")
        try:
            source, rank, score, log_prob = int(columns[0]), int(columns[1]), float(columns[2]), float(columns[3])
            text = columns[4]
        except (ValueError, IndexError) as error:
            raise UserError(
                f"{path}, line {number}: not the five columns of `translate --n-best N` (line, rank, score, "
                "log-probability, translation): write the list with translate --n-best 2 or more"
            ) from error
        if (source, rank) not in ((len(found), len(found[-1]) + 1 if found else 0), (len(found) + 1, 1)):
            raise UserError(f"{path}, line {number}: line {source}, rank {rank} is out of order: a part is missing")
        if rank == 1:
            found.append([])
        found[-1].append(Candidate(log_prob, score, text))
    return found


def rerank(
    candidates: Sequence[Sequence[Candidate]],
    scores: Sequence[Sequence[PairScore | None]],
    weight: float,
    length_penalty: float,
) -> list[list[Candidate]]:
    """The lists in their new order, each candidate with its new score.

    Args:
        scores: The second model's, of the same shape; a list in which one is None keeps its order.
        weight: The second model's share, 0 to 1: the log-probabilities are weighed with 1 - weight and weight.
        length_penalty: Exponent of the length (in the second model's tokens) that the sum is divided by.
    """
    lists = []
    for one, its in zip(candidates, scores, strict=True):
        both = [
            replace(
                candidate,
                score=((1 - weight) * candidate.log_prob + weight * score.log_prob) / score.tokens**length_penalty,
            )
            for candidate, score in zip(one, its, strict=True)
            if score is not None
        ]
        lists.append(sorted(both, key=lambda each: -each.score) if len(both) == len(one) else list(one))
    return lists


@dataclass(frozen=True)
class Choice:
    """What a weight does to a text: BLEU of the first of each list, lower-cased if so wanted."""

    weight: float
    bleu: float


@dataclass(frozen=True)
class Judged:
    """How lists compare with references.

    Args:
        choices: By weight of the second model.
        oracle: BLEU if of each list the candidate of best sentence BLEU stood first: no order does much better.
        own: Spearman's correlation, within a list, of the first system's log-probability a token with the candidate's
            chrF against the reference; mean over the lists that have one. `second`: of the second model's.
    """

    choices: list[Choice]
    oracle: float
    own: float
    second: float

    @property
    def best(self) -> Choice:
        return max(self.choices, key=lambda choice: choice.bleu)


def judge(
    candidates: Sequence[Sequence[Candidate]],
    scores: Sequence[Sequence[PairScore | None]],
    references: Sequence[Sequence[str]],
    length_penalty: float,
    *,
    lowercase: bool,
) -> Judged:
    """What each weight would give.

    Args:
        references: The lines of each reference file.
    """

    def bleu(lines: Sequence[str]) -> float:
        return float(sacrebleu.corpus_bleu(list(lines), references, lowercase=lowercase).score)

    choices = [
        Choice(weight, bleu([one[0].text for one in rerank(candidates, scores, weight, length_penalty)]))
        for weight in WEIGHTS
    ]
    best, own, second = [], [], []
    cased = [[line.lower() for line in each] for each in references] if lowercase else references
    for one, its, *wanted in zip(candidates, scores, *cased, strict=True):
        quality = [float(sacrebleu.sentence_chrf(candidate.text, wanted).score) for candidate in one]
        by_bleu = [float(sacrebleu.sentence_bleu(candidate.text, wanted).score) for candidate in one]
        best.append(one[max(range(len(one)), key=by_bleu.__getitem__)].text)
        known = [score for score in its if score is not None]
        if len(known) == len(one):
            own.append(_rank_correlation([c.log_prob / s.tokens for c, s in zip(one, known, strict=True)], quality))
            second.append(_rank_correlation([score.log_prob / score.tokens for score in known], quality))
    return Judged(choices, bleu(best), _mean(own), _mean(second))


def _rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's; NaN where one of the two does not vary."""
    try:
        return correlation(_ranks(one), _ranks(other))
    except StatisticsError:
        return math.nan


def _ranks(values: Sequence[float]) -> list[float]:
    """From 0; equal values share the mean of their ranks."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    ranks: list[float] = ((2 * ends - counts - 1) / 2)[places].tolist()
    return ranks


def _mean(values: Sequence[float]) -> float:
    return fmean([value for value in values if not math.isnan(value)] or [math.nan])


@dataclass(frozen=True)
class Phrase:
    """The two sides of an entry of a phrase table."""

    source: str
    target: str


def read_phrases(lines: Sequence[str], path: Path) -> list[Phrase]:
    """The entries of a phrase table in the form of Moses, `source ||| target ||| scores ||| ...`.

    Raises:
        UserError: a line of `path` is none.
    """
    phrases = []
    for number, line in enumerate(lines, 1):
        fields = line.split(" ||| ")
        if len(fields) < 3 or not fields[0].strip():
            raise UserError(
                f"{path}, line {number}: no entry of a phrase table: it must read source ||| target ||| scores"
            )
        phrases.append(Phrase(fields[0], fields[1]))
    return phrases


def add_score(line: str, score: PairScore | None) -> str:
    """The entry with the probability as its last score."""
    source, target, scores, *rest = line.split(" ||| ")
    probability = math.exp(score.log_prob) if score else 0.0
    return " ||| ".join([source, target, f"{scores.rstrip()} {probability:.6g}", *rest])
