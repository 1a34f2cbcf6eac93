"""A recipe: all stages of one experiment in one file, each run once.

What its source is decides which kind of recipe it is: text (nmt/translation_recipe.py), frames (nmt/frame_recipe.py) or
images (captioning/recipe.py).
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from data.batching import Batch
from data.errors import UserError
from data.files import write_text
from nmt.config import FREE_TO_CHANGE, GONE, TrainingConfig, flat
from nmt.model import SequenceModel
from nmt.optimization import make_optimizer
from nmt.processes import process_state
from nmt.run_directory import RunDirectory
from nmt.search import BrokenModelError
from nmt.trainer import TrainingResult


@dataclass(frozen=True)
class Guide:
    """What a finished run tells its user: what stands beside the scores, where data were reported on, what to try."""

    scores: str
    report: Path
    following: Sequence[str]


@dataclass(frozen=True)
class DryRun:
    """What a recipe would train: weights in all, in the softmax, and the losses of two batches (nats a token)."""

    parameters: int
    softmax: int
    losses: list[float]


@dataclass(frozen=True)
class Recipe(ABC):
    """The settings of every stage, a field for each section of the file, and the stages.

    Those that write into `out` raise UserError if a setting, the data or a file stands in their way.
    """

    @abstractmethod
    def prepare_data(self, out: Path, base: Path | None, console: Console) -> None:
        """Put prepared data into `out`/data, and a corpus that is generated into `out`/corpus, unless they are there.

        Args:
            base: The folder that holds the files of a corpus that is not generated.
        """

    @abstractmethod
    def train(self, out: Path, resume: bool, console: Console) -> TrainingResult:
        """Train on `out`/data and leave the model in `out`/model."""

    @abstractmethod
    def scored_split(self, out: Path) -> str | None:
        """The part of the prepared data that the finished model is scored on, if there is one."""

    @abstractmethod
    def evaluate(self, out: Path, split: str, console: Console) -> None:
        """Score the model; evaluation.json is written last, as the sign that this is done.

        Raises:
            BrokenModelError: it computes no probabilities.
        """

    @abstractmethod
    def guide(self, out: Path) -> Guide:
        """What to tell at the end."""

    @abstractmethod
    def dry_run(self, device: torch.device) -> DryRun:
        """Build the model with full vocabularies and train it on two batches of random data.

        On the `meta` device nothing is computed and no loss is known.

        Raises:
            UserError: the settings contradict each other.
        """


def run_recipe(recipe: Recipe, out: Path, *, base: Path | None, resume: bool, console: Console) -> None:
    """Run the stages of a recipe that are not done yet: prepare, train, evaluate. Of several processes that are started
    together, all train; the others wait for the first, which does the rest.

    Args:
        out: The run directory. Prepared data goes to `out`/data, the finished model to `out`/model.
        base: The folder that holds the corpus files.
        resume: Go on with a training that was interrupted.

    Raises:
        UserError: a stage failed, or `out` was made with other settings.
    """
    state = process_state()
    if state.is_main_process:
        claim_run(asdict(recipe), asdict(type(recipe)()), out)
        recipe.prepare_data(out, base, console)
    state.wait_for_everyone()
    run = RunDirectory(out)
    if run.model.exists():
        console.print(f"Trained already: {run.model}", highlight=False)
    else:
        console.rule("train")
        result = recipe.train(out, resume and run.checkpoints.exists(), console)
        if result.model is None:
            raise KeyboardInterrupt
        console.print(f"Training {result.reason}.", highlight=False)
    if not state.is_main_process:
        return
    split = recipe.scored_split(out)
    if (out / "evaluation.json").exists():
        console.print(f"Evaluated already: {out / 'evaluation.json'}", highlight=False)
    elif split:
        console.rule(f"evaluate on {split}")
        try:
            recipe.evaluate(out, split, console)
        except BrokenModelError as error:
            raise UserError(f"{run.model}: {error}: lower training.learning_rate or training.clip_norm") from error
    _show_where(recipe.guide(out), out, console)


def _show_where(guide: Guide, out: Path, console: Console) -> None:
    """Tell where everything is, and what to try next."""
    console.rule("done")
    scores = out / "evaluation.json"
    scored = f"{scores} {guide.scores}" if scores.exists() else "none: the data have no test part"
    for text in (
        f"model         {out / 'model'}",
        f"scores        {scored}",
        f"curves        {out / 'curves.png'}, or: tensorboard --logdir {out}",
        f"data report   {guide.report}",
        "",
        "Next:",
        *(f"  {line}" for line in guide.following),
        "  README.md: all the rest",
    ):
        console.print(text, highlight=False, soft_wrap=True)


def command(name: str) -> str:
    """How a command of this environment is called from the working directory, such as .venv/bin/translate."""
    path = Path(sys.executable).parent / name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def claim_run(settings: dict[str, Any], defaults: dict[str, Any], out: Path) -> None:
    """Note a recipe's settings in the run directory; raises UserError if something was made there with others.

    Args:
        defaults: What options had before there was a choice, in runs of earlier versions.
    """
    path = out / "recipe.yaml"
    finished = (out / "model").exists()
    if path.exists() and any((out / made).exists() for made in ("corpus", "data", "checkpoints", "model")):
        refuse_changes(path, settings, defaults, set() if finished else FREE_TO_CHANGE)
    if not finished:  # what may be changed until then has perhaps been changed
        write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def refuse_changes(path: Path, settings: dict[str, Any], defaults: dict[str, Any], free: Collection[str] = ()) -> None:
    """Raises UserError if settings differ from those noted in the file `path`, but for the `free` ones of training."""
    noted = yaml.safe_load(path.read_text(encoding="utf-8"))
    before, now = ({**GONE, **flat(defaults), **flat(each)} for each in (noted, settings))
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key.removeprefix("training.") not in free
    ]
    if changed:
        raise UserError(f"{path.parent}: was made with other settings ({'; '.join(changed)}): choose another --out")


def two_updates(model: SequenceModel, config: TrainingConfig, batches: list[Batch], device: torch.device) -> DryRun:
    """Train a model on some batches, one update each."""
    optimizer = make_optimizer(model, config)
    losses = []
    for batch in batches:
        tokens = len(batch.labels)
        # without values nobody can say how many words are drawn
        sampled = 0 if device.type == "meta" else config.sampled_softmax
        loss = model(batch.to(device), config.label_smoothing, sampled)
        (loss.smoothed / tokens).backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if device.type != "meta":
            losses.append(loss.nll.item() / tokens)
    counts = [sum(p.numel() for p in module.parameters()) for module in (model, model.decoder.output)]
    return DryRun(counts[0], counts[1], losses)
