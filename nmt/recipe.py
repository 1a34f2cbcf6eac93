"""A recipe: all stages of one experiment in one file, each run once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from data.batching import Batch, Plan
from data.errors import UserError
from data.files import atomic_directory, write_text
from data.pool import Pool
from data.prepare import PrepareConfig, prepare
from data.programs import NAMES, Curriculum, write_programs
from data.readers import read_lines
from data.report import render as render_report
from data.scenes import write_parallel
from data.source import Ragged
from data.tasks import GROUPED_BY, LAGS, write_task
from data.tokenizer import SPECIAL_IDS
from nmt.config import FREE_TO_CHANGE, ModelConfig, TrainingConfig
from nmt.evaluation import System, SystemOutput, describe, evaluate, format_json
from nmt.evaluation import render as render_evaluation
from nmt.metrics import read_scored_text
from nmt.model import SequenceModel, text_model
from nmt.optimization import make_optimizer
from nmt.run_directory import RunDirectory
from nmt.search import SearchOptions
from nmt.task_metrics import by_group, render_groups, write_metrics
from nmt.train_translation import train_translation
from nmt.trainer import TrainingResult
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
        length: For learning_to_execute: digits of the largest integers.
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
class Recipe:
    """The settings of every stage; a file in scripts/recipes/ has these sections."""

    generate: GenerateConfig = field(default_factory=GenerateConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchOptions = field(default_factory=SearchOptions)


def run_recipe(recipe: Recipe, out: Path, *, base: Path | None, resume: bool, console: Console) -> None:
    """Run the stages of a recipe that are not done yet: prepare, train, evaluate.

    Args:
        out: The run directory. Prepared data goes to `out`/data, the finished model to `out`/model.
        base: The folder that holds the corpus files.
        resume: Go on with a training that was interrupted.

    Raises:
        UserError: a stage failed, or `out` was made with other settings.
    """
    claim_run(asdict(recipe), asdict(Recipe()), out)
    prepared = out / "data"
    prepare_data(recipe, out, base=base, console=console)
    train_stage(
        out,
        lambda again: train_translation(prepared, out, recipe.model, recipe.training, resume=again, console=console),
        resume=resume,
        console=console,
    )
    if (prepared / "test.source").exists():
        evaluate_stage(out, "test", lambda: _evaluate(recipe, out, console), console)
        console.rule("translate")
        _show_examples(recipe, out, console)
    show_where(
        out,
        console,
        scores=f"(translations: {out / 'test.translations.txt'})",
        report=out / "data" / "report.json",
        following=[
            f"translate --model {out / 'model'} --n-best 3        type a sentence (see {out / 'data' / 'test.source'})",
            "scripts/prepare_translation.py --help               prepare your own text",
        ],
    )


def prepare_data(recipe: Recipe, out: Path, *, base: Path | None, console: Console) -> None:
    """Put a recipe's generated corpus into `out`/corpus and its prepared data into `out`/data, unless they are there.

    Raises:
        UserError: as `generate` and `prepare` do.
    """
    prepared = out / "data"
    if recipe.generate.train:
        base = out / "corpus"
        if not base.exists():
            made = recipe.generate
            generate(base, made)
            console.print(f"Generated {made.train:,} {made.task} to learn from, {made.valid + made.test:,} held out.")
    if prepared.exists():
        console.print(f"Prepared already: {prepared}", highlight=False)
        return
    console.rule("prepare")
    console.print(render_report(prepare(recipe.prepare, prepared, base=base)))


def train_stage(out: Path, train: Callable[[bool], TrainingResult], *, resume: bool, console: Console) -> None:
    """Train unless that is done; Ctrl-C and the like end the recipe.

    Args:
        train: Given whether it is to go on from a checkpoint.
    """
    run = RunDirectory(out)
    if run.model.exists():
        console.print(f"Trained already: {run.model}", highlight=False)
        return
    console.rule("train")
    result = train(resume and (run.newest() is not None or (out / "metrics.jsonl").exists()))
    if result.model is None:
        raise KeyboardInterrupt
    console.print(f"Training {result.reason}.", highlight=False)


def evaluate_stage(out: Path, split: str, evaluate: Callable[[], None], console: Console) -> None:
    """Evaluate unless that is done; `evaluate` leaves evaluation.json in `out` as the last thing.

    Raises:
        UserError: the model computes no numbers.
    """
    if (out / "evaluation.json").exists():
        console.print(f"Evaluated already: {out / 'evaluation.json'}", highlight=False)
        return
    console.rule(f"evaluate on {split}")
    try:
        evaluate()
    except ValueError as error:  # search found NaN: huge weights can be finite and still overflow on other text
        raise UserError(f"{out / 'model'}: {error}: lower training.learning_rate or training.clip_norm") from error


def show_where(out: Path, console: Console, *, scores: str, report: Path, following: Sequence[str]) -> None:
    """Tell where everything is, and what to try next."""
    console.rule("done")
    for text in (
        f"model         {out / 'model'}",
        f"scores        {out / 'evaluation.json'} {scores}",
        f"curves        {out / 'curves.png'}, or: tensorboard --logdir {out}",
        f"data report   {report}",
        "",
        "Next:",
        *(f"  {line}" for line in following),
        "  README.md                                           all the rest",
    ):
        console.print(text, highlight=False, soft_wrap=True)


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
                case "long_lag":
                    write_task(temporary, config.task, sizes, config.seed, lags=config.lags)
                case _:
                    write_task(temporary, config.task, sizes, config.seed)
    except ValueError as error:
        raise UserError(f"generate: {error}: lower generate.train, generate.valid or generate.test") from error


def claim_run(settings: dict[str, Any], defaults: dict[str, Any], out: Path) -> None:
    """Note a recipe's settings in the run directory; raises UserError if others are noted there.

    Args:
        defaults: What options had before there was a choice, in runs of earlier versions.
    """
    path = out / "recipe.yaml"
    if not path.exists():
        write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        return
    noted = yaml.safe_load(path.read_text(encoding="utf-8"))
    before, now = (_flat(defaults) | _flat(each) for each in (noted, settings))
    finished = (out / "model").exists()
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and (finished or key.removeprefix("training.") not in FREE_TO_CHANGE)
    ]
    if changed:
        raise UserError(f"{out}: was made with other settings ({'; '.join(changed)}): choose another --out")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _evaluate(recipe: Recipe, out: Path, console: Console) -> None:
    """Score the finished model on the test text; evaluation.json is written last, as the sign that this is done."""
    source = out / "data" / "test.source"
    references = {f"reference{i}": path for i, path in enumerate(reference_files(out / "data", "test"), 1)}
    lines = list(read_lines(source))
    system = System.load([out / "model"], lines, source).translate(lines, recipe.search)
    found = evaluate(system, lines, [read_scored_text(path) for path in references.values()])
    translations = out / "test.translations.txt"
    write_text(translations, "".join(f"{line}\n" for line in system.lines))
    files = {"source": source, **references, "output": translations}
    origin = {"search": asdict(recipe.search), "seeds": {"training": recipe.training.seed}}
    origin |= describe(files, {"models": [out / "model"]})
    console.print(render_evaluation(found))
    if recipe.generate.train and recipe.generate.task != "scenes":
        _score_task(recipe.generate.task, system, out, console)
    write_text(out / "evaluation.json", format_json(found, origin))


def _score_task(task: str, system: SystemOutput, out: Path, console: Console) -> None:
    """Write metrics.json: the share of test sequences that are decoded exactly, by group where the task has groups."""
    expected, labels = list(read_lines(out / "data" / "test.reference")), out / "corpus" / "test.group"
    if system.lowercase:
        expected = [line.lower() for line in expected]
    right = [line == wanted for line, wanted in zip(system.lines, expected, strict=True)]
    groups = by_group(right, list(read_lines(labels))) if labels.exists() else {}
    if groups:
        console.print(render_groups(groups, GROUPED_BY[task]))
    write_metrics(out / "metrics.json", sum(right) / len(right), len(right), groups)


def _show_examples(recipe: Recipe, out: Path, console: Console) -> None:
    """Some test sentences with their three best translations."""
    lines = list(read_lines(out / "data" / "test.source"))
    expected = list(read_lines(out / "data" / "test.reference"))
    chosen = sorted({len(lines) * i // 8 for i in (1, 3, 6)})
    options = SearchOptions(beam=max(3, recipe.search.beam), n_best=3)
    table = Table("", "log-prob.", "sentence")
    for i, translation in zip(
        chosen, Translator.load(out / "model").translate([lines[i] for i in chosen], options), strict=True
    ):
        table.add_row("source", "", translation.source)
        table.add_row("reference", "", expected[i])
        for n, one in enumerate(translation.hypotheses, 1):
            table.add_row(f"best {n}", f"{one.log_prob:.2f}", one.text, end_section=n == len(translation.hypotheses))
    console.print(table)


@dataclass(frozen=True)
class DryRun:
    """What a recipe would train: weights in all, in the softmax, and the losses of two batches (nats a token)."""

    parameters: int
    softmax: int
    losses: list[float]


def dry_run(recipe: Recipe, device: torch.device) -> DryRun:
    """Build a recipe's model with full vocabularies and train it on two batches of random words.

    Needs no data. On the `meta` device nothing is computed and no loss is known.

    Raises:
        UserError: the settings contradict each other.
    """
    try:
        with device:
            model = text_model(recipe.model, recipe.prepare.source.vocab_size, recipe.prepare.target.vocab_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    plans = [_random_plan(recipe, number) for number in range(2)]
    batches = [plan.collate(reverse_source=recipe.model.reverse_source) for plan in plans]
    return two_updates(model, recipe.training, batches, device)


def two_updates(model: SequenceModel, config: TrainingConfig, batches: list[Batch], device: torch.device) -> DryRun:
    """Train a model on some batches, one update each."""
    optimizer = make_optimizer(model, config)
    losses = []
    for batch in batches:
        tokens = len(batch.labels)
        loss = model(batch.to(device), config.label_smoothing)
        (loss.smoothed / tokens).backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if device.type != "meta":
            losses.append(loss.nll.item() / tokens)
    counts = [sum(p.numel() for p in module.parameters()) for module in (model, model.decoder.output)]
    return DryRun(counts[0], counts[1], losses)


def _random_plan(recipe: Recipe, seed: int) -> Plan:
    """A batch that fills the recipe's budget with sentences of 25 random words, as long as WMT's are on average."""
    random, words = np.random.default_rng(seed), 25
    rows = max(1, recipe.training.batch_tokens // (words + 1))
    sides = [
        Ragged.of(random.integers(SPECIAL_IDS, side.vocab_size, (rows, words)).tolist())
        for side in (recipe.prepare.source, recipe.prepare.target)
    ]
    return Plan(Pool(sides[0], sides[1], np.arange(rows)), np.arange(rows))
