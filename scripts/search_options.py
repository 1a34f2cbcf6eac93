"""The options of commands that search for sentences: how they are declared, checked and handed on."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from scripts.command import Parser

if TYPE_CHECKING:
    from nmt.search_options import SearchOptions

K = TypeVar("K", bound="SearchOptions")

# what needs torch is imported when it is used: --help and a wrong option answer at once


def add_search(parser: Parser, result: str, source: str | None) -> Callable[..., Any]:
    """Add the group of options for beam search; returns what adds further ones to it.

    Args:
        result: What is searched for, such as "translation".
        source: What it is searched for, such as "line"; None if only the best is wanted.
    """
    add = parser.add_argument_group("Search").add_argument
    add("--beam", type=int, metavar="N", default=5, help=f"partial {result}s kept at each step; 1 is fastest")
    if source:
        add("--n-best", type=int, metavar="N", default=1,
            help=f"{result}s per {source}, at most the beam; or samples")  # fmt: skip
        add("--precision", choices=("float32", "bfloat16", "int8"), default="float32",
            help="what is computed in: int8 is faster on processors, bfloat16 where the hardware has it")  # fmt: skip
    add("--length-penalty", type=float, metavar="X", default=1.0,
        help=f"score = log-probability / length to this power; 0 prefers short {result}s")  # fmt: skip
    return add


def add_sampling(parser: Parser, result: str) -> None:
    """Add the group of options for sampling; `result` is what is drawn, such as "translation"."""
    add = parser.add_argument_group("Sampling").add_argument
    add("--sample", action="store_true", help=f"draw {result}s at random instead of searching for the best")
    add("--temperature", type=float, metavar="X", default=1.0, help="below 1 draws likelier words, above 1 rarer ones")
    add("--top-k", type=int, metavar="N", default=0, help="draw from the k likeliest words only; 0 is all")
    add("--top-p", type=float, metavar="X", default=1.0, help="draw from the likeliest words of this total probability")
    add("--seed", type=int, metavar="N", default=1, help=f"the same seed draws the same {result}s")


def check_sampling(parser: Parser, args: Any) -> None:
    """Refuse what would silently do nothing."""
    for option, what in (("beam", "without"), ("seed", "with")):
        if args.sample is (what == "without") and args[option] != parser.get_default(option):
            parser.error(f"--{option} works only {what} --sample")


def search_options(parser: Parser, args: Any, kind: type[K]) -> K:
    """The options that were asked for; what is refused is an error of the command line."""
    from dataclasses import fields

    try:
        return kind(**{field.name: args[field.name] for field in fields(kind) if field.name in args})
    except ValueError as error:
        message = str(error).replace("--search.sample true", "--sample")
        parser.error(re.sub(r"--search\.(\w+)", lambda match: "--" + match[1].replace("_", "-"), message))
