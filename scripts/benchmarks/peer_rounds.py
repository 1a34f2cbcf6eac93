"""What a comparison with peers found: the rounds of each program, tables of them and a record for a file."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.markup import escape

from scripts.benchmarks.timing import table

PLAIN = "plain loop"
_WAYS = "Verso, "  # what their names begin with: the same model
_NO_PEERS = (PLAIN, _WAYS)


@dataclass
class Rounds:
    """What one program did, round by round; the rates are those without loading.

    rates: target words a second in training; sentences a second in translating
    words: written a second in translating, end tokens included
    load: seconds that a file of one line took
    peak_mb: most memory in any round of the largest of its processes; not known of the plain loop, which is here
    failure: what it said last, if it failed: it then was not asked again
    """

    program: str
    model: str
    rates: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    bleu: float | None = None
    failure: str | None = None

    @property
    def rate(self) -> float:
        """The median, 0 if there is none."""
        return statistics.median(self.rates) if self.rates and not self.failure else 0.0


@dataclass(frozen=True)
class Comparison:
    """Training by target words a second; translating by sentences a second, for each beam.

    precision: what our train stage computes in; the peers do so in float32
    trained: how the models that translate came about, by program
    ratios: our rates over those of the best peer, where one has any
    """

    threads: int
    precision: str
    versions: dict[str, dict[str, str]]
    trained: dict[str, dict[str, Any]]
    training: list[Rounds]
    translating: dict[str, list[Rounds]]

    @property
    def ratios(self) -> dict[str, float]:
        return {
            name: ours / best
            for name, each in {"training": self.training, **self.translating}.items()
            if each
            and (ours := each[0].rate)
            and (best := max(one.rate for one in each[1:] if not one.program.startswith(_NO_PEERS)))
        }


def render(found: Comparison) -> Group:
    """One table for training and one for each beam; the models stand below, where there is room."""
    tables = []
    for name, each in {"training": found.training, **found.translating}.items():
        if not each:
            continue
        what = "words/s" if name == "training" else "lines/s"
        title = (
            f"Training, target words, ours in {found.precision}"
            if name == "training"
            else f"Translating the test part, {name}"
        )
        ratio = [f"ours is {found.ratios[name]:.2f} times as fast as the best peer"] if name in found.ratios else []
        models: dict[str, list[str]] = {}
        for one in each:
            if not one.program.startswith(_WAYS):
                models.setdefault(one.model, []).append(one.program)
        notes = [f"{', '.join(programs)}: {model}" for model, programs in models.items()]
        failed = [f"{one.program} failed: {escape(one.failure)}" for one in each if one.failure]
        tables.append(table(title, [_row(one, what) for one in each], "\n".join(ratio + notes + failed)))
    return Group(*tables)


def _row(one: Rounds, what: str) -> dict[str, str]:
    row = {"program": one.program}
    if one.failure:
        row |= {what: "-", "rounds": "failed", "spread": "-"}
    else:
        spread = (max(one.rates) - min(one.rates)) / one.rate
        row |= {
            what: f"{one.rate:,.0f}",
            "rounds": ", ".join(f"{x:,.0f}" for x in one.rates),
            "spread": f"{spread:.0%}",
        }
    if what == "lines/s":
        row["words/s"] = f"{statistics.median(one.words):,.0f}" if one.words else "-"
        row["load, s"] = f"{statistics.median(one.load):.1f}" if one.load else "-"
        row["BLEU"] = "-" if one.bleu is None else f"{one.bleu:.1f}"
    return row | {"peak MB": "-" if one.peak_mb is None else f"{one.peak_mb:,.0f}"}


def record(found: Comparison) -> dict[str, Any]:
    """All of it, raw rounds too, for a file."""
    return {**asdict(found), "ratios": found.ratios}
