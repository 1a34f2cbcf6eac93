"""Short Python programs and what they print (Zaremba and Sutskever 2014, "Learning to Execute", section 3).

A program is one line of text: `;` stands for a line end, which makes it valid Python. Two numbers say how hard it is:
its integers have up to `length` digits, and `nesting` operations are applied one around the other. What the model is to
write is what Python prints when it runs the program.
"""

import random
import string
import zlib
from pathlib import Path
from typing import Literal

from data.tasks import TRIES, Example, write_examples

Curriculum = Literal["baseline", "naive", "mix", "combined"]
NAMES = string.ascii_lowercase.replace("x", "")  # of variables; x counts the rounds of loops
_PARTS = 10  # into which sources fall; two of them are held out


def run_program(source: str) -> str:
    """What a program prints, found by running it; `range` and `print` are all that it is given.

    Raises:
        ValueError: it is no valid program, or does anything else.
    """
    printed: list[str] = []
    try:
        exec(
            source.replace(";", "\n"),
            {"__builtins__": {"range": range, "print": lambda value: printed.append(str(value))}},
        )
    except Exception as error:
        raise ValueError(f"the program {source!r} does not run: {error}") from error
    return "\n".join(printed)


def make_program(rng: random.Random, length: int, nesting: int) -> Example:
    """A program with integers of 1 to `length` digits and `nesting` operations; its group is "length/nesting".

    Each operation takes the expression so far as one of its operands; the others are fresh integers. An operation is
    one of five: a sum or difference, a product with a small integer, a variable that something is added to or
    subtracted from, a loop that does so several times, a choice between two values. Small integers and rounds of
    loops are 1 to 4 * length, so that what is to be computed stays linear in the length (section 3).
    """
    source = _write(rng, length, nesting)
    return Example(source, run_program(source), f"{length}/{nesting}")


def _write(rng: random.Random, length: int, nesting: int) -> str:
    statements: list[str] = []
    expression = str(rng.randint(1, 10**length - 1))
    for name in rng.sample(NAMES, nesting):
        before, expression = _operation(rng, length, expression, name)
        statements += before
    return ";".join([*statements, f"print({expression})"])


def _operation(rng: random.Random, length: int, expression: str, name: str) -> tuple[list[str], str]:
    """Statements to run first, and a new expression; `name` is a variable that is not in use."""
    kind = rng.choice(("pair", "product", "assignment", "loop", "choice"))
    small = str(rng.randint(1, 4 * length))
    fresh = [str(rng.randint(1, 10**length - 1)) for _ in range(3 if kind == "choice" else 1)]
    operands = [expression, *([small] if kind == "product" else fresh)]
    rng.shuffle(operands)
    one, other, *compared = operands
    sign = rng.choice("+-")
    match kind:
        case "pair":
            return [], f"({one}{sign}{other})"
        case "product":
            return [], f"({one}*{other})"
        case "assignment":
            return [f"{name}={one}"], f"({name}{sign}{other})"
        case "loop":
            return [f"{name}={one}", f"for x in range({small}):{name}{sign}={other}"], name
        case _:
            return [], f"({one} if {rng.choice('<>').join(compared)} else {other})"


def difficulty(curriculum: Curriculum, share: float, length: int, nesting: int, rng: random.Random) -> tuple[int, int]:
    """Length and nesting of a training example (section 4 of the paper).

    baseline: always the target's. naive: from 1 and 1 on, length grows first, then nesting by one with length back at
    1. mix: each drawn evenly up to the target's. combined: each example one of the last two, here with even odds.

    Args:
        share: How much of the training lies before the example, 0 to 1. Each step of naive has an equal share; the
            paper takes a step when validation no longer gains.
    """
    steps = [(digits, depth) for depth in range(1, nesting + 1) for digits in range(1, length + 1)]
    if curriculum == "combined":
        curriculum = rng.choice(("naive", "mix"))
    match curriculum:
        case "naive":
            return steps[int(share * len(steps))]
        case "mix":
            return rng.choice(steps)
        case _:
            return steps[-1]


def write_programs(
    folder: Path, sizes: dict[str, int], seed: int, *, curriculum: Curriculum, length: int, nesting: int
) -> None:
    """Write SPLIT.source, SPLIT.target and SPLIT.group; train stands in the order of its curriculum.

    valid and test draw length and nesting evenly up to the target's, and are the same for every curriculum. Which
    split a program may stand in follows from a checksum of its text, as in the authors' own generator: easy programs
    are few, and come again and again in train.

    Raises:
        ValueError: there are not so many different programs for valid or test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        rng = random.Random(f"{seed} {split}")
        if split == "train":
            shares = (i / size for i in range(size))
            chosen = [_drawn(rng, split, *difficulty(curriculum, share, length, nesting, rng)) for share in shares]
        else:
            chosen = _different(rng, split, size, length, nesting)
        write_examples(folder, split, [Example(source, run_program(source), group) for source, group in chosen])


def _drawn(rng: random.Random, split: str, length: int, nesting: int) -> tuple[str, str]:
    """A program that may stand in a split, and its group."""
    while True:
        source = _write(rng, length, nesting)
        if {0: "test", 1: "valid"}.get(zlib.crc32(source.encode()) % _PARTS, "train") == split:
            return source, f"{length}/{nesting}"


def _different(rng: random.Random, split: str, size: int, length: int, nesting: int) -> list[tuple[str, str]]:
    """So many programs of a split, none of which comes twice."""
    found: dict[str, str] = {}
    for _ in range(TRIES * size):
        if len(found) == size:
            break
        source, group = _drawn(rng, split, *difficulty("mix", 0.0, length, nesting, rng))
        found.setdefault(source, group)
    if len(found) < size:
        raise ValueError(
            f"learning_to_execute was asked for {size:,} programs of {split}, but only {len(found):,} came up"
        )
    return list(found.items())
