"""What came of runs of one recipe with varied settings: their scores side by side, as tables and JSON."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from data.files import write_text
from data.text_files import read_lines
from nmt.checkpoint import load_checkpoint, versions
from nmt.run_directory import RunDirectory
from nmt.task_metrics import label_order

SEED = "training.seed"


@dataclass(frozen=True)
class Outcome:
    """What became of a variant: scores of the test part by name, or why there are none.

    groups holds the exact share (0 to 1) of each group of a generated task; commonest is the share of the commonest
    right answer, which is as far as one gets without reading the source.
    """

    name: str
    varied: dict[str, str]
    scores: dict[str, float]
    groups: dict[str, float]
    commonest: float | None
    updates: int | None
    minutes: float | None
    failure: str | None


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


@dataclass(frozen=True)
class Summary:
    """Runs that differ in nothing but their seed."""

    name: str
    varied: dict[str, str]
    scores: dict[str, Spread]
    groups: dict[str, Spread]


def run_name(varied: Mapping[str, str], keys: Sequence[str]) -> str:
    """A directory name that tells the settings: "cell=rnn,clip_norm=0".

    Args:
        keys: All varied settings; the section is named only where two of them have the same last name.
    """
    last = Counter(key.rsplit(".", 1)[-1] for key in keys)
    parts = []
    for key, value in varied.items():
        short = key.rsplit(".", 1)[-1]
        parts.append(f"{short if last[short] == 1 else key}={value}".replace("/", "_"))
    return ",".join(parts)


def read_outcome(folder: Path, name: str, varied: dict[str, str], failure: str | None) -> Outcome:
    """Read the scores that a run has left in its directory."""
    scores: dict[str, float] = {}
    groups: dict[str, float] = {}
    commonest = updates = minutes = None
    if not failure and (folder / "metrics.json").exists():
        found = _read(folder / "metrics.json")
        scores = {"exact": found["exact"]}
        groups = {label: each["exact"] for label, each in found["groups"].items()}
        answers = Counter(read_lines(folder / "data" / "test.reference"))
        commonest = max(answers.values()) / answers.total()
    elif not failure and (folder / "evaluation.json").exists():
        found = _read(folder / "evaluation.json")
        if "bleu" in found:
            case = "_lowercase" if found["lowercase"] else ""
            scores = {title: found[title.lower() + case]["score"] for title in ("BLEU", "chrF")}
        else:
            scores = {"CIDEr": found["cider"], "BLEU-4": found["bleu4"]}
    if newest := RunDirectory(folder).newest():
        position = load_checkpoint(newest)[2]["position"]
        updates, minutes = position["update"], position["seconds"] / 60
    return Outcome(name, varied, scores, groups, commonest, updates, minutes, failure)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def summarize(outcomes: Sequence[Outcome]) -> list[Summary]:
    """The outcomes that are no failures, those that differ in their seed alone taken together."""
    alike: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.scores:
            rest = {key: value for key, value in outcome.varied.items() if key != SEED}
            alike.setdefault(run_name(rest, list(outcome.varied)) or "all", []).append(outcome)
    return [
        Summary(
            name=name,
            varied={key: value for key, value in runs[0].varied.items() if key != SEED},
            scores={score: Spread.of([run.scores[score] for run in runs]) for score in runs[0].scores},
            groups={
                label: Spread.of([run.groups[label] for run in runs if label in run.groups])
                for label in sorted({label for run in runs for label in run.groups}, key=label_order)
            },
        )
        for name, runs in alike.items()
    ]


def write_comparison(path: Path, recipe: str, outcomes: Sequence[Outcome]) -> None:
    """Write comparison.json: every run, the means over seeds, and versions; what is not known is null."""
    record = {
        "recipe": recipe,
        "runs": [asdict(outcome) for outcome in outcomes],
        "over_seeds": [asdict(summary) for summary in summarize(outcomes)],
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
    table = Table(title="Mean ± standard deviation over seeds", title_justify="left")
    for key in (*keys, "runs", *names):
        table.add_column(key, justify="left" if key in keys else "right")
    for summary in summaries:
        scores = [
            shown(one.mean, name) + ("" if one.deviation is None else f" ± {shown(one.deviation, name)}")
            for name, one in summary.scores.items()
        ]
        table.add_row(*summary.varied.values(), str(summary.scores[names[0]].runs), *scores)
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


def shown(value: float | None, score: str) -> str:
    """A score as people write it: shares in percent, BLEU and chrF with two places, caption metrics with three."""
    if value is None or math.isnan(value):
        return "-"
    if score == "exact":
        return f"{value:.2%}"
    return f"{value:.2f}" if score in ("BLEU", "chrF") else f"{value:.3f}"
