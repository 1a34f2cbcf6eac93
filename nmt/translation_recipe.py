"""A recipe whose source is text: a translator, or whatever else reads and writes sentences."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from data.batching import Plan
from data.config import PrepareConfig
from data.errors import UserError
from data.files import atomic_directory, write_text
from data.pool import Pool
from data.prepare import prepare
from data.programs import NAMES, Curriculum, write_programs
from data.report import render as render_report
from data.sampling import check_levels
from data.scene_sentences import write_parallel
from data.source import Ragged
from data.tasks import GROUPED_BY, LAGS, write_task
from data.text_files import read_lines
from data.tokenizer import SPECIAL_IDS
from nmt.config import ModelConfig, TrainingConfig
from nmt.evaluation import System, SystemOutput, describe, evaluate, format_json
from nmt.evaluation import render as render_evaluation
from nmt.metrics import read_scored_text
from nmt.model import text_model
from nmt.recipe import DryRun, Guide, Recipe, command, two_updates
from nmt.task_metrics import by_group, render_groups, write_metrics
from nmt.train_translation import train_translation
from nmt.trainer import TrainingResult
from nmt.translation_options import TranslationOptions
from nmt.translator import Translator
from nmt.validation import reference_files


@dataclass(frozen=True)
class GenerateConfig:
    """A corpus to generate instead of reading one; 0 pairs of train is none.

    Args:
        task: scenes (described in English and German); reverse_integers, add_integers, echo, dates, long_lag, see
            data/tasks.py; or learning_to_execute, see data/programs.py.
        train: Sentence pairs to learn from.
        valid: Pairs to steer training by.
        test: Pairs to score the finished model on; no source stands in two of the three.
        seed: Decides what is generated.
        lags: For long_lag: how many steps may lie between the key and its recall.
        curriculum: For learning_to_execute: how difficulty goes along train: baseline, naive, mix or combined.
        length: For learning_to_execute and add_integers: digits of the largest integers.
        nesting: For learning_to_execute: operations of the hardest programs.
    """

    task: Literal["scenes", "reverse_integers", "add_integers", "echo", "dates", "long_lag", "learning_to_execute"] = (
        "scenes"
    )
    train: int = 0
    valid: int = 500
    test: int = 500
    seed: int = 1
    lags: list[int] = field(default_factory=lambda: list(LAGS))
    curriculum: Curriculum = "combined"
    length: int = 3
    nesting: int = 2

    def __post_init__(self) -> None:
        if not self.lags or min(self.lags) < 0:
            raise ValueError(f"generate.lags is {self.lags}: give at least one number of steps, each 0 or more")
        if self.length < 1:
            raise ValueError(f"generate.length is {self.length}: it must be 1 or more")
        if not 1 <= self.nesting <= len(NAMES):
            raise ValueError(f"generate.nesting is {self.nesting}: it must be 1 to {len(NAMES)}")


@dataclass(frozen=True)
class TranslationRecipe(Recipe):
    """The settings of every stage; a file in scripts/recipes/ has these sections."""

    generate: GenerateConfig = field(default_factory=GenerateConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: TranslationOptions = field(default_factory=TranslationOptions)

    def __post_init__(self) -> None:
        """Refuse before any training what the model could not do after it."""
        source = self.prepare.source.level
        levels = source, source if self.prepare.shared_vocabulary else self.prepare.target.level
        self.search.check("the recipe's model", attention=self.model.attention != "none", levels=levels)
        check_levels(self.training.subword_sampling, dict(zip(("source", "target"), levels, strict=True)))

    def prepare_data(self, out: Path, base: Path | None, console: Console) -> None:
        prepared = out / "data"
        if self.generate.train:
            base = out / "corpus"
            if not base.exists():
                made = self.generate
                generate(base, made)
                held_out = made.valid + made.test
                console.print(f"Generated {made.train:,} {made.task} to learn from, {held_out:,} held out.")
        if prepared.exists():
            console.print(f"Prepared already: {prepared}", highlight=False)
            return
        console.rule("prepare")
        console.print(render_report(prepare(self.prepare, prepared, base=base)))

    def train(self, out: Path, resume: bool, console: Console) -> TrainingResult:
        return train_translation(out / "data", out, self.model, self.training, resume=resume, console=console)

    def scored_split(self, out: Path) -> str | None:
        return "test" if (out / "data" / "test.source").exists() else None

    def evaluate(self, out: Path, split: str, console: Console) -> None:
        source = out / "data" / f"{split}.source"
        references = {f"reference{i}": path for i, path in enumerate(reference_files(out / "data", split), 1)}
        lines = list(read_lines(source))
        expected = [read_scored_text(path) for path in references.values()]
        system = System.load([out / "model"], lines, source).translate(lines, self.search, expected)
        found = evaluate(system, lines, expected)
        translations = out / f"{split}.translations.txt"
        write_text(translations, "".join(f"{line}\n" for line in system.lines))
        files = {"source": source, **references, "output": translations}
        origin = {"search": asdict(self.search), "seeds": {"training": self.training.seed}}
        origin |= describe(files, {"models": [out / "model"]})
        console.print(render_evaluation(found))
        if self.prepare.train.history:
            console.print("A good reply may have other words than the reference: go by the perplexity, not by BLEU.")
        if self.generate.train and self.generate.task != "scenes":
            _score_task(self.generate.task, system, out, split, console)
        write_text(out / "evaluation.json", format_json(found, origin))
        console.rule("translate")
        self._show_examples(out, split, console)

    def guide(self, out: Path) -> Guide:
        model, translate = out / "model", command("translate")
        talk = [f"{command('chat')} --model {model}        talk to it"] if self.prepare.train.history else []
        example = next((path for path in (out / "data").glob("*.source") if path.stem in ("test", "valid")), None)
        seen = f" (see {example})" if example else ""
        return Guide(
            scores=f"(translations: {out / 'test.translations.txt'})",
            report=out / "data" / "report.json",
            following=[
                *talk,
                f"{translate} --model {model} --n-best 3        type a sentence{seen}",
                f"{command('python')} scripts/prepare_translation.py --help        prepare your own text",
            ],
        )

    def dry_run(self, device: torch.device) -> DryRun:
        with device:
            model = text_model(self.model, *self._vocabularies())
        words = (
            2 if device.type == "meta" else 25
        )  # as in WMT's sentences; where nothing is computed steps are all alike
        plans = [self._random_plan(number, words) for number in range(2)]
        batches = [plan.collate(reverse_source=self.model.reverse_source) for plan in plans]
        return two_updates(model, self.training, batches, device)

    def _vocabularies(self) -> tuple[int, int]:
        """The most entries of the source's and the target's."""
        shared, source = self.prepare.shared_vocabulary, self.prepare.source.vocab_size
        return source, source if shared else self.prepare.target.vocab_size

    def _random_plan(self, seed: int, words: int) -> Plan:
        """A batch that fills the recipe's budget with sentences of so many random words."""
        random = np.random.default_rng(seed)
        rows = max(1, self.training.batch_tokens // (words + 1))
        sides = [Ragged.of(random.integers(SPECIAL_IDS, size, (rows, words)).tolist()) for size in self._vocabularies()]
        return Plan(Pool(sides[0], sides[1], np.arange(rows)), np.arange(rows))

    def _show_examples(self, out: Path, split: str, console: Console) -> None:
        """Some sentences of a split with their three best translations."""
        lines = list(read_lines(out / "data" / f"{split}.source"))
        expected = list(read_lines(out / "data" / f"{split}.reference"))
        chosen = sorted({len(lines) * i // 8 for i in (1, 3, 6)})
        options = replace(self.search, beam=max(3, self.search.beam), n_best=3)
        table = Table("", "log-prob.", "sentence")
        for i, translation in zip(
            chosen, Translator.load(out / "model").translate([lines[i] for i in chosen], options), strict=True
        ):
            table.add_row("source", "", translation.source)
            table.add_row("reference", "", expected[i])
            for n, one in enumerate(translation.hypotheses, 1):
                last = n == len(translation.hypotheses)
                table.add_row(f"best {n}", f"{one.log_prob:.2f}", one.text, end_section=last)
        console.print(table)


def generate(folder: Path, config: GenerateConfig) -> None:
    """Generate the corpus, whole or not at all; raises UserError if there is not so much of it."""
    sizes = {"train": config.train, "valid": config.valid, "test": config.test}
    try:
        with atomic_directory(folder) as temporary:
            match config.task:
                case "scenes":
                    write_parallel(temporary, sizes, seed=config.seed)
                case "learning_to_execute":
                    write_programs(
                        temporary,
                        sizes,
                        config.seed,
                        curriculum=config.curriculum,
                        length=config.length,
                        nesting=config.nesting,
                    )
                case "add_integers":
                    write_task(temporary, config.task, sizes, config.seed, longest=config.length)
                case "long_lag":
                    write_task(temporary, config.task, sizes, config.seed, lags=config.lags)
                case _:
                    write_task(temporary, config.task, sizes, config.seed)
    except ValueError as error:
        raise UserError(f"generate: {error}: lower generate.train, generate.valid or generate.test") from error


def _score_task(task: str, system: SystemOutput, out: Path, split: str, console: Console) -> None:
    """Write metrics.json: the share of sequences that are decoded exactly, by group where the task has groups."""
    expected, labels = list(read_lines(out / "data" / f"{split}.reference")), out / "corpus" / f"{split}.group"
    lines = system.lines
    if system.lowercase:
        lines, expected = ([line.lower() for line in each] for each in (lines, expected))
    right = [line == wanted for line, wanted in zip(lines, expected, strict=True)]
    groups = by_group(right, list(read_lines(labels))) if labels.exists() else {}
    if groups:
        console.print(render_groups(groups, GROUPED_BY[task]))
    write_metrics(out / "metrics.json", sum(right) / len(right), len(right), groups)
