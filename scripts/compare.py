"""Run a recipe with every combination of some settings and compare the scores."""

import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError
from scripts.command import Parser, run
from scripts.run import built, recipe_parser

if TYPE_CHECKING:
    from nmt.recipe import Recipe

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
    return combine(values)


def combine(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """All combinations: for each, the keys with one value."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def options(varied: Mapping[str, str]) -> list[str]:
    """How a combination is said on the command line."""
    return [f"--{key}={value}" for key, value in varied.items()]


def compare(
    name: str, combinations: Sequence[dict[str, str]], recipes: "Sequence[Recipe]", read: Any, paired: str | None
) -> None:
    """Run the recipes, one for each combination, and compare them; `read` has the options out, data and threads."""
    import torch
    from rich.console import Console

    from nmt.variants import Variant, compare_variants

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("runs are compared by one process; a single recipe may be run by several")
    if read.threads:
        torch.set_num_threads(read.threads)
    variants = [Variant(varied, recipe) for varied, recipe in zip(combinations, recipes, strict=True)]
    compare_variants(name, variants, read.out, read.data, Console(), paired=paired)


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
    parser.add_argument(
        "--paired", type=str | None, metavar="KEY", help="A setting of --vary: each of its values is tested against "
        "its first by paired bootstrap of the test part's translations."
    )  # fmt: skip
    read = parser.read(arguments)
    combinations = read_varied(parser, read.vary)
    if read.paired and read.paired not in combinations[0]:
        parser.error(f"--paired {read.paired}: it must be one of the settings to vary, {', '.join(combinations[0])}")
    if read.paired == "training.seed":
        parser.error("--paired training.seed: seeds are what the test goes over; name another setting of --vary")
    if read.paired and read.task == "captioning":
        parser.error(f"--paired {read.paired}: only translations are tested, and {read.recipe} writes captions")
    # all of them are parsed before the first one runs
    recipes = [built(parser, parser.read([*arguments, *options(varied)]), kind) for varied in combinations]
    compare(Path(read.recipe).stem, combinations, recipes, read, read.paired)


if __name__ == "__main__":
    run("compare.py", main)
