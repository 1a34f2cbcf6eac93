"""The train stage of translation: a prepared directory to a run directory."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from rich.console import Console

from data.corpus import PreparedCorpus, StreamedCorpus, training_corpus
from data.errors import UserError
from data.length_ratio import LengthRatio
from data.tokenizer import Tokenizer
from nmt.checkpoint import TrainedModel
from nmt.config import ModelConfig, TrainingConfig
from nmt.model import text_model
from nmt.processes import make_accelerator
from nmt.run_directory import RunDirectory
from nmt.trainer import Trainer, TrainingData, TrainingResult
from nmt.translator import Translator
from nmt.validation import TranslationValidator, ValidationText


def train_translation(
    prepared: Path,
    run: Path,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a model on a prepared directory and leave it in `run`/model.

    Args:
        resume: Go on from the newest checkpoint of `run`.

    Raises:
        UserError: nothing is prepared there, `run` is taken, settings contradict each other or the data, or
            training failed; see `Trainer.train`.
    """
    accelerator = make_accelerator(training)
    settings = yaml.safe_load(prepared_file(prepared, "config.yaml"))
    report = json.loads(prepared_file(prepared, "report.json"))
    tokenizers = Tokenizer.load(prepared / "source.model"), Tokenizer.load(prepared / "target.model")
    train = training_corpus(prepared, settings, tokenizers)
    if isinstance(train, StreamedCorpus):
        if training.schedule == "cosine" and not training.max_updates:
            raise UserError(
                "training.schedule cosine needs to know how long training is, and a streamed corpus has no known "
                "length: set --training.max_updates, or choose --training.schedule inverse_sqrt"
            )
        if training.schedule == "halve":
            raise UserError(
                "training.schedule halve needs to know half an epoch, and a streamed corpus has no known length: "
                "choose --training.schedule plateau or inverse_sqrt"
            )
    torch.manual_seed(training.seed)
    network = text_model(model, len(tokenizers[0]), len(tokenizers[1]))
    trained = TrainedModel(
        network,
        *tokenizers,
        length_ratio=LengthRatio(**report["length_ratio"]),
        max_length=settings["max_length"],
        config={
            "training": asdict(training),
            "data": settings,
            "fingerprints": {name: split["fingerprints"] for name, split in report["splits"].items()},
        },
    )
    text = ValidationText.read(prepared, training.valid_sentences)
    validator = TranslationValidator(
        trained,
        PreparedCorpus(prepared / "valid"),
        text.references,
        lambda options: [one.text for one in Translator([trained]).translate(text.sources, options)],
        training.valid_beam,
        training.batch_tokens,
    )
    data = TrainingData(train, validator)
    trainer = Trainer(trained, data, training, RunDirectory(run), accelerator, console or Console())
    return trainer.train(resume=resume)


def prepared_file(prepared: Path, name: str) -> str:
    """A text file of a prepared directory."""
    try:
        return (prepared / name).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{prepared}: no prepared data here ({name}: {error.strerror}): run scripts/prepare_translation.py first"
        ) from error
