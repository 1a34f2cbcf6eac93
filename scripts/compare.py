"""Run a recipe with every combination of some settings and compare the scores."""

import itertools
import re
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.command import Parser, run
from scripts.run import built, recipe_parser

if TYPE_CHECKING:
    from rich.console import Console

    from nmt.variants import Variant
    from scripts.run import AnyRecipe

_BETWEEN_VALUES = re.compile(r",(?![^\[]*\])")  # no comma inside of a list


def read_varied(parser: Parser, given: list[str]) -> list[dict[str, str]]:
    """All combinations of `--vary key=value,value`: for each, the keys with one value."""
    values: dict[str, list[str]] = {}
    for text in given:
        key, equals, listed = text.partition("=")
        if not equals or "." not in key:
            parser.error(f"--vary {text}: write it as section.key=value,value")
        if key in values:
            parser.error(f"--vary {key} is given twice: put all of its values behind one")
        values[key] = _BETWEEN_VALUES.split(listed)
        if len(set(values[key])) < len(values[key]):
            parser.error(f"--vary {text}: a value stands there twice")
    if not values:
        parser.error("nothing to compare: give --vary section.key=value,value")
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def main() -> None:
    arguments = sys.argv[1:]
    parser, kind = recipe_parser(
        arguments,
        "compare.py",
        "Run a recipe with every combination of the settings to vary, each in DIR/NAME, and compare the scores: a "
        "table, DIR/comparison.json and DIR/comparison.png. The same command goes on with what was interrupted.",
        "compare.py RECIPE --out DIR --vary model.cell=rnn,gru,lstm [--vary training.seed=1,2,3] [--data DIR]",
    )
    parser.add_argument("--out", type=Path, required=True, help="Directory for the runs and their comparison.")
    parser.add_argument(
        "--vary", action="append", default=[], help="A setting and its values, section.key=value,value; may be given "
        "several times. Means over training.seed are shown as well."
    )  # fmt: skip
    read = parser.read(arguments)
    combinations = read_varied(parser, read.vary)
    # all of them are parsed before the first one runs
    recipes = [
        built(parser, parser.read([*arguments, *(f"--{key}={value}" for key, value in varied.items())]), kind)
        for varied in combinations
    ]

    import torch
    from rich.console import Console

    from nmt.variants import compare_variants

    if read.threads:
        torch.set_num_threads(read.threads)
    console = Console()
    variants = [
        variant(varied, recipe, read.data, console) for varied, recipe in zip(combinations, recipes, strict=True)
    ]
    compare_variants(Path(read.recipe).stem, variants, read.out, console)


def variant(varied: dict[str, str], recipe: "AnyRecipe", base: Path | None, console: "Console") -> "Variant":
    """The stages of one recipe, of any kind."""
    from nmt.frame_recipe import FrameRecipe, prepare_frame_data, run_frame_recipe
    from nmt.recipe import Recipe, prepare_data, run_recipe
    from nmt.variants import Variant

    if isinstance(recipe, Recipe):
        prepare, run_all = partial(prepare_data, recipe), partial(run_recipe, recipe)
    elif isinstance(recipe, FrameRecipe):
        prepare, run_all = partial(prepare_frame_data, recipe), partial(run_frame_recipe, recipe)
    else:
        from captioning.recipe import prepare_caption_data, run_caption_recipe

        prepare, run_all = partial(prepare_caption_data, recipe), partial(run_caption_recipe, recipe)
    return Variant(
        varied,
        asdict(recipe),
        partial(prepare, base=base, console=console),
        partial(run_all, base=base, resume=True, console=console),
    )


if __name__ == "__main__":
    run("compare.py", main)
