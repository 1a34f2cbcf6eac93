"""A recipe whose source is feature frames: all stages of one experiment in one file, each run once."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from data.batching import Plan
from data.errors import UserError
from data.files import atomic_directory, write_text
from data.gestures import write_gestures
from data.pool import Pool
from data.prepare_frames import FramePrepareConfig, prepare_frames, read_sequences
from data.report import render as render_report
from data.source import FrameColumn, Ragged
from data.tokenizer import SPECIAL_IDS
from nmt.config import ModelConfig, TrainingConfig
from nmt.encoder import FrameEncoder
from nmt.evaluation import System, describe, evaluate, format_json
from nmt.evaluation import render as render_evaluation
from nmt.frame_translator import FrameTranslator
from nmt.metrics import read_scored_text
from nmt.model import SequenceModel
from nmt.recipe import DryRun, claim_run, evaluate_stage, show_where, train_stage, two_updates
from nmt.search import SearchOptions
from nmt.task_metrics import write_metrics
from nmt.train_frames import train_frames

_FEATURES = 512  # of a frame in a dry run, which knows no data


@dataclass(frozen=True)
class GesturesConfig:
    """Gestures to generate instead of reading frames; 0 sequences of train is none.

    Args:
        train: Sequences to learn from.
        valid: Sequences to steer training by.
        test: Sequences to score the finished model on.
        seed: Decides what is drawn.
    """

    train: int = 0
    valid: int = 500
    test: int = 2000
    seed: int = 1


@dataclass(frozen=True)
class FrameRecipe:
    """The settings of every stage; a file in scripts/recipes/ has these sections."""

    gestures: GesturesConfig = field(default_factory=GesturesConfig)
    prepare: FramePrepareConfig = field(default_factory=FramePrepareConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchOptions = field(default_factory=SearchOptions)


def run_frame_recipe(recipe: FrameRecipe, out: Path, *, base: Path | None, resume: bool, console: Console) -> None:
    """Run the stages of a recipe that are not done yet: prepare, train, evaluate.

    Args:
        out: The run directory. Prepared data goes to `out`/data, the finished model to `out`/model.
        base: The folder that holds the files of the splits.
        resume: Go on with a training that was interrupted.

    Raises:
        UserError: a stage failed, or `out` was made with other settings.
    """
    claim_run(asdict(recipe), asdict(FrameRecipe()), out)
    prepared = out / "data"
    prepare_frame_data(recipe, out, base=base, console=console)
    train_stage(
        out,
        lambda again: train_frames(prepared, out, recipe.model, recipe.training, resume=again, console=console),
        resume=resume,
        console=console,
    )
    if (prepared / "test.npy").exists():
        evaluate_stage(out, "test", lambda: _evaluate(recipe, out, console), console)
    show_where(
        out,
        console,
        scores=f"(sentences: {out / 'test.translations.txt'})",
        report=prepared / "report.json",
        following=[f"scripts/translate_frames.py --model {out / 'model'} NEW.npy"],
    )


def prepare_frame_data(recipe: FrameRecipe, out: Path, *, base: Path | None, console: Console) -> None:
    """Put a recipe's gestures into `out`/corpus and its prepared data into `out`/data, unless they are there.

    Raises:
        UserError: as `prepare_frames` does, or a file cannot be written.
    """
    prepared, made = out / "data", recipe.gestures
    if made.train:
        base = out / "corpus"
        if not base.exists():
            with atomic_directory(base) as folder:
                write_gestures(folder, {"train": made.train, "valid": made.valid, "test": made.test}, made.seed)
            console.print(f"Drew {made.train:,} sequences to learn from, {made.valid + made.test:,} are held out.")
    if prepared.exists():
        console.print(f"Prepared already: {prepared}", highlight=False)
        return
    console.rule("prepare")
    console.print(render_report(prepare_frames(recipe.prepare, prepared, base=base)))


def _evaluate(recipe: FrameRecipe, out: Path, console: Console) -> None:
    """Score the finished model; evaluation.json is written last, as the sign that this is done."""
    data, translations = out / "data", out / "test.translations.txt"
    translator = FrameTranslator.load(out / "model")
    system = System(translator, translator.lowercase, None).translate(read_sequences(data, "test"), recipe.search)
    found = evaluate(system, None, [read_scored_text(data / "test.reference")])
    write_text(translations, "".join(f"{line}\n" for line in system.lines))
    write_metrics(out / "metrics.json", found.exact / 100, found.sentences, {})
    files = {"source": data / "test.npy", "reference": data / "test.reference", "output": translations}
    origin = {"search": asdict(recipe.search), "seeds": {"training": recipe.training.seed}}
    origin |= describe(files, {"models": [out / "model"]})
    write_text(out / "evaluation.json", format_json(found, origin))
    console.print(render_evaluation(found))


def dry_run_frames(recipe: FrameRecipe, device: torch.device) -> DryRun:
    """Build a recipe's model with a full vocabulary and train it on two batches of random frames and words.

    Raises:
        UserError: its settings contradict each other.
    """
    features = 4 if recipe.gestures.train else _FEATURES
    try:
        with device:
            encoder = FrameEncoder(recipe.model, features)
            model = SequenceModel(recipe.model, encoder, recipe.prepare.text.vocab_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    frames, words = 50, 10
    rows = np.arange(max(1, recipe.training.batch_tokens // frames))
    batches = []
    for number in range(2):
        random = np.random.default_rng(number)
        column = FrameColumn(list(random.standard_normal((len(rows), frames, features), dtype=np.float32)))
        text = Ragged.of(random.integers(SPECIAL_IDS, recipe.prepare.text.vocab_size, (len(rows), words)).tolist())
        batches.append(Plan(Pool(column, text, rows), rows).collate(reverse_source=recipe.model.reverse_source))
    return two_updates(model, recipe.training, batches, device)
