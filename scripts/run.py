"""Run all stages of a recipe, skipping those already done."""

import sys
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse.typing import NonNegativeInt

from scripts.command import Parser, run

if TYPE_CHECKING:
    from nmt.recipe import Recipe

RECIPES = Path(__file__).parent / "recipes"
TASKS = ("translation", "captioning", "frames")


@dataclass(frozen=True)
class Options:
    recipe: "Recipe"
    out: Path
    data: Path | None
    resume: bool
    threads: int
    dry_run: bool


def recipe_parser(arguments: list[str], name: str, description: str, example: str) -> "tuple[Parser, type[Recipe]]":
    """What reads the options of the recipe that the first argument names, and the kind of recipe that it is."""
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    description = f"{description} RECIPE is a YAML file, or one of: {names}."
    file = None
    if arguments and not arguments[0].startswith("-"):
        file = next((p for p in (RECIPES / f"{arguments[0]}.yaml", Path(arguments[0])) if p.is_file()), None)
        if file is None:
            Parser(name, description, example).error(f"no recipe {arguments[0]!r}: give a YAML file, or {names}")
    parser = Parser(name, description, example, defaults=[str(file)] if file else [])
    parser.add_argument("recipe", help="A YAML file or the name of a recipe.")
    parser.add_argument("--task", default="translation", help=f"{', '.join(TASKS)}; a recipe says which it is.")
    task = _task(file)
    kind = _recipe_class(task)
    if kind is None:
        parser.error(f"task is {task!r}: it must be {' or '.join(TASKS)}")
    add_stages(parser, kind)
    return parser, kind


def add_stages(parser: Parser, kind: "type[Recipe]") -> None:
    """The options of all stages of a kind of recipe, and of where its data are."""
    parser.add_argument("--data", type=Path | None, help="Folder that holds the corpus files.")
    parser.add_argument("--threads", type=NonNegativeInt, default=0, help="Threads for torch; 0 lets torch decide.")
    for section in fields(kind):
        parser.add_class_arguments(section.default_factory, section.name)


def built(parser: Parser, read: Any, kind: "type[Recipe]") -> "Recipe":
    """The recipe in what a parser of `recipe_parser` has read."""
    if not parser.default_config_files:
        parser.error(f"{read.recipe}: the recipe stands first, before all options")
    if _recipe_class(read.task) is not kind:
        parser.error(f"--task {read.task}: the recipe is one of another kind: choose another recipe")
    return assembled(read, kind)


def assembled(read: Any, kind: "type[Recipe]") -> "Recipe":
    """The recipe of what a parser with the options of `add_stages` has read."""
    return kind(**{section.name: read[section.name] for section in fields(kind)})


def read_recipe(arguments: list[str]) -> Options:
    """The recipe that the first argument names, changed by the others."""
    parser, kind = recipe_parser(
        arguments,
        "run.py",
        "Prepare, train and evaluate as a recipe says.",
        "run.py RECIPE --out RUN [--data DIR] [--resume]",
    )
    parser.add_argument("--out", type=Path | None, help="Run directory (default: runs/RECIPE).")
    parser.add_argument("--resume", action="store_true", help="Go on with a training that was interrupted.")
    parser.add_argument(
        "--dry_run", action="store_true", help="Only build the model, count weights, train on two random batches."
    )
    read = parser.read(arguments)
    return Options(
        recipe=built(parser, read, kind),
        out=read.out or Path("runs") / Path(read.recipe).stem,
        data=read.data,
        resume=read.resume,
        threads=read.threads,
        dry_run=read.dry_run,
    )


def _task(file: Path | None) -> str:
    """What a recipe is for, which decides what sections it may have."""
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8")) if file else None
    except (OSError, ValueError, yaml.YAMLError):
        return "translation"  # the parser says what is wrong with the file
    return str(read.get("task", "translation")) if isinstance(read, dict) else "translation"


def _recipe_class(task: str) -> "type[Recipe] | None":
    if task == "captioning":
        from captioning.recipe import CaptionRecipe

        return CaptionRecipe
    if task == "frames":
        from nmt.frame_recipe import FrameRecipe

        return FrameRecipe
    from nmt.translation_recipe import TranslationRecipe

    return TranslationRecipe if task == "translation" else None


def main() -> None:
    options = read_recipe(sys.argv[1:])

    import torch
    from rich.console import Console

    from nmt.device import default_device
    from nmt.processes import process_state
    from nmt.recipe import run_recipe

    if options.threads:
        torch.set_num_threads(options.threads)
    # the others wait for the first process to prepare a corpus, which may take hours
    console = Console(quiet=not process_state(timedelta(hours=12)).is_main_process)
    if not options.dry_run:
        run_recipe(options.recipe, options.out, base=options.data, resume=options.resume, console=console)
        return
    device = default_device()
    console.print(f"Two updates on random batches, on the {device.type}; without a GPU large models take minutes.")
    made = options.recipe.dry_run(device)
    losses = ", ".join(f"{loss:.3f}" for loss in made.losses)
    console.print(
        f"{made.parameters / 1e6:.1f} M parameters, {made.softmax / 1e6:.1f} M of them in the softmax; "
        f"losses of two batches: {losses} nats a token",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    run("run.py", main)
