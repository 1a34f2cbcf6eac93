"""The smallest things that training works on."""

import io
import math
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from data.batching import Batch, Plan
from data.config import PrepareConfig
from data.frame_files import FrameSplit
from data.gestures import write_gestures
from data.length_ratio import LengthRatio
from data.pool import Pool
from data.prepare import prepare
from data.prepare_frames import FramePrepareConfig, prepare_frames
from data.readers import ParallelText
from data.scene_sentences import write_parallel
from data.source import FrameColumn, Ragged
from data.tokenizer import UNK_ID, Tokenizer, TokenizerConfig
from nmt.checkpoint import TrainedModel, save_model
from nmt.config import ModelConfig, TrainingConfig
from nmt.model import text_model
from nmt.train_translation import train_translation
from nmt.trainer import TrainingResult

ROOT = Path(__file__).parents[1]
MODEL = ModelConfig(layers=1, hidden=8, embedding=8, dropout=0.2)
# 64 pairs in about nine batches
TRAINING = TrainingConfig(
    max_updates=6, batch_tokens=128, warmup_updates=0, schedule="constant", precision="float32", valid_sentences=4
)
WORDS = 20
SCENE_WORDS = ["a", "dog", "cat", "sleeps", "runs", "in", "the", "house", "and", "sees", ".", "!", ",", "?"]
FEATURES = 3  # of a frame


def write_prepared(folder: Path, pairs: int = 64, **config) -> Path:
    """A prepared directory of so many described scenes to learn from, and eight to validate on."""
    write_parallel(folder / "corpus", {"train": pairs, "valid": 8}, seed=1)
    splits = {name: ParallelText(source=f"{name}.de", target=f"{name}.en") for name in ("train", "valid")}
    sides = {
        "source": TokenizerConfig(language="de", min_count=1),
        "target": TokenizerConfig(language="en", min_count=1),
    }
    prepare(PrepareConfig(**{**splits, **sides, "workers": 1, **config}), folder / "data", base=folder / "corpus")
    return folder / "data"


def train(data: Path, out: Path, *, model=MODEL, resume: bool = False, said: io.StringIO | None = None, **changes):
    """Train in this process; `changes` are fields of the TrainingConfig."""
    console = Console(file=said or io.StringIO(), width=10_000)
    result = train_translation(data, out, model, replace(TRAINING, **changes), resume=resume, console=console)
    assert isinstance(result, TrainingResult)
    return result


def options(*sections) -> list[str]:
    """The command-line options that say what these configurations hold."""
    names = {ModelConfig: "model", TrainingConfig: "training"}
    return [
        f"--{names[type(section)]}.{name}={str(value).lower() if isinstance(value, bool) else value}"
        for section in sections
        for name, value in vars(section).items()
    ]


def command(data: Path, out: Path, *more: str, model=MODEL, **changes) -> list[str]:
    """The command that trains as `train` does."""
    start = [sys.executable, str(ROOT / "scripts" / "train_translation.py"), "--data", str(data), "--out", str(out)]
    return [*start, "--threads=1", *options(model, replace(TRAINING, **changes)), *more]


def launch(arguments: list[str]) -> list[str]:
    """The same command as two processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `--cpu` alone would want MPI for more than one process
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    more = ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={port}"]
    return ["env", "ACCELERATE_USE_CPU=true", *accelerate, *more, *arguments[1:]]


def run(arguments: list[str], **rest) -> subprocess.CompletedProcess:
    """Run a command to its end, on one thread."""
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment(), **rest)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def random_batch(seed: int, lengths: list[tuple[int, int]], *, reverse_source: bool = True) -> Batch:
    """A batch of random words with the given lengths of source and target."""
    return random_plan(seed, lengths).collate(reverse_source=reverse_source)


def random_plan(seed: int, lengths: list[tuple[int, int]]) -> Plan:
    random = np.random.default_rng(seed)
    sides = [Ragged.of([random.integers(4, WORDS, n).tolist() for n in side]) for side in zip(*lengths, strict=True)]
    rows = np.arange(len(lengths))
    return Plan(Pool(sides[0], sides[1], rows), rows)


def collate_source(sentences: list[list[int]], *, reverse_source: bool):
    return Ragged.of(sentences).collate(np.arange(len(sentences)), reverse=reverse_source)


def random_source(seed: int, lengths: list[int]):
    random = np.random.default_rng(seed)
    return collate_source([random.integers(4, WORDS, n).tolist() for n in lengths], reverse_source=True)


def random_sequences(seed: int, lengths: list[int]) -> list[np.ndarray]:
    """Sequences of three features."""
    random = np.random.default_rng(seed)
    return [random.standard_normal((length, FEATURES), dtype=np.float32) for length in lengths]


def collate_frames(sequences: list[np.ndarray], *, reverse_source: bool = True):
    return FrameColumn(sequences).collate(np.arange(len(sequences)), reverse=reverse_source)


def write_prepared_frames(folder: Path, sequences: int = 48, **config) -> Path:
    """A prepared directory of so many drawn gestures to learn from, and eight to validate on."""
    (folder / "corpus").mkdir(parents=True)
    write_gestures(folder / "corpus", {"train": sequences, "valid": 8, "test": 6}, seed=1)
    splits = {name: FrameSplit(file=f"{name}.jsonl") for name in ("train", "valid", "test")}
    settings = {**splits, "text": TokenizerConfig(min_count=1), **config}
    prepare_frames(FramePrepareConfig(**settings), folder / "data", base=folder / "corpus")
    return folder / "data"


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def seeded(make, seed: int = 3):
    """What `make` makes with torch's random numbers set to `seed`."""
    torch.manual_seed(seed)
    return make()


def save_translator(folder: Path, seed: int, words=SCENE_WORDS, **config) -> str:
    """Save a translator with random weights and clear preferences; `config` are fields of the ModelConfig."""
    folder.mkdir()
    tokenizer = Tokenizer.train(Counter(dict.fromkeys(words, 9)), TokenizerConfig())
    torch.manual_seed(seed)
    model = text_model(ModelConfig(hidden=16, embedding=16, **config), len(tokenizer), len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # distributions with clear winners
        model.decoder.output.bias[UNK_ID] += 30
    save_model(folder, TrainedModel(model, tokenizer, tokenizer, LengthRatio(0.5, 1.0, 2.0), 12, {}), {})
    return str(folder)


def poison_gradients(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Make one number of the gradient infinite in the update of that number, counted from 1."""
    clip, calls = Accelerator.clip_grad_norm_, []

    def poisoned(self: Accelerator, parameters: Iterable[nn.Parameter], norm: float) -> object:
        parameters = list(parameters)
        calls.append(norm)
        if len(calls) == at:
            parameters[0].grad[5, 0] = math.inf
        return clip(self, parameters, norm)

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", poisoned)
