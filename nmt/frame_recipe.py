"""A recipe whose source is feature frames."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from data.batching import Plan
from data.files import atomic_directory, write_text
from data.gestures import write_gestures
from data.pool import Pool
from data.prepare_frames import FramePrepareConfig, prepare_frames, read_sequences
from data.report import render as render_report
from data.sampling import check_levels
from data.source import FrameColumn, Ragged
from data.tokenizer import SPECIAL_IDS
from nmt.config import ModelConfig, TrainingConfig
from nmt.encoder import FrameEncoder
from nmt.evaluation import System, describe, evaluate, format_json
from nmt.evaluation import render as render_evaluation
from nmt.frame_translator import FrameTranslator
from nmt.metrics import read_scored_text
from nmt.model import SequenceModel
from nmt.recipe import DryRun, Guide, Recipe, command, two_updates
from nmt.search_options import SearchOptions
from nmt.task_metrics import write_metrics
from nmt.train_frames import train_frames
from nmt.trainer import TrainingResult

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
class FrameRecipe(Recipe):
    """The settings of every stage; a file in scripts/recipes/ has these sections."""

    gestures: GesturesConfig = field(default_factory=GesturesConfig)
    prepare: FramePrepareConfig = field(default_factory=FramePrepareConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self) -> None:
        """Refuse before anything is prepared what training could not do after it."""
        check_levels(self.training.subword_sampling, {"target": self.prepare.text.level})

    def prepare_data(self, out: Path, base: Path | None, console: Console) -> None:
        prepared, made = out / "data", self.gestures
        if made.train:
            base = out / "corpus"
            if not base.exists():
                console.print(f"Drawing {made.train:,} sequences to learn from, and {made.valid + made.test:,} others.")
                with atomic_directory(base) as folder:
                    write_gestures(folder, {"train": made.train, "valid": made.valid, "test": made.test}, made.seed)
        if prepared.exists():
            console.print(f"Prepared already: {prepared}", highlight=False)
            return
        console.rule("prepare")
        console.print(render_report(prepare_frames(self.prepare, prepared, base=base)))

    def train(self, out: Path, resume: bool, console: Console) -> TrainingResult:
        return train_frames(out / "data", out, self.model, self.training, resume=resume, console=console)

    def scored_split(self, out: Path) -> str | None:
        return "test" if (out / "data" / "test.npy").exists() else None

    def evaluate(self, out: Path, split: str, console: Console) -> None:
        data, translations = out / "data", out / f"{split}.translations.txt"
        translator = FrameTranslator.load(out / "model")
        system = System(translator, translator.lowercase, None).translate(read_sequences(data, split), self.search)
        found = evaluate(system, None, [read_scored_text(data / f"{split}.reference")])
        write_text(translations, "".join(f"{line}\n" for line in system.lines))
        write_metrics(out / "metrics.json", found.exact / 100, found.sentences, {})
        files = {"source": data / f"{split}.npy", "reference": data / f"{split}.reference", "output": translations}
        origin = {"search": asdict(self.search), "seeds": {"training": self.training.seed}}
        origin |= describe(files, {"models": [out / "model"]})
        write_text(out / "evaluation.json", format_json(found, origin))
        console.print(render_evaluation(found))

    def guide(self, out: Path) -> Guide:
        return Guide(
            scores=f"(sentences: {out / 'test.translations.txt'})",
            report=out / "data" / "report.json",
            following=[f"{command('python')} scripts/translate_frames.py --model {out / 'model'} NEW.npy"],
        )

    def dry_run(self, device: torch.device) -> DryRun:
        features = 4 if self.gestures.train else _FEATURES
        with device:
            encoder = FrameEncoder(self.model, features)
            model = SequenceModel(self.model, encoder, self.prepare.text.vocab_size)
        frames, words = (2, 2) if device.type == "meta" else (50, 10)  # where nothing is computed steps are all alike
        rows = np.arange(max(1, self.training.batch_tokens // frames))
        batches = []
        for number in range(2):
            random = np.random.default_rng(number)
            column = FrameColumn(list(random.standard_normal((len(rows), frames, features), dtype=np.float32)))
            text = Ragged.of(random.integers(SPECIAL_IDS, self.prepare.text.vocab_size, (len(rows), words)).tolist())
            batches.append(Plan(Pool(column, text, rows), rows).collate(reverse_source=self.model.reverse_source))
        return two_updates(model, self.training, batches, device)
