"""How fast a translator trains: the train stage as users run it, beside the plain loop and the machine's limit."""

import json
import random
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data.config import PrepareConfig
from data.prepare import prepare
from data.readers import ParallelText
from data.tokenizer import Tokenizer, TokenizerConfig
from nmt.config import ModelConfig, TrainingConfig
from nmt.train_translation import train_translation
from scripts.benchmarks.limits import Limit, Shape, measure_limits
from scripts.benchmarks.plain import PlainTranslator, train_plainly
from scripts.benchmarks.timing import table

_SOURCE_WORDS, _TARGET_WORDS = 7855, 5917  # words that stand twice in Multi30k German to English
_WARM, _UPDATES = 20, 60  # the train stage reports every 20 updates


@dataclass(frozen=True)
class TrainingSpeed:
    """Target words a second, the end token included, round by round.

    operations: floating-point operations that the model needs for one of them, forward and back, its share of the
        source included and padding not
    share: of the machine's best rate for one of the operations of the model, in the precision that ours computes in
    """

    model: ModelConfig
    threads: int
    precision: str
    ours: list[float]
    plain: list[float]
    operations: float
    limits: list[Limit]
    share: float

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.plain)


def measure_training(rounds: int, threads: int) -> TrainingSpeed:
    """Train on random words, as many and as long as in Multi30k, in both ways."""
    config = ModelConfig(layers=2, hidden=512, embedding=256, dropout=0.3)
    ours, plain = [], []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        pairs = _write_corpus(folder, 12_800)
        data = _prepare(folder)
        source, target = (len(Tokenizer.load(data / f"{side}.model")) for side in ("source", "target"))
        tutorial = PlainTranslator(source, target, config.embedding, config.hidden, config.layers, config.dropout)
        for number in range(rounds):
            ours.append(_train(data, folder / f"run{number}", config))
            plain.append(train_plainly(tutorial, pairs, 128, _UPDATES, _WARM))
    shape = Shape(embedding=config.embedding, hidden=config.hidden, layers=config.layers, vocabulary=target)
    limits = measure_limits(shape, rounds)
    precision = "bfloat16" if any(limit.precision == "bfloat16" for limit in limits) else "float32"
    operations = _operations(config, target, pairs)
    best = max(limit.gflops for limit in limits if limit.precision == precision)
    share = statistics.median(ours) * operations / 1e9 / best
    return TrainingSpeed(config, threads, precision, ours, plain, operations, limits, share)


def _write_corpus(folder: Path, pairs: int) -> list[tuple[list[int], list[int]]]:
    """Sentences of random words, lengths about as in Multi30k; the words' numbers are returned, 4 standing for w0."""
    draw = random.Random(1)
    sides = (("source", _SOURCE_WORDS, 12.4), ("target", _TARGET_WORDS, 13.0))
    written: dict[str, list[list[int]]] = {}
    for side, words, mean in sides:
        weights = [1 / (rank + 10) for rank in range(words)]  # as words are spread in text (Zipf)
        lengths = [max(3, round(draw.gauss(mean, 4))) for _ in range(pairs)]
        drawn = iter(draw.choices(range(words), weights, k=sum(lengths)))
        written[side] = [[next(drawn) for _ in range(length)] for length in lengths]
        written[side][0] = list(range(words))  # every word is there; far too long, it is dropped later
        text = "".join(" ".join(f"w{word}" for word in line) + "\n" for line in written[side])
        (folder / f"train.{side}").write_text(text, encoding="utf-8")
        (folder / f"valid.{side}").write_text("w1 w2 w3\n", encoding="utf-8")
    both = zip(written["source"][1:], written["target"][1:], strict=True)
    return [([word + 4 for word in one], [word + 4 for word in two]) for one, two in both]


def _prepare(folder: Path) -> Path:
    train, valid = (ParallelText(source=f"{name}.source", target=f"{name}.target") for name in ("train", "valid"))
    words = TokenizerConfig(min_count=1)
    config = PrepareConfig(train=train, valid=valid, source=words, target=words, workers=1)
    prepare(config, folder / "data", base=folder)
    return folder / "data"


def _train(data: Path, out: Path, config: ModelConfig) -> float:
    """Run the train stage; its own figure of target words a second, the first updates and validation left out."""
    training = TrainingConfig(max_updates=_WARM + _UPDATES, batch_tokens=2048, valid_sentences=1, label_smoothing=0.1)
    train_translation(data, out, config, training, console=Console(quiet=True))
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    speeds: list[float] = [
        record["target_tokens_per_second"] for record in records if "target_tokens_per_second" in record
    ]
    return len(speeds[1:]) / sum(1 / speed for speed in speeds[1:])  # about as many words in each


def _operations(config: ModelConfig, vocabulary: int, pairs: list[tuple[list[int], list[int]]]) -> float:
    """Two operations for each weight that a word meets in the matrix products, times three for the way back."""
    inputs = [config.embedding, *[config.hidden] * (config.layers - 1)]
    recurrent = sum(4 * config.hidden * (size + config.hidden) for size in inputs)
    words = [sum(len(pair[side]) for pair in pairs) for side in (0, 1)]
    written = words[1] + len(pairs)
    return 3 * 2 * (recurrent * (1 + words[0] / written) + config.hidden * vocabulary)


def render(speed: TrainingSpeed) -> Table:
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
    return table("Training", rows, caption)
