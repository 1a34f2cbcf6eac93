"""Talk to a model trained on dialogues: chat --model RUN/model (also: python -m scripts.chat)."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from jsonargparse.typing import PositiveInt

from data.errors import UserError
from scripts.command import Help, Parser, run
from scripts.output import open_output
from scripts.search_options import add_sampling, add_search, check_sampling, search_options

# what needs torch is imported when it is used: --help and a wrong option answer at once

_DESCRIPTION = """
Answers each line of standard input with one line, remembering as many turns, its own among them, as the model was
trained to read. Type to it, or let it stand in a pipe. A line with /reset makes it forget what was said, and has no
answer; a blank line has a blank one. Ctrl-D ends.

Beam search always gives the same answer, and often a bland one; try --sample --temperature 0.7.
"""
_EXAMPLE = "chat --model RUN/model [options]"


def main() -> NoReturn:
    run("chat", _chat)


def _chat() -> None:
    parser = Parser("chat", _DESCRIPTION, _EXAMPLE)
    parser.usage, parser.formatter_class = _EXAMPLE, Help
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory of a run")
    parser.add_argument("--threads", type=PositiveInt, metavar="N",
        help="processor threads to compute with; by default torch decides")  # fmt: skip
    add_search(parser, "reply", None)
    add_sampling(parser, "reply")
    args = parser.read()
    check_sampling(parser, args)
    if sys.stdin is None:
        raise UserError("standard input is closed: type to it, or give it lines in a pipe")
    import torch

    from nmt.conversation import Conversation
    from nmt.search_options import SearchOptions
    from nmt.streaming import Notes, read_pools

    options = search_options(parser, args, SearchOptions)
    if args.threads:
        torch.set_num_threads(args.threads)
    conversation = Conversation.load(args.model, options)
    notes = Notes(_say)
    if not conversation.history:
        _say(f"{args.model} was not trained on dialogues: it answers each line by itself")
    descriptor = sys.stdin.fileno()
    with contextlib.ExitStack() as stack:
        write = open_output(None, descriptor, stack)
        pools = read_pools(descriptor, "standard input")
        for reply in conversation.answer_lines(_prompted(pools) if os.isatty(descriptor) else pools, notes):
            write(f"{reply}\n")
    notes.finish()


def _prompted(pools: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    """The same lines, asked for with a prompt."""
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        pool = next(pools, None)
        if pool is None:
            print(file=sys.stderr)
            return
        yield pool


def _say(message: str) -> None:
    print(f"chat: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
