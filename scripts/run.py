"""Run all stages of a recipe, skipping those already done."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.command import Parser, run

if TYPE_CHECKING:
    from nmt.recipe import Recipe

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Options:
    recipe: "Recipe"
    out: Path
    data: Path | None
    resume: bool
    threads: int
    dry_run: bool


def read_recipe(arguments: list[str]) -> Options:
    """The recipe that the first argument names, changed by the others."""
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    example = "run.py RECIPE --out RUN [--data DIR] [--resume]"
    description = f"Prepare, train and evaluate as a recipe says. RECIPE is a YAML file, or one of: {names}."
    defaults = []
    if arguments and not arguments[0].startswith("-"):
        found = next((p for p in (RECIPES / f"{arguments[0]}.yaml", Path(arguments[0])) if p.is_file()), None)
        if found is None:
            Parser("run.py", description, example).error(f"no recipe {arguments[0]!r}: give a YAML file, or {names}")
        defaults = [str(found)]

    from data.prepare import PrepareConfig
    from nmt.config import ModelConfig, TrainingConfig
    from nmt.recipe import Recipe, ScenesConfig
    from nmt.search import SearchOptions

    parser = Parser("run.py", description, example, defaults=defaults)
    parser.add_argument("recipe", help="A YAML file or the name of a recipe.")
    parser.add_argument("--out", type=Path | None, help="Run directory (default: runs/RECIPE).")
    parser.add_argument("--data", type=Path | None, help="Folder that holds the corpus files.")
    parser.add_argument("--resume", action="store_true", help="Go on with a training that was interrupted.")
    parser.add_argument("--threads", type=int, default=0, help="Threads for torch; 0 lets torch decide.")
    parser.add_argument(
        "--dry_run", action="store_true", help="Only build the model, count weights, train on two random batches."
    )
    parser.add_class_arguments(ScenesConfig, "scenes")
    parser.add_class_arguments(PrepareConfig, "prepare")
    parser.add_class_arguments(ModelConfig, "model")
    parser.add_class_arguments(TrainingConfig, "training")
    parser.add_class_arguments(SearchOptions, "search")
    read = parser.read(arguments)
    return Options(
        recipe=Recipe(read.scenes, read.prepare, read.model, read.training, read.search),
        out=read.out or Path("runs") / Path(read.recipe).stem,
        data=read.data,
        resume=read.resume,
        threads=read.threads,
        dry_run=read.dry_run,
    )


def main() -> None:
    options = read_recipe(sys.argv[1:])

    import torch
    from rich.console import Console

    from nmt.recipe import dry_run, run_recipe

    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    if options.dry_run:
        made = dry_run(options.recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        losses = ", ".join(f"{loss:.3f}" for loss in made.losses)
        console.print(
            f"{made.parameters / 1e6:.1f} M parameters, {made.softmax / 1e6:.1f} M of them in the softmax; "
            f"losses of two batches: {losses} nats a token",
            highlight=False,
            soft_wrap=True,
        )
        return
    run_recipe(options.recipe, options.out, base=options.data, resume=options.resume, console=console)


if __name__ == "__main__":
    run("run.py", main)
