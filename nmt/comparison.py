"""What came of runs of one recipe with varied settings: their scores side by side, as tables and JSON."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from data.files import write_text
from nmt.checkpoint import versions
from nmt.outcome import SEED, Outcome, alike
from nmt.significance import Pair
from nmt.task_metrics import label_order


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over runs; the deviation of a single run is not known."""

    mean: float
    deviation: float | None
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values))

    @classmethod
    def of_known(cls, values: Sequence[float | None]) -> "Spread | None":
        """That of the values that are known, if any is."""
        known = [value for value in values if value is not None]
        return cls.of(known) if known else None


@dataclass(frozen=True)
class LengthSpread:
    """BLEU of the test sentences whose source has so many words; `sentences` of the first run."""

    words: str
    sentences: int
    bleu: Spread


@dataclass(frozen=True)
class Summary:
    """Runs that differ in nothing but their seed."""

    name: str
    varied: dict[str, str]
    scores: dict[str, Spread]
    groups: dict[str, Spread]
    perplexity: Spread | None = None
    minutes: Spread | None = None
    lengths: list[LengthSpread] = field(default_factory=list)


def summarize(outcomes: Sequence[Outcome]) -> list[Summary]:
    """The outcomes that are no failures, those that differ in their seed alone taken together."""
    return [
        Summary(
            name=name,
            varied={key: value for key, value in runs[0].varied.items() if key != SEED},
            scores={score: Spread.of([run.scores[score] for run in runs]) for score in runs[0].scores},
            groups={
                label: Spread.of([run.groups[label] for run in runs if label in run.groups])
                for label in sorted({label for run in runs for label in run.groups}, key=label_order)
            },
            perplexity=Spread.of_known([run.perplexity for run in runs]),
            minutes=Spread.of_known([run.minutes for run in runs]),
            lengths=_over_lengths(runs),
        )
        for name, runs in alike([outcome for outcome in outcomes if outcome.scores], [SEED]).items()
    ]


def _over_lengths(runs: Sequence[Outcome]) -> list[LengthSpread]:
    found = []
    for bucket in runs[0].lengths:
        bleu = Spread.of_known([other.bleu for run in runs for other in run.lengths if other.words == bucket.words])
        if bleu:
            found.append(LengthSpread(bucket.words, bucket.sentences, bleu))
    return found


def write_comparison(path: Path, recipe: str, outcomes: Sequence[Outcome], pairs: Sequence[Pair] = ()) -> None:
    """Write comparison.json: every run, the means over seeds, tests of differences, and versions; what is not known is
    null."""
    record = {
        "recipe": recipe,
        "runs": [asdict(outcome) for outcome in outcomes],
        "over_seeds": [asdict(summary) for summary in summarize(outcomes)],
        "pairs": [asdict(pair) for pair in pairs],
        "versions": versions(),
    }
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def render_outcomes(outcomes: Sequence[Outcome]) -> Table:
    """A row for each run."""
    names = list(next(outcome.scores for outcome in outcomes if outcome.scores))
    keys, failed = list(outcomes[0].varied), any(outcome.failure for outcome in outcomes)
    table = Table(title="Scores of the test part", title_justify="left")
    for key in [*keys, *names, "updates", "minutes", *(["failed"] if failed else [])]:
        table.add_column(key, justify="left" if key in (*keys, "failed") else "right")
    for outcome in outcomes:
        scores = (shown(outcome.scores.get(name), name) for name in names)
        updates = "-" if outcome.updates is None else f"{outcome.updates:,}"
        minutes = "-" if outcome.minutes is None else f"{outcome.minutes:.1f}"
        why = [outcome.failure or ""] if failed else []
        table.add_row(*outcome.varied.values(), *scores, updates, minutes, *why)
    return table


def render_summaries(summaries: Sequence[Summary]) -> Table:
    """Mean ± standard deviation, a row for what differs in more than the seed."""
    keys, names = list(summaries[0].varied), list(summaries[0].scores)
    known = any(summary.perplexity for summary in summaries)
    table = Table(title="Mean ± standard deviation over seeds", title_justify="left")
    for key in (*keys, "runs", *names, *(["validation perplexity"] if known else []), "minutes"):
        table.add_column(key, justify="left" if key in keys else "right")
    for summary in summaries:
        cells = [_spread(one, name) for name, one in summary.scores.items()]
        cells += [_spread(summary.perplexity, "perplexity")] if known else []
        runs = str(summary.scores[names[0]].runs)
        table.add_row(*summary.varied.values(), runs, *cells, _spread(summary.minutes, "minutes"))
    return table


def render_lengths(summaries: Sequence[Summary]) -> Table:
    """Mean BLEU ± standard deviation by source length, a row for each setting and a column for each length."""
    counts = {one.words: one.sentences for summary in summaries for one in summary.lengths}
    labels = sorted(counts, key=label_order)
    table = Table(title="BLEU by words of the source (sentences)", title_justify="left")
    for key in summaries[0].varied:
        table.add_column(key)
    for label in labels:
        table.add_column(f"{label} ({counts[label]:,})", justify="right")
    for summary in summaries:
        found = {one.words: one.bleu for one in summary.lengths}
        table.add_row(*summary.varied.values(), *(_spread(found.get(label), "BLEU") for label in labels))
    return table


def render_groups(summaries: Sequence[Summary], grouped_by: str) -> Table:
    """Shares decoded exactly, a row for each setting and a column for each group."""
    labels = sorted({label for summary in summaries for label in summary.groups}, key=label_order)
    table = Table(title=f"Decoded exactly, by {grouped_by}", title_justify="left")
    for key in ("", *labels):
        table.add_column(key, justify="right" if key else "left")
    for summary in summaries:
        found = (summary.groups.get(label) for label in labels)
        table.add_row(summary.name, *(shown(one.mean if one else None, "exact") for one in found))
    return table


def _spread(one: Spread | None, score: str) -> str:
    """Mean ± standard deviation, where that is known."""
    if one is None:
        return "-"
    return shown(one.mean, score) + ("" if one.deviation is None else f" ± {shown(one.deviation, score)}")


def shown(value: float | None, score: str) -> str:
    """A score as people write it: shares in percent, BLEU, chrF and perplexity with two places, minutes with one,
    caption metrics with three."""
    if value is None or math.isnan(value):
        return "-"
    if score == "exact":
        return f"{value:.2%}"
    places = {"BLEU": 2, "chrF": 2, "perplexity": 2, "minutes": 1}.get(score, 3)
    return f"{value:.{places}f}"
