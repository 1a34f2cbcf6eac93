"""How the cost of a target word grows with the length of sentences, the vocabulary, the beam, the batch, the width of
the model and the size of the corpus. Models are untrained and words random: neither changes the cost."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.table import Table

from data.batching import Plan, plan_batches
from data.corpus import PreparedCorpus
from data.length_ratio import LengthRatio
from data.pool import Pool
from data.source import Ragged
from data.tokenizer import EOS_ID
from nmt.config import ModelConfig, TrainingConfig
from nmt.decoding import decode
from nmt.model import text_model
from nmt.processes import make_accelerator
from nmt.search_options import SearchOptions
from nmt.stepper import Stepper
from scripts.benchmarks.corpora import RandomText, prepare_corpus, train_stage, write_corpus
from scripts.benchmarks.timing import alternate, table
from scripts.benchmarks.updates import Updates

_SAMPLED = 1000
_FIRST_WORD = 4  # ids below it are special


@dataclass(frozen=True)
class Setting:
    """One model and what it is given: sentences of so many words on both sides, so many at a time; `sampled` words
    of the vocabulary instead of all, if any."""

    width: int = 256
    vocabulary: int = 8000
    length: int = 16
    batch: int = 32
    beam: int = 5
    sampled: int = 0

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(layers=1, hidden=self.width, embedding=self.width, attention="general", bidirectional=True)


@dataclass(frozen=True)
class Axes:
    """The values of each setting; the others stay at `base`, but longer sentences come in smaller batches, so that
    batches keep their number of words."""

    base: Setting = Setting()
    length: tuple[int, ...] = (8, 16, 32, 64)
    vocabulary: tuple[int, ...] = (2000, 8000, 32_000, 64_000)
    beam: tuple[int, ...] = (1, 2, 5, 10, 20)
    batch: tuple[int, ...] = (16, 32, 64, 128, 256)
    width: tuple[int, ...] = (128, 256, 512, 1024)
    pairs: tuple[int, ...] = (2000, 20_000, 200_000)
    updates: int = 20  # of the train stage on each corpus, in twenties, with layers of so many units
    corpus_width: int = 128


@dataclass(frozen=True)
class Cost:
    """Microseconds of elapsed time for a target word, the median of the rounds, and from the fastest to the slowest."""

    axis: str
    value: int
    way: str
    microseconds: float
    spread: float


def measure_growth(axes: Axes, rounds: int) -> list[Cost]:
    """The cost at every value of every axis; the values of an axis take turns."""
    costs: list[Cost] = []
    for axis in ("length", "vocabulary", "batch", "width", "beam"):
        settings = [_setting(axes.base, axis, value) for value in getattr(axes, axis)]
        costs += _measure(axis, settings, rounds, trains=axis != "beam")
    return costs + _measure_corpora(axes, rounds)


def _setting(base: Setting, axis: str, value: int) -> Setting:
    batch = max(1, base.batch * base.length // value) if axis == "length" else base.batch
    return replace(base, **{"batch": batch, axis: value})


def _measure(axis: str, settings: list[Setting], rounds: int, *, trains: bool) -> list[Cost]:
    accelerator = make_accelerator(TrainingConfig())
    ways: dict[tuple[str, int], Callable[[], object]] = {}
    words: dict[int, int] = {}
    for setting in settings:
        value, plan = getattr(setting, axis), _plan(setting)
        words[value] = plan.target_tokens
        if trains:
            ways["training", value] = _training(setting, plan, accelerator)
        if axis == "vocabulary":
            ways["training, sampled", value] = _training(replace(setting, sampled=_SAMPLED), plan, accelerator)
        ways["decoding", value] = _decoding(setting, plan)
    return [
        Cost(axis, value, way, 1e6 * timing.seconds / words[value], timing.spread)
        for (way, value), timing in alternate(ways, rounds).items()
    ]


def _training(setting: Setting, plan: Plan, accelerator: Accelerator) -> Callable[[], object]:
    size = setting.vocabulary
    return partial(Updates(setting.model, size, size, accelerator, sampled=setting.sampled).run, [plan])


def _plan(setting: Setting) -> Plan:
    draw = np.random.default_rng(1)
    shape = (setting.batch, setting.length)
    source, target = (draw.integers(_FIRST_WORD, setting.vocabulary, shape).tolist() for _ in range(2))
    rows = np.arange(setting.batch)
    return Plan(Pool(Ragged.of(source), Ragged.of(target), rows), rows)


def _decoding(setting: Setting, plan: Plan) -> Callable[[], object]:
    """Beam search that writes as many words as the source has: the end is the likeliest as soon as it is allowed."""
    torch.manual_seed(1)
    model = text_model(setting.model, setting.vocabulary, setting.vocabulary).eval()
    with torch.no_grad():
        model.decoder.output.bias[EOS_ID] += 30
    return partial(
        decode,
        [Stepper(model)],
        [plan.pool.source],
        SearchOptions(beam=setting.beam),
        LengthRatio(1.0, 1.0, 1.0),
        batch_tokens=setting.batch * setting.beam * setting.length,
    )


def _measure_corpora(axes: Axes, rounds: int) -> list[Cost]:
    """Preparing a corpus (once), reading it as batches in every round, and so many updates of the train stage."""
    ways = ("preparing", "reading", "train stage")
    seconds: dict[str, dict[int, list[float]]] = {way: {pairs: [] for pairs in axes.pairs} for way in ways}  # a word
    config = replace(axes.base, width=axes.corpus_width).model
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        prepared = {}
        for pairs in axes.pairs:
            folder = Path(name) / str(pairs)
            folder.mkdir()
            text = RandomText(pairs, axes.base.vocabulary, axes.base.vocabulary)
            words = sum(len(target) + 1 for _, target in write_corpus(folder, text))
            began = time.perf_counter()
            prepared[pairs] = prepare_corpus(folder)
            seconds["preparing"][pairs].append((time.perf_counter() - began) / words)
        for number in range(rounds):
            for pairs, data in prepared.items():
                seconds["reading"][pairs].append(_read(data))
                speed = train_stage(data, Path(name) / f"run{pairs}-{number}", config, axes.updates, 1024)
                seconds["train stage"][pairs].append(1 / speed)
    found = []
    for way, by_size in seconds.items():
        for pairs, each in by_size.items():
            median = statistics.median(each)
            found.append(Cost("pairs", pairs, way, 1e6 * median, (max(each) - min(each)) / median))
    return found


def _read(data: Path) -> float:
    """Seconds for a target word of going over a corpus once, to the tensors of its batches."""
    began, words = time.perf_counter(), 0
    for plan in plan_batches(PreparedCorpus(data / "train"), batch_tokens=2048, seed=1, epoch=0):
        plan.collate(reverse_source=True)
        words += plan.target_tokens
    return (time.perf_counter() - began) / words


def render(costs: list[Cost]) -> Table:
    first: dict[tuple[str, str], Cost] = {}
    rows = []
    for cost in sorted(costs, key=lambda one: (one.axis, one.way, one.value)):
        least = first.setdefault((cost.axis, cost.way), cost)
        rows.append(
            {
                "grows": cost.axis,
                "way": cost.way,
                "to": f"{cost.value:,}",
                "µs a target word": f"{cost.microseconds:,.1f}",
                "spread": f"{cost.spread:.0%}",
                "times the first": f"{cost.microseconds / least.microseconds:.2f}",
            }
        )
    return table("Cost of a target word", rows, "spread: from the fastest to the slowest round; preparing has one")
