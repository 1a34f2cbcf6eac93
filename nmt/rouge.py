"""ROUGE-L (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3): the longest common
subsequence of a text and its reference, as an F-measure.

`RougeL` is what papers on summaries report, and the rouge-score package computes: F1 of lower-cased words without
punctuation or stemming, of the best reference, averaged over the texts. On ASCII text its figures are that package's;
words of other scripts, which that package takes for punctuation, are words here. What captioning reports under the
same name is another figure: see captioning/coco_metrics.py.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from sacrebleu.metrics.base import Metric, Score, Signature

Words = Sequence[str]


def rouge_l(candidate: Words, references: Sequence[Words], beta: float) -> float:
    """F-measure of the best precision and the best recall over the references, 0 to 1.

    Args:
        beta: How much more recall counts than precision.
    """
    matches = [(_common(candidate, reference), len(reference)) for reference in references]
    most = max((common for common, _ in matches), default=0)
    if not most:
        return 0.0
    precision = most / len(candidate)
    recall = max(common / length for common, length in matches if length)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _common(a: Words, b: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def rouge_words(text: str) -> list[str]:
    """Lower-cased words of letters, digits and what combines with them; anything else lies between words."""
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower()).split()


class RougeL(Metric):
    """ROUGE-L in sacrebleu's form, so that it is signed, resampled and told of missing references as BLEU is."""

    def __init__(self, references: Sequence[Sequence[str | None]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        streams = cast(Sequence[Sequence[str]], references)  # sacrebleu's types do not know of None
        self._ref_cache = self._cache_references(streams)

    def get_signature(self) -> Signature:
        """Beside sacrebleu's own fields: f, the beta of the F-measure; refs, how several count; agg, over texts."""
        signature = Signature(vars(self))
        for name, value in (
            ("case", "lc"), ("tok", "letters+digits"), ("stem", False), ("f", 1), ("refs", "best"), ("agg", "mean"),
        ):  # fmt: skip
            signature.update(name, value)
        return signature

    def _preprocess_segment(self, sent: str) -> str:
        return " ".join(rouge_words(sent))

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": [text.split() for text in refs]}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[float]:
        words = hypothesis.split()
        return [max((rouge_l(words, [one], beta=1.0) for one in ref_kwargs["references"]), default=0.0), 1.0]

    def _compute_score_from_stats(self, stats: list[float] | Float[np.ndarray, "2"]) -> Score:
        return Score("ROUGE-L", 100 * float(stats[0]) / float(stats[1]))

    def _aggregate_and_compute(self, stats: list[list[float]]) -> Score:
        return self._compute_score_from_stats([sum(column) for column in zip(*stats, strict=True)])
