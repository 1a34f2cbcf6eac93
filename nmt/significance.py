"""Whether two settings of a comparison differ by more than which sentences are in the test part: paired bootstrap.

Koehn (2004), as sacrebleu tests two systems, for one seed or several. Where there are several, what is drawn is a
sentence with the outputs of all seeds: to draw from the outputs one behind the other would take those of one sentence
for independent of each other, and find too much significant. The scores are those of the outputs one behind the other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from rich.table import Table
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import _compute_p_value

from data.errors import UserError
from nmt.metrics import BOOTSTRAP_SAMPLES, bootstrap_seed, make_metrics, read_scored_text
from nmt.outcome import SEED, Outcome, alike
from nmt.validation import reference_files

METRICS = ("BLEU", "chrF")
Statistics = Float32[np.ndarray, "sentences counts"]  # what a metric adds up over sentences


@dataclass(frozen=True)
class PairedDifference:
    """`difference` is score - other; 95 % of the resamples lie between low and high."""

    score: float
    other: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Pair:
    """Two values of one setting under one metric, all else being equal.

    metric: BLEU or chrF
    varied: the other varied settings, which both have
    seeds: the difference for each seed that both were run with
    together: that of all these seeds
    """

    metric: str
    varied: dict[str, str]
    key: str
    value: str
    other: str
    seeds: dict[str, PairedDifference]
    together: PairedDifference
    signature: str


def statistics(metric: Metric, lines: Sequence[str]) -> Statistics:
    """The counts of each sentence, in the precision that sacrebleu resamples with."""
    return np.array(metric._extract_corpus_statistics(lines, None), dtype=np.float32)


def paired_difference(metric: Metric, one: Sequence[Statistics], other: Sequence[Statistics]) -> PairedDifference:
    """The difference between two systems; equal scores have the p-value 1 (see `nmt.metrics.compare_systems`).

    Args:
        one: The statistics of the same sentences under each seed.
        other: The same for the baseline.
    """
    sums: tuple[Statistics, Statistics] = (np.sum(one, axis=0), np.sum(other, axis=0))
    seed, sentences = bootstrap_seed(), len(sums[0])
    random = np.random.default_rng(None if seed == "none" else int(seed))
    drawn = random.choice(sentences, size=(BOOTSTRAP_SAMPLES, sentences), replace=True)
    score, baseline = (float(metric._compute_score_from_stats(each.sum(0)).score) for each in sums)
    resampled = [
        np.array([metric._compute_score_from_stats(each[rows].sum(0)).score for rows in drawn]) for each in sums
    ]
    differences = np.sort(resampled[0] - resampled[1])
    sizes = np.abs(differences)
    p_value = _compute_p_value(sizes - sizes.mean(), abs(score - baseline))
    tail = BOOTSTRAP_SAMPLES // 40
    return PairedDifference(
        score=score,
        other=baseline,
        difference=score - baseline,
        low=float(differences[tail]),
        high=float(differences[-tail - 1]),
        p_value=1.0 if score == baseline else float(p_value),
    )


def compare_pairs(out: Path, outcomes: Sequence[Outcome], key: str) -> list[Pair]:
    """Test every value of a varied setting against the first one, on the translations that the runs in `out` left.

    Raises:
        UserError: two runs were scored on different references.
    """
    values = list(dict.fromkeys(outcome.varied[key] for outcome in outcomes))
    translated = [one for one in outcomes if one.scores and (out / one.name / "test.translations.txt").exists()]
    pairs: list[Pair] = []
    for runs in alike(translated, (SEED, key)).values():
        found = {value: {run.varied.get(SEED, ""): run for run in runs if run.varied[key] == value} for value in values}
        rest = {name: value for name, value in runs[0].varied.items() if name not in (SEED, key)}
        for value in values[1:]:
            seeds = [seed for seed in found[value] if seed in found[values[0]]]
            both = [[out / found[each][seed].name for seed in seeds] for each in (value, values[0])]
            if seeds:
                pairs += _pairs(both[0], both[1], seeds, rest, (key, value, values[0]))
    return pairs


def _pairs(
    ones: Sequence[Path],
    others: Sequence[Path],
    seeds: Sequence[str],
    rest: dict[str, str],
    setting: tuple[str, str, str],
) -> list[Pair]:
    """A pair for each metric, of the runs of two values by seed; `setting` is the key and both values."""
    texts = {folder: [read_scored_text(p) for p in reference_files(folder / "data", "test")] for folder in ones}
    for folder in others:
        if [read_scored_text(p) for p in reference_files(folder / "data", "test")] != texts[ones[0]]:
            raise UserError(f"{folder}: its references are not those of {ones[0]}: such runs cannot be tested in pairs")
    lines = [[read_scored_text(folder / "test.translations.txt") for folder in folders] for folders in (ones, others)]
    scores = (json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) for folder in (*ones, *others))
    lowercase = any(found["lowercase"] for found in scores)
    metrics = make_metrics(texts[ones[0]])
    pairs = []
    for name in METRICS:
        metric = metrics[name.lower() + ("_lowercase" if lowercase else "")]
        one, other = ([statistics(metric, each) for each in runs] for runs in lines)
        signature = metric.get_signature()
        signature.update("bs", BOOTSTRAP_SAMPLES)
        signature.update("seed", bootstrap_seed())
        by_seed = {seed: paired_difference(metric, [one[i]], [other[i]]) for i, seed in enumerate(seeds)}
        together = paired_difference(metric, one, other)
        pairs.append(Pair(name, rest, *setting, by_seed, together, signature.format()))
    return pairs


def render_pairs(pairs: Sequence[Pair], metric: str) -> Table:
    """The pairs of one metric: a row for each seed, and one for all seeds together."""
    table = Table(
        title=f"{metric}: paired bootstrap over {pairs[0].key}",
        title_justify="left",
        caption="95 % of the resamples' differences lie in the interval. For all seeds together, a sentence is drawn "
        "with its outputs of all of them.",
        caption_justify="left",
    )
    names = [*pairs[0].varied, "pair", "seed"]
    for name in (*names, "scores", "difference", "95 % interval", "p-value"):
        table.add_column(name, justify="left" if name in names else "right")
    for pair in (pair for pair in pairs if pair.metric == metric):
        rows = {**(pair.seeds if len(pair.seeds) > 1 else {}), "all": pair.together}
        for seed, row in rows.items():
            table.add_row(
                *pair.varied.values(),
                f"{pair.value} - {pair.other}",
                seed,
                f"{row.score:.2f} - {row.other:.2f}",
                f"{row.difference:+.2f}",
                f"{row.low:+.2f} to {row.high:+.2f}",
                f"{row.p_value:.4f}",
                end_section=seed == "all",
            )
    return table
