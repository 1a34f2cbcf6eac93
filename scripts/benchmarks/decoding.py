"""How fast a trained model translates, in batches and one sentence alone, beside the plain loop with a model of its
sizes."""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Group

from data.errors import UserError
from data.shortlist import Shortlist
from data.text_files import read_lines
from nmt.checkpoint import load_model
from nmt.config import ModelConfig
from nmt.device import bfloat16_computes
from nmt.search_options import SearchOptions
from nmt.stepper import Precision
from nmt.translator import Translator
from scripts.benchmarks.plain import PlainTranslator
from scripts.benchmarks.starting import Process, measure_start, render_start
from scripts.benchmarks.timing import Timing, alternate, table

_PLAIN = 50  # sentences that the plain loop is given: it takes as long for each
_ALONE = 20
_PLAIN_WAY = "plain loop, one by one, greedy, float32"


@dataclass(frozen=True)
class DecodingSpeed:
    """Sentences a second, the milliseconds that single sentences took, the model being warm, and what starting takes.

    The plain loop writes, word by word and sentence by sentence, as many words as our greedy translations have, with a
    model of the same sizes but without attention.

    timings, counts: of each way, and how many sentences it was given
    alone_ms: of single sentences by precision, beam 5
    alike: share of the translations that are the same in float32, by precision, beam 5
    """

    model: ModelConfig
    threads: int
    timings: dict[str, Timing]
    counts: dict[str, int]
    alone_ms: dict[str, list[float]]
    alike: dict[str, float]
    start: dict[str, Process]

    @property
    def rates(self) -> dict[str, float]:
        return {way: self.counts[way] / timing.seconds for way, timing in self.timings.items()}


def measure_decoding(
    path: Path, source: Path, count: int, rounds: int, threads: int, shortlist: Path | None = None
) -> DecodingSpeed:
    """Translate the first `count` lines of a file; with the vocabulary shortlist, if one is given, and without.

    Raises:
        UserError: the model or a file cannot be read, or there is no line.
    """
    cpu = torch.device("cpu")  # as the plain loop
    trained = load_model(path, cpu)
    lines = [line for line in itertools.islice(read_lines(source), count) if line.strip()]
    if not lines:
        raise UserError(f"{source}: only blank lines in its beginning: choose another --source")
    assert trained.source is not None
    config, few = trained.model.config, lines[:_PLAIN]
    greedy, beam = SearchOptions(beam=1), SearchOptions(beam=5)
    precisions: list[Precision] = ["float32", "int8"]
    precisions += ["bfloat16"] if bfloat16_computes(cpu) else []
    translators = {str(precision): Translator([trained], precision=precision) for precision in precisions}
    if shortlist:
        allowed = Shortlist.load(shortlist, trained.source, trained.target)
        for one in precisions:
            translators[f"{one}, with shortlist"] = Translator([trained], precision=one, shortlist=allowed)
    texts = {name: [one.text for one in each.translate(lines, beam)] for name, each in translators.items()}
    written = [len(one.hypotheses[0].tokens) for one in translators["float32"].translate(few, greedy)]
    ids = [trained.source.encode(line) for line in few]
    plain = PlainTranslator(
        len(trained.source), len(trained.target), config.embedding, config.hidden, config.layers, config.dropout
    ).eval()

    def plainly() -> None:
        for one, length in zip(ids, written, strict=True):
            plain.greedy(one[::-1], length + 1)

    def one_by_one() -> None:
        for line in few:
            translators["float32"].translate([line], greedy)

    ways: dict[str, Callable[[], object]] = {}
    counts: dict[str, int] = {}
    for precision, translator in translators.items():
        for name, options in (("greedy", greedy), ("beam 5", beam)):
            ways[f"{name}, {precision}"] = partial(translator.translate, lines, options)
            counts[f"{name}, {precision}"] = len(lines)
    ways |= {"one by one, greedy, float32": one_by_one, _PLAIN_WAY: plainly}
    counts |= dict.fromkeys(("one by one, greedy, float32", _PLAIN_WAY), len(few))
    timings = alternate(ways, rounds)
    alone: dict[str, list[float]] = {precision: [] for precision in translators}
    for line in lines[:_ALONE]:
        for precision, translator in translators.items():
            began = time.perf_counter()
            translator.translate([line], beam)
            alone[precision].append(1000 * (time.perf_counter() - began))
    alike: dict[str, float] = {
        precision: sum(map(str.__eq__, found, texts["float32"])) / len(lines) for precision, found in texts.items()
    }
    return DecodingSpeed(config, threads, timings, counts, alone, alike, measure_start(path, lines, rounds, threads))


def render(speed: DecodingSpeed) -> Group:
    plain = speed.rates[_PLAIN_WAY]
    rows = [
        {
            "way": way,
            "sentences/s": f"{rate:,.1f}",
            "spread of the rounds": f"{speed.timings[way].spread:.0%}",
            "times the plain loop": f"{rate / plain:.1f}",
        }
        for way, rate in speed.rates.items()
    ]
    alone = [
        {
            "precision": precision,
            "one sentence, ms": f"{statistics.median(times):.1f}",
            "from": f"{min(times):.1f}",
            "to": f"{max(times):.1f}",
            "translations as in float32": f"{speed.alike[precision]:.1%}",
        }
        for precision, times in speed.alone_ms.items()
    ]
    return Group(
        table(f"Translating {max(speed.counts.values()):,} sentences", rows),
        table(f"One sentence alone, beam 5, the model being warm (median of {_ALONE} sentences)", alone),
        render_start(speed.start),
    )
