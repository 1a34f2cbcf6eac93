"""Average the weights of several checkpoints of a run into one model."""

from pathlib import Path
from typing import Any

from scripts.command import Help, Parser, run

NAME = "average_checkpoints.py"
_EXAMPLE = f"{NAME} --model RUN/checkpoints/update-N --model RUN/checkpoints/update-M --out DIR"
_DESCRIPTION = """
Writes a model directory whose weights are the mean of the given ones, which are checkpoints of one run: it keeps its
best ones (training.keep_best) under RUN/checkpoints. Whether that is better tells the score on a validation text.
"""


def main() -> None:
    parser = Parser(NAME, _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = f"{_EXAMPLE} [options]", Help
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="DIR", help="checkpoint or model directory; give several")
    add("--out", required=True, metavar="DIR", help="model directory to write")
    add("--overwrite", action="store_true", help="replace --out if it exists")
    average(parser.read())


def average(args: Any) -> None:
    from nmt.averaging import average_models

    average_models([Path(path) for path in args.model], Path(args.out), overwrite=args.overwrite)
    print(f"The average of {len(args.model)} models is in {args.out}")


if __name__ == "__main__":
    run(NAME, main)
