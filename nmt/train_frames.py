"""The train stage of frames: a prepared directory to a run directory, by the translator's loop."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.console import Console

from data.corpus import PreparedCorpus, RowCorpus
from data.length_ratio import LengthRatio
from data.prepare_frames import read_sequences
from data.source import FrameColumn
from data.text_files import read_lines
from data.tokenizer import Tokenizer
from nmt.checkpoint import TrainedModel
from nmt.config import ModelConfig, TrainingConfig
from nmt.encoder import FrameEncoder
from nmt.frame_translator import FrameTranslator
from nmt.model import SequenceModel
from nmt.processes import make_accelerator
from nmt.run_directory import RunDirectory
from nmt.train_translation import prepared_file
from nmt.trainer import Trainer, TrainingData, TrainingResult
from nmt.validation import TranslationValidator


def train_frames(
    prepared: Path,
    run: Path,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model on a directory that `prepare_frames` wrote and leave it in `run`/model.

    Args:
        resume: Go on from the newest checkpoint of `run`.

    Raises:
        UserError: nothing is prepared there, `run` is taken, settings contradict each other or the data, or
            training failed; see `Trainer.train`.
    """
    accelerator = make_accelerator(training)
    settings = yaml.safe_load(prepared_file(prepared, "config.yaml"))
    report = json.loads(prepared_file(prepared, "report.json"))
    target = Tokenizer.load(prepared / "target.model")
    mean, deviation = np.load(prepared / "standard.npy")
    torch.manual_seed(training.seed)
    encoder = FrameEncoder(model, len(mean))
    encoder.standardise(mean, deviation)
    network = SequenceModel(model, encoder, len(target))
    trained = TrainedModel(
        network,
        None,
        target,
        length_ratio=LengthRatio(**report["length_ratio"]),
        max_length=settings["max_frames"],
        config={
            "frames": {"features": len(mean)},
            "training": asdict(training),
            "data": settings,
            "fingerprints": {name: split["fingerprints"] for name, split in report["splits"].items()},
        },
    )
    shown = read_sequences(prepared, "valid")[: training.valid_sentences]
    validator = TranslationValidator(
        trained,
        _corpus(prepared, "valid"),
        [list(read_lines(prepared / "valid.reference"))[: len(shown)]],
        lambda options: [one.text for one in FrameTranslator([trained]).translate(shown, options)],
        training.valid_beam,
        training.batch_tokens,
    )
    data = TrainingData(_corpus(prepared, "train"), validator)
    trainer = Trainer(trained, data, training, RunDirectory(run), accelerator, console or Console())
    return trainer.train(resume=resume)


def _corpus(prepared: Path, split: str) -> RowCorpus:
    sequences = read_sequences(prepared, split)
    return RowCorpus(PreparedCorpus(prepared / split), lambda rows, _: FrameColumn([sequences[row] for row in rows]))
