"""How probable given translations are: pairs, candidates of n-best lists, entries of a phrase table."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from scripts.command import Help, Parser, run
from scripts.output import check_outputs, open_output

if TYPE_CHECKING:
    from nmt.rescoring import Judged
    from nmt.translator import Translator

# what needs torch is imported when it is used: --help and a wrong option answer at once

NAME = "score.py"
_EXAMPLE = f"{NAME} --model RUN/model (--source F --target F | --source F --candidates LIST | --phrase-table F)"
_DESCRIPTION = """
Writes the natural logarithm of the probability of each line of --target given the same line of --source, its end
included; a blank line where the source is blank.

With --candidates, a list that `translate --n-best` wrote: orders the candidates of each line anew, by (1 - weight)
times their own log-probability plus weight times that of --model, over length to the power of the length penalty, and
writes the best of each (with --n-best, five columns again). With --reference too it writes nothing but what each
weight would give: choose the weight on a validation text.

With --phrase-table, lines of `source ||| target ||| scores ...`: adds the probability as one more score (Cho et al.
2014, section 3).
"""


def main() -> None:
    parser = _parser()
    args = parser.read()
    _check(parser, args)
    check_outputs([args.output], [args.source, args.target, args.candidates, args.phrase_table], args.overwrite)
    import torch

    from nmt.translator import Translator

    if args.threads:
        torch.set_num_threads(args.threads)
    translator = Translator.load(args.model)
    if args.candidates:
        lines = _rescored(translator, args)
    elif args.phrase_table:
        lines = _scored_phrases(translator, Path(args.phrase_table))
    else:
        lines = _scored_pairs(translator, Path(args.source), Path(args.target))
    if lines is not None:
        with contextlib.ExitStack() as stack:
            open_output(args.output, None, stack)("".join(f"{line}\n" for line in lines))


def _parser() -> Parser:
    parser = Parser(NAME, _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = f"{_EXAMPLE} [options]", Help
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="DIR", help="model directory; several are an ensemble")
    add("--source", metavar="FILE", help="source text, one sentence a line")
    add("--target", metavar="FILE", help="its translation, line for line")
    add("--candidates", metavar="LIST", help="what `translate --n-best N` wrote for --source")
    add("--phrase-table", metavar="FILE", help="phrase table in the form of Moses; may be .gz")
    add("--weight", type=float, default=0.5, metavar="X", help="share of --model in the new order of candidates")
    add("--length-penalty", type=float, default=1.0, metavar="X", help="exponent of the length that divides the sum")
    add("--reference", action="append", type=str, metavar="FILE",
        help="translations to compare candidates with; shows what each weight gives")  # fmt: skip
    add("--lowercase", action="store_true", help="compare with --reference in lower case")
    add("--n-best", type=PositiveInt, default=1, metavar="N", help="candidates written for each line")
    add("--output", metavar="FILE", help="write here instead of to standard output")
    add("--overwrite", action="store_true", help="replace --output if it exists")
    add("--threads", type=PositiveInt, metavar="N", help="processor threads to compute with; by default torch decides")
    return parser


def _check(parser: Parser, args: Any) -> None:
    """Refuse what is not one of the three uses, and what would silently do nothing."""
    given = tuple(name for name in ("source", "target", "candidates", "phrase_table") if args[name])
    if given not in (("source", "target"), ("source", "candidates"), ("phrase_table",)):
        parser.error("give --source and --target, or --source and --candidates, or --phrase-table alone")
    for option in ("weight", "length_penalty", "reference", "n_best"):
        if not args.candidates and args[option] != parser.get_default(option):
            parser.error(f"--{option.replace('_', '-')} needs --candidates")
    if args.lowercase and not args.reference:
        parser.error("--lowercase needs --reference")
    if args.reference and args.output:
        parser.error("--reference only shows what weights give: leave out --output")
    if not 0 <= args.weight <= 1:
        parser.error(f"--weight {args.weight} must be from 0 to 1")


def _scored_pairs(translator: "Translator", source: Path, target: Path) -> list[str]:
    from data.text_files import read_lines
    from nmt.evaluation import check_line_counts

    texts = {path: list(read_lines(path)) for path in (source, target)}
    check_line_counts(texts)
    return ["" if one is None else f"{one.log_prob:.4f}" for one in translator.score(texts[source], texts[target])]


def _scored_phrases(translator: "Translator", path: Path) -> list[str]:
    from data.text_files import read_lines
    from nmt.rescoring import add_score, read_phrases

    lines = list(read_lines(path))
    phrases = read_phrases(lines, path)
    scores = translator.score([phrase.source for phrase in phrases], [phrase.target for phrase in phrases])
    return [add_score(line, score) for line, score in zip(lines, scores, strict=True)]


def _rescored(translator: "Translator", args: Any) -> list[str] | None:
    """The lists in their new order; or, with references, nothing but the table of what weights give."""
    from data.text_files import read_lines
    from nmt.evaluation import check_line_counts
    from nmt.metrics import read_scored_text
    from nmt.rescoring import judge, read_candidates, rerank

    sources = list(read_lines(Path(args.source)))
    lists = read_candidates(Path(args.candidates))
    texts = {Path(name): read_scored_text(Path(name)) for name in args.reference or []}
    check_line_counts({Path(args.source): sources, Path(args.candidates): [""] * len(lists), **texts})
    flat = [(source, candidate.text) for source, each in zip(sources, lists, strict=True) for candidate in each]
    scored = iter(translator.score([source for source, _ in flat], [text for _, text in flat]))
    scores = [[next(scored) for _ in each] for each in lists]
    if args.reference:
        _show(judge(lists, scores, list(texts.values()), args.length_penalty, lowercase=args.lowercase))
        return None
    ordered = rerank(lists, scores, args.weight, args.length_penalty)
    if args.n_best == 1:
        return [each[0].text for each in ordered]
    return [
        f"{number}\t{rank}\t{one.score:.4f}\t{one.log_prob:.4f}\t{one.text}"
        for number, each in enumerate(ordered, 1)
        for rank, one in enumerate(each[: args.n_best], 1)
    ]


def _show(judged: "Judged") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("weight", "BLEU", title="The first of each list, by the model's weight", title_justify="left")
    for choice in judged.choices:
        table.add_row(f"{choice.weight:.1f}", f"{choice.bleu:.2f}" + (" *" if choice == judged.best else ""))
    console = Console()
    console.print(table)
    console.print(
        f"* best: --weight {judged.best.weight:.1f}. If the best candidate by sentence BLEU were always first: "
        f"{judged.oracle:.2f}.\nWithin a list, rank correlation of log-probability a token with chrF: "
        f"{judged.own:.3f} of the system that wrote the list, {judged.second:.3f} of the model.",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    run(NAME, main)
