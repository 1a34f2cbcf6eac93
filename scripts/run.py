"""Run all stages of a recipe, skipping those already done."""

import sys
from pathlib import Path

from scripts.command import Parser, run

RECIPES = Path(__file__).parent / "recipes"


def recipes() -> None:
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    example = "run.py RECIPE --out RUN [--data DIR] [--resume]"
    description = f"Prepare, train and evaluate as a recipe says. RECIPE is a YAML file, or one of: {names}."
    name = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else None
    defaults = []
    if name:
        found = next((path for path in (RECIPES / f"{name}.yaml", Path(name)) if path.is_file()), None)
        if found is None:
            Parser("run.py", description, example).error(f"no recipe {name!r}: give a YAML file or one of {names}")
        defaults = [str(found)]
    import torch
    from rich.console import Console

    from data.prepare import PrepareConfig
    from nmt.config import ModelConfig, TrainingConfig
    from nmt.recipe import Recipe, ScenesConfig, dry_run, run_recipe
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
    for section, kind in (
        ("scenes", ScenesConfig),
        ("prepare", PrepareConfig),
        ("model", ModelConfig),
        ("training", TrainingConfig),
        ("search", SearchOptions),
    ):
        parser.add_class_arguments(kind, section)
    options = parser.read()
    recipe = Recipe(options.scenes, options.prepare, options.model, options.training, options.search)
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    if options.dry_run:
        made = dry_run(recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        console.print(
            f"{made.parameters / 1e6:.1f} M parameters, {made.softmax / 1e6:.1f} M of them in the softmax; "
            f"losses of two batches: {', '.join(f'{loss:.3f}' for loss in made.losses)} nats a token",
            highlight=False,
        )
        return
    run_recipe(
        recipe,
        options.out or Path("runs") / Path(options.recipe).stem,
        base=options.data,
        resume=options.resume,
        console=console,
    )


if __name__ == "__main__":
    run("run.py", recipes)
