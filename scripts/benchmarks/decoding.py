"""How fast a trained model translates, in batches and one sentence alone, beside the plain loop with a model of its
sizes."""

import itertools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Group

from data.errors import UserError
from data.text_files import read_lines
from nmt.checkpoint import load_model
from nmt.config import ModelConfig
from nmt.search import SearchOptions
from nmt.translator import Translator
from scripts.benchmarks.plain import PlainTranslator
from scripts.benchmarks.starting import Process, measure_start, render_start
from scripts.benchmarks.timing import Timing, alternate, table

_PLAIN = 50  # sentences that the plain loop is given: it takes as long for each
_ALONE = 20


@dataclass(frozen=True)
class DecodingSpeed:
    """Sentences a second, the milliseconds that single sentences took, the model being warm, and what starting takes.

    The plain loop writes, word by word and sentence by sentence, as many words as our greedy translations have, with a
    model of the same sizes but without attention.
    """

    model: ModelConfig
    threads: int
    sentences: int
    greedy: Timing
    beam: Timing
    plain: Timing
    alone_ms: list[float]
    start: dict[str, Process]

    @property
    def rates(self) -> dict[str, float]:
        return {
            "greedy": self.sentences / self.greedy.seconds,
            "beam 5": self.sentences / self.beam.seconds,
            "plain loop, greedy": min(_PLAIN, self.sentences) / self.plain.seconds,
        }


def measure_decoding(path: Path, source: Path, count: int, rounds: int, threads: int) -> DecodingSpeed:
    """Translate the first `count` lines of a file.

    Raises:
        UserError: the model or the file cannot be read, or there is no line.
    """
    cpu = torch.device("cpu")  # as the plain loop
    translator, trained = Translator.load(path, cpu), load_model(path, cpu)
    lines = [line for line in itertools.islice(read_lines(source), count) if line.strip()]
    if not lines:
        raise UserError(f"{source}: only blank lines in its beginning: choose another --source")
    assert trained.source is not None
    config = trained.model.config
    greedy, beam = SearchOptions(beam=1), SearchOptions(beam=5)
    written = [len(one.hypotheses[0].tokens) for one in translator.translate(lines[:_PLAIN], greedy)]
    ids = [trained.source.encode(line) for line in lines[:_PLAIN]]
    plain = PlainTranslator(
        len(trained.source), len(trained.target), config.embedding, config.hidden, config.layers, config.dropout
    ).eval()

    def plainly() -> None:
        for one, length in zip(ids, written, strict=True):
            plain.greedy(one[::-1], length + 1)

    timings = alternate(
        {
            "greedy": lambda: translator.translate(lines, greedy),
            "beam": lambda: translator.translate(lines, beam),
            "plain": plainly,
        },
        rounds,
    )
    alone = []
    for line in lines[:_ALONE]:
        began = time.perf_counter()
        translator.translate([line], beam)
        alone.append(1000 * (time.perf_counter() - began))
    start = measure_start(path, lines, rounds, threads)
    greedily, widely, plain_timing = timings.values()
    return DecodingSpeed(config, threads, len(lines), greedily, widely, plain_timing, alone, start)


def render(speed: DecodingSpeed) -> Group:
    plain = speed.rates["plain loop, greedy"]
    spreads = (speed.greedy.spread, speed.beam.spread, speed.plain.spread)
    rows = [
        {
            "way": way,
            "sentences/s": f"{rate:,.1f}",
            "spread of the rounds": f"{spread:.0%}",
            "times the plain loop": f"{rate / plain:.1f}",
        }
        for (way, rate), spread in zip(speed.rates.items(), spreads, strict=True)
    ]
    alone = speed.alone_ms
    caption = (
        f"one sentence alone, beam 5: {statistics.median(alone):.1f} ms (median of {len(alone)} sentences, from "
        f"{min(alone):.1f} to {max(alone):.1f})"
    )
    return Group(table(f"Translating {speed.sentences:,} sentences", rows, caption), render_start(speed.start))
