"""How fast a translator trains: the train stage as users run it, beside the plain loop and the machine's limit."""

import itertools
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group

from data.batching import plan_batches
from data.corpus import PreparedCorpus
from data.tokenizer import Tokenizer
from nmt.config import ModelConfig, TrainingConfig
from nmt.processes import make_accelerator
from scripts.benchmarks.corpora import RandomText, prepare_corpus, train_stage, write_corpus
from scripts.benchmarks.limits import Limit, Shape, measure_limits
from scripts.benchmarks.plain import PlainTranslator, train_plainly
from scripts.benchmarks.timing import table
from scripts.benchmarks.updates import Updates

_CONFIG = ModelConfig(layers=2, hidden=512, embedding=256, dropout=0.3)
_TEXT = RandomText()
_UPDATES = 40
_PLAIN_WARM = 10
_WATCHED_WARM, _WATCHED = 3, 10  # updates in which each part is timed


@dataclass(frozen=True)
class TrainingSpeed:
    """Target words a second, the end token included, round by round.

    operations: floating-point operations that the model needs for one of them, forward and back, its share of the
        source included and padding not
    share: of the machine's best rate for one of the operations of the model, in the precision that ours computes in
    parts: where the time of an update goes, as shares of it
    """

    model: ModelConfig
    threads: int
    precision: str
    ours: list[float]
    plain: list[float]
    operations: float
    limits: list[Limit]
    share: float
    parts: dict[str, float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.plain)


def measure_training(
    rounds: int, threads: int, config: ModelConfig = _CONFIG, text: RandomText = _TEXT, updates: int = _UPDATES
) -> TrainingSpeed:
    """Train on random words, as many and as long as in Multi30k, in both ways; `updates` count, in twenties."""
    ours, plain = [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        pairs = write_corpus(folder, text)
        data = prepare_corpus(folder)
        source, target = (len(Tokenizer.load(data / f"{side}.model")) for side in ("source", "target"))
        tutorial = PlainTranslator(source, target, config.embedding, config.hidden, config.layers, config.dropout)
        for number in range(rounds):
            ours.append(train_stage(data, folder / f"run{number}", config, updates))
            plain.append(train_plainly(tutorial, pairs, 128, updates, _PLAIN_WARM))
        watched = Updates(config, source, target, make_accelerator(TrainingConfig()))
        plans = plan_batches(PreparedCorpus(data / "train"), batch_tokens=2048, seed=1, epoch=0)
        parts = watched.shares(itertools.islice(plans, _WATCHED_WARM), itertools.islice(plans, _WATCHED))
    shape = Shape(embedding=config.embedding, hidden=config.hidden, layers=config.layers, vocabulary=target)
    limits = measure_limits(shape, rounds)
    precision = "bfloat16" if any(limit.precision == "bfloat16" for limit in limits) else "float32"
    operations = _operations(config, target, pairs)
    best = max(limit.gflops for limit in limits if limit.precision == precision)
    share = statistics.median(ours) * operations / 1e9 / best
    return TrainingSpeed(config, threads, precision, ours, plain, operations, limits, share, parts)


def _operations(config: ModelConfig, vocabulary: int, pairs: list[tuple[list[int], list[int]]]) -> float:
    """Two operations for each weight that a word meets in the matrix products, times three for the way back."""
    inputs = [config.embedding, *[config.hidden] * (config.layers - 1)]
    recurrent = sum(4 * config.hidden * (size + config.hidden) for size in inputs)
    words = [sum(len(pair[side]) for pair in pairs) for side in (0, 1)]
    written = words[1] + len(pairs)
    return 3 * 2 * (recurrent * (1 + words[0] / written) + config.hidden * vocabulary)


def render(speed: TrainingSpeed) -> Group:
    best = max(limit.gflops for limit in speed.limits if limit.precision == speed.precision)
    ways = {"plain loop, float32": speed.plain, f"the train stage, {speed.precision}": speed.ours}
    rows = [
        {
            "way": way,
            "target words/s": f"{statistics.median(rates):,.0f}",
            "rounds": ", ".join(f"{rate:,.0f}" for rate in rates),
            "times the plain loop": f"{statistics.median(rates) / statistics.median(speed.plain):.2f}",
        }
        for way, rates in ways.items()
    ]
    caption = (
        f"{speed.operations / 1e6:.1f} million operations a target word; of {best:.1f} GFLOP/s, the best rate of one "
        f"of them here, the train stage reaches {speed.share:.0%}"
    )
    parts = [{"part": part, "share": f"{share:.0%}"} for part, share in speed.parts.items()]
    return Group(table("Training", rows, caption), table("Where the time of an update goes", parts))
