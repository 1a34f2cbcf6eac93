"""A tiny model learns to reverse sequences of integers, through every stage of the pipeline."""

import random

import torch

from data.config import PrepareConfig
from data.prepare import prepare
from data.readers import ParallelText
from data.tokenizer import TokenizerConfig
from nmt.checkpoint import load_model
from nmt.config import ModelConfig, TrainingConfig
from nmt.search_options import SearchOptions
from nmt.train_translation import train_translation
from nmt.translator import Translator

DIGITS = 10


def sequences(count: int, draw: random.Random, taken: set[str]) -> list[str]:
    """Lines of four to seven integers that no other line of the corpus is."""
    lines = []
    while len(lines) < count:
        line = " ".join(str(draw.randrange(DIGITS)) for _ in range(draw.randint(4, 7)))
        if line not in taken:
            taken.add(line)
            lines.append(line)
    return lines


def backwards(line: str) -> str:
    return " ".join(reversed(line.split()))


def test_a_small_model_learns_to_reverse(tmp_path):
    draw, taken = random.Random(1), set[str]()
    fresh = sequences(200, draw, taken)
    for name, count in (("train", 8000), ("valid", 100)):
        lines = sequences(count, draw, taken)
        (tmp_path / f"{name}.one").write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / f"{name}.two").write_text("".join(f"{backwards(line)}\n" for line in lines))
    texts = {name: ParallelText(source=f"{name}.one", target=f"{name}.two") for name in ("train", "valid")}
    words = TokenizerConfig(level="word")
    prepare(PrepareConfig(**texts, source=words, target=words, workers=1), tmp_path / "data", base=tmp_path)

    torch.set_num_threads(1)
    result = train_translation(
        tmp_path / "data",
        tmp_path / "run",
        ModelConfig(layers=1, hidden=96, embedding=32, dropout=0.0, reverse_source=False),
        TrainingConfig(
            max_epochs=9, batch_tokens=1024, learning_rate=5e-3, label_smoothing=0.0, warmup_updates=20,
            precision="float32", valid_sentences=100, validate_every=200, patience=0,
        ),
    )  # fmt: skip
    found = Translator([load_model(result.model)]).translate(fresh, SearchOptions(beam=1))
    exact = sum(one.text == backwards(line) for one, line in zip(found, fresh, strict=True))
    assert exact >= 0.99 * len(fresh)
