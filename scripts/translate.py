"""Translate text line by line: translate --model RUN/model [FILE] (also: python -m scripts.translate)."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse.typing import PositiveInt

from data.errors import UserError
from scripts.command import Help, Parser, run
from scripts.output import check_outputs, open_output
from scripts.search_options import add_sampling, add_search, check_sampling, search_options

# what needs torch is imported when it is used: --help and a wrong option answer at once

_DESCRIPTION = """
Translates standard input, or FILE, line by line: one translation for every line, in order, whatever the line holds.
Writes as it reads, so it can stand in a pipe, or be typed to. One sentence a line is best: lines longer than any
sentence in training are cut, and that is reported on standard error, as are invalid UTF-8 and unknown words.

Several best (--n-best 2 and more) are lines of five columns with tabs between them:
input line (from 1), rank (from 1), score, log-probability, translation. Every input line has at least one.
"""
_EXAMPLE = "translate --model RUN/model [FILE] [options]"


def main() -> NoReturn:
    run("translate", _translate)


def _parser() -> Parser:
    parser = Parser("translate", _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = _EXAMPLE, Help
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="text in UTF-8; by default, or as -, standard input")
    add("--model", action="append", required=True, metavar="DIR",
        help="model directory of a run; give several for an ensemble (--model A --model B)")  # fmt: skip
    add("--output", metavar="FILE", help="write here instead of to standard output")
    add("--explain", metavar="FILE",
        help="also write an HTML page of the first 100: what was read for each word, the alternatives")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that are there already")
    add("--threads", type=PositiveInt, metavar="N", help="processor threads to compute with; by default torch decides")
    add("--processes", type=PositiveInt, default=1, metavar="N",
        help="processes that translate, for large files; each holds the models and has --threads, or one")  # fmt: skip
    add("--batch-tokens", type=PositiveInt, default=4096, metavar="N",
        help="most cells of a batch (sentences x beam x longest source); more takes more memory")  # fmt: skip

    add = add_search(parser, "translation", "line")
    add("--shortlist", metavar="FILE",
        help="choose from words likely for the input, for speed: what scripts/make_shortlist.py wrote")  # fmt: skip
    add("--scores", action="store_true", help="write the score and a tab before each translation")
    add("--prefix", default="", metavar="TEXT", help="begin every translation with this")
    add("--allow-unknown", action="store_true", help="let <unk> be written")
    add("--replace-unknown", action="store_true",
        help="write unknown words as the word of the input, as typed, that was attended to most")  # fmt: skip

    add_sampling(parser, "translation")

    add = parser.add_argument_group("JSON lines").add_argument
    add("--jsonl", action="store_true", help="read a JSON object a line and add its translation as a field")
    add("--field", default="source", metavar="NAME", help="the field to translate; a.b is b inside a")
    add("--output-field", default="translation", metavar="NAME",
        help="the field to add: a string, or with --n-best or --scores a list of {text, score, log_prob}")  # fmt: skip
    add("--prefix-field", metavar="NAME", help="field with what the translation must begin with")
    return parser


def _translate() -> None:
    parser = _parser()
    args = parser.read()
    _check(parser, args)
    check_outputs([args.output], [], args.overwrite)
    import torch

    from nmt.explanation_page import ExplanationPage, add_translations
    from nmt.formats import Fields, Job, translate_jsonl, translate_plain
    from nmt.streaming import Notes, read_pools
    from nmt.translation_options import TranslationOptions
    from nmt.translator import Translator
    from nmt.translator_pool import TranslatorPool

    options = search_options(parser, args, TranslationOptions)
    page = None
    if args.explain:
        note = f"{', '.join(args.model)}, {'sampled' if args.sample else f'beam {args.beam}'}"
        page = ExplanationPage(Path(args.explain), unit="lines", note=note, overwrite=args.overwrite)
    if args.threads:
        torch.set_num_threads(args.threads)
    with contextlib.ExitStack() as stack:
        descriptor, name = _open_input(args.file, stack)
        translator = Translator.load(args.model, precision=args.precision, shortlist=args.shortlist)
        pool = None
        if args.processes > 1:
            shared = {"precision": args.precision, "threads": args.threads or 1, "shortlist": args.shortlist}
            pool = stack.enter_context(TranslatorPool(args.model, args.processes, **shared))
        show = partial(add_translations, stack.enter_context(page), translator) if page else None
        job = Job(translator, options, args.scores, args.prefix, args.batch_tokens, show, pool)
        job.translator.encode_prefix(args.prefix)  # refused even where no line comes
        job.translator.check(options)
        write = open_output(args.output, descriptor, stack)
        notes = Notes(
            lambda message: print(f"translate: {message}", file=sys.stderr, flush=True), replaces=args.replace_unknown
        )
        pools = read_pools(descriptor, name)
        if args.jsonl:
            fields = Fields(args.field, args.output_field, args.prefix_field)
            written = translate_jsonl(job, pools, notes, fields, name)
        else:
            written = translate_plain(job, pools, notes)
        for text in written:
            write(text)
        notes.finish()
    if page and page.full:
        print(f"translate: {args.explain} holds {page.summary()}", file=sys.stderr)


def _check(parser: Parser, args: Any) -> None:
    """Refuse what would silently do nothing."""
    for option in ("field", "output_field", "prefix_field"):
        if not args.jsonl and args[option] != parser.get_default(option):
            parser.error(f"--{option.replace('_', '-')} needs --jsonl")
    if args.prefix and args.prefix_field:
        parser.error("--prefix and --prefix-field exclude each other")
    if args.overwrite and not args.explain and not args.output:
        parser.error("--overwrite needs --output or --explain")
    for name, file in (("FILE", args.file), ("--output", args.output)):
        if args.explain and file and Path(args.explain) == Path(file):
            parser.error(f"--explain and {name} name the same file")
    check_sampling(parser, args)


def _open_input(file: str | None, stack: contextlib.ExitStack) -> tuple[int, str]:
    """A descriptor to read from, and what to call it."""
    if file in (None, "-"):
        if sys.stdin is None:
            raise UserError("standard input is closed: give a FILE")
        return sys.stdin.fileno(), "standard input"
    assert file is not None
    try:
        return stack.enter_context(Path(file).open("rb", buffering=0)).fileno(), file
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


if __name__ == "__main__":
    main()
