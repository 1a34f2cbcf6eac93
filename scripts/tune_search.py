"""Which beam and length penalty translate a validation text best."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jsonargparse.typing import PositiveInt

from data.errors import UserError
from scripts.command import Help, Parser, run
from scripts.output import check_outputs

if TYPE_CHECKING:
    from nmt.search_tuning import Tuning

# what needs torch is imported when it is used: --help and a wrong option answer at once

NAME = "tune_search.py"
_EXAMPLE = f"{NAME} --model RUN/model --source VALID --reference VALID.REFERENCE [--json OUT]"
_DESCRIPTION = """
Translates a text with every combination of the given beams and length penalties, shows BLEU and chrF of each, and says
how to have the best by BLEU. Choose on a validation text: a setting chosen on the test part makes the score of the test
part too good.
"""
T = TypeVar("T", int, float)


def main() -> None:
    parser = _parser()
    args = parser.read()
    beams = _numbers(parser, "--beam", args.beam, int)
    length_penalties = _numbers(parser, "--length-penalty", args.length_penalty, float)
    files = {"source": Path(args.source)}
    files |= {f"reference{i}": Path(name) for i, name in enumerate(args.reference, 1)}
    check_outputs([args.json], files.values(), args.overwrite)
    import torch

    from data.files import write_text
    from data.text_files import read_lines
    from nmt.evaluation import check_line_counts, describe
    from nmt.metrics import read_scored_text
    from nmt.search_tuning import tune_search
    from nmt.translator import Translator

    if args.threads:
        torch.set_num_threads(args.threads)
    texts = {name: list((read_lines if name == "source" else read_scored_text)(path)) for name, path in files.items()}
    check_line_counts({path: texts[name] for name, path in files.items()})
    translator = Translator.load(args.model)
    try:
        found = tune_search(
            translator,
            texts["source"],
            [lines for name, lines in texts.items() if name != "source"],
            beams=beams,
            length_penalties=length_penalties,
            replace_unknown=args.replace_unknown,
            lowercase=args.lowercase,
            say=lambda message: print(f"{NAME}: {message}", file=sys.stderr, flush=True),
        )
    except UserError:
        raise
    except ValueError as error:
        parser.error(str(error).replace("--search.", "--").replace("_penalty", "-penalty"))
    if args.json:
        best = found.best
        options = {"translate": best.command_options(), "recipe": best.recipe_options()}
        origin = describe(files, {"models": [Path(folder) for folder in args.model]})
        record = {**asdict(found), "best": asdict(best), "options": options, **origin}
        write_text(Path(args.json), json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _show(found)


def _parser() -> Parser:
    parser = Parser(NAME, _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = f"{_EXAMPLE} [options]", Help
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="DIR", help="model directory; several are an ensemble")
    add("--source", required=True, metavar="FILE", help="validation text, one sentence a line")
    add("--reference", action="append", required=True, type=str, metavar="FILE",
        help="its translation, line for line; give it again for further ones")  # fmt: skip
    add("--beam", default="5,10", metavar="N,N", help="beams to try")
    add("--length-penalty", default="0,0.2,0.4,0.6,0.8,1,1.2", metavar="X,X", help="length penalties to try")
    add("--replace-unknown", action="store_true", help="replace unknown words by words of the source, as translate")
    add("--lowercase", action="store_true", help="score in lower case")
    add("--json", metavar="FILE", help="where to write all figures")
    add("--overwrite", action="store_true", help="replace --json if it exists")
    add("--threads", type=PositiveInt, metavar="N", help="processor threads to compute with; by default torch decides")
    return parser


def _numbers(parser: Parser, option: str, text: str, kind: Callable[[str], T]) -> list[T]:
    """Numbers with commas between them, each once."""
    try:
        return list(dict.fromkeys(kind(part) for part in str(text).split(",")))
    except ValueError:
        parser.error(f"{option} {text}: give numbers with commas between them")


def _show(found: "Tuning") -> None:
    from rich.console import Console
    from rich.table import Table

    columns = "beam", "length penalty", "BLEU", "chrF", "length ratio"
    table = Table(*columns, title="Scores by setting of the search", title_justify="left")
    for one in found.tried:
        setting = f"{one.beam}", f"{one.length_penalty:g}"
        bleu = f"{one.bleu:.2f}" + (" *" if one == found.best else "")
        table.add_row(*setting, bleu, f"{one.chrf:.2f}", f"{one.length_ratio:.3f}")
    console = Console()
    console.print(table)
    lines = [f"{name}  {signature}" for name, signature in found.signatures.items()]
    lines += [
        "* best by BLEU. To have it:",
        f"  translate {found.best.command_options()}",
        f"  {found.best.recipe_options()}        a recipe, and evaluate_translation.py",
    ]
    if found.best.replaced_unknown is not None:
        lines.append(f"{found.best.replaced_unknown:,} unknown words were replaced.")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(NAME, main)
