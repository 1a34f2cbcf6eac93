"""Parallel text of random words, prepared and trained on as users do it."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from data.config import PrepareConfig
from data.prepare import prepare
from data.readers import ParallelText
from data.tokenizer import TokenizerConfig
from nmt.config import ModelConfig, TrainingConfig
from nmt.train_translation import train_translation
from scripts.benchmarks.plain import Pairs

_REPORTED = 20  # updates between two of the train stage's own figures


@dataclass(frozen=True)
class RandomText:
    """How large a corpus is, and how many words each side has; by default as many as stand twice in Multi30k German to
    English, in sentences about as long."""

    pairs: int = 12_800
    source_words: int = 7855
    target_words: int = 5917


def write_corpus(folder: Path, text: RandomText) -> Pairs:
    """Write train and valid files; the words' numbers are returned, 4 standing for w0."""
    draw = random.Random(1)
    sides = (("source", text.source_words, 12.4), ("target", text.target_words, 13.0))
    written: dict[str, list[list[int]]] = {}
    for side, words, mean in sides:
        weights = [1 / (rank + 10) for rank in range(words)]  # as words are spread in text (Zipf)
        lengths = [max(3, round(draw.gauss(mean, 4))) for _ in range(text.pairs)]
        drawn = iter(draw.choices(range(words), weights, k=sum(lengths)))
        written[side] = [[next(drawn) for _ in range(length)] for length in lengths]
        written[side][0] = list(range(words))  # every word is there; far too long, it is dropped later
        lines = "".join(" ".join(f"w{word}" for word in line) + "\n" for line in written[side])
        (folder / f"train.{side}").write_text(lines, encoding="utf-8")
        (folder / f"valid.{side}").write_text("w1 w2 w3\n", encoding="utf-8")
    both = zip(written["source"][1:], written["target"][1:], strict=True)
    return [([word + 4 for word in one], [word + 4 for word in two]) for one, two in both]


def prepare_corpus(folder: Path) -> Path:
    """Run the prepare stage on what `write_corpus` has written, in one process; the prepared directory."""
    train, valid = (ParallelText(source=f"{name}.source", target=f"{name}.target") for name in ("train", "valid"))
    words = TokenizerConfig(min_count=1)
    config = PrepareConfig(train=train, valid=valid, source=words, target=words, workers=1)
    prepare(config, folder / "data", base=folder)
    return folder / "data"


def train_stage(data: Path, out: Path, config: ModelConfig, updates: int, batch_tokens: int = 2048) -> float:
    """Run the train stage; its own figure of target words a second, validation left out.

    Args:
        updates: How many count, in twenties; twenty more come before them.
    """
    training = TrainingConfig(
        max_updates=_REPORTED + updates, batch_tokens=batch_tokens, valid_sentences=1, max_epochs=1000, patience=0,
        validate_every=_REPORTED + updates,
    )  # fmt: skip
    train_translation(data, out, config, training, console=Console(quiet=True))
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    speeds: list[float] = [
        record["target_tokens_per_second"] for record in records if "target_tokens_per_second" in record
    ]
    return len(speeds[1:]) / sum(1 / speed for speed in speeds[1:])  # about as many words in each
