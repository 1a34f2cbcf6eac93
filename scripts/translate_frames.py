"""Say what sequences of feature frames mean: scripts/translate_frames.py --model RUN/model FILE ..."""

import contextlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import PositiveInt

from scripts.command import Help, Parser, run
from scripts.output import check_outputs, open_output
from scripts.search_options import add_sampling, add_search, check_sampling, search_options

if TYPE_CHECKING:
    from data.frame_files import FrameRecord

# what needs torch is imported when it is used: --help and a wrong option answer at once

_DESCRIPTION = """
Reads .npy files, each one sequence (frames x features, as it was before training), or JSON lines and Parquet, whose
records hold the name of such a file or the numbers. Writes a line for each sequence, in order, some at a time.

A sequence that cannot be used is reported on standard error and has an empty line; the rest go on, and the exit code is
1 at the end. Several best (--n-best 2 and more) are lines of five columns with tabs between them:
sequence (from 1), rank (from 1), score, log-probability, sentence.
"""
_EXAMPLE = "translate_frames.py --model RUN/model FILE ... [options]"
_AT_ONCE = 256  # sequences


def _parser() -> Parser:
    parser = Parser("translate_frames.py", _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = _EXAMPLE, Help
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help=".npy, JSON lines or Parquet")
    add("--model", action="append", required=True, metavar="DIR",
        help="model directory of a run; give several for an ensemble (--model A --model B)")  # fmt: skip
    add("--field", default="frames", metavar="NAME", help="the field of the frames in JSON lines and Parquet")
    add("--output", metavar="FILE", help="write here instead of to standard output")
    add("--overwrite", action="store_true", help="replace the output if it is there already")
    add("--threads", type=PositiveInt, metavar="N", help="processor threads to compute with; by default torch decides")
    add_search(parser, "sentence", "sequence")
    add_sampling(parser, "sentence")
    return parser


def translate() -> int:
    parser = _parser()
    args = parser.read()
    check_sampling(parser, args)
    check_outputs([args.output], args.files, args.overwrite)
    import torch

    from nmt.formats import plain_rows
    from nmt.frame_translator import FrameTranslator
    from nmt.search_options import SearchOptions

    options = search_options(parser, args, SearchOptions)
    if args.threads:
        torch.set_num_threads(args.threads)
    translator = FrameTranslator.load(args.model, precision=args.precision)
    failed = False
    with contextlib.ExitStack() as stack:
        write = open_output(args.output, None, stack)
        records, done = _records(args.files, args.field), 0
        while batch := list(itertools.islice(records, _AT_ONCE)):
            found = translator.translate([record.given for record in batch], options, first=done)
            for record, one in zip(batch, found, strict=True):
                done += 1
                if one.error:
                    failed = True
                    _warn(record, one.error)
                elif one.frames > translator.max_frames:
                    _warn(record, f"{one.frames:,} frames, more than any in training ({translator.max_frames:,})")
                rows = [""] if one.error else plain_rows(done, one, args.n_best, scores=False)
                write("".join(f"{row}\n" for row in rows))
    return int(failed)


def _records(files: list[str], field: str) -> "Iterator[FrameRecord]":
    """The sequences of all files."""
    from data.frame_files import FrameRecord, load_array, read_frames

    for name in files:
        path = Path(name)
        if path.suffix.lower() == ".npy":
            yield FrameRecord(name, load_array(path), "")
        else:
            yield from read_frames(path, field, "")


def _warn(record: "FrameRecord", message: str) -> None:
    print(f"translate_frames.py: {record.place}: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run("translate_frames.py", translate)
