"""Short Python programs and what they print (Zaremba and Sutskever 2014, "Learning to Execute", section 3).

A program is one line of text: `;` stands for a line end, which makes it valid Python. Two numbers say how hard it is:
its integers have up to `length` digits, and `nesting` operations are applied one around the other. What the model is to
write is what Python prints when it runs the program.
"""

import random
import string
import zlib
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Literal

from data.tasks import TRIES, Example, write_examples

Curriculum = Literal["baseline", "naive", "mix", "combined"]
NAMES = string.ascii_lowercase.replace("x", "")  # of variables; x counts the rounds of loops
_PARTS = 10  # into which sources fall; two of them are held out


def run_program(source: str) -> str:
    """What a program prints, found by running it; it can reach nothing but `range` and `print`.

    Raises:
        ValueError: it is no valid program, or does anything else.
    """
    printed: list[str] = []
    try:
        code: CodeType = compile(source.replace(";", "\n"), "program", "exec")
        exec(code, {"__builtins__": {"range": range, "print": lambda value: printed.append(str(value))}})
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
    expression = _integer(rng, length)
    for name in rng.sample(NAMES, nesting):
        before, expression = rng.choice(_OPERATIONS)(rng, length, expression, name)
        statements += before
    return ";".join([*statements, f"print({expression})"])


def _integer(rng: random.Random, length: int) -> str:
    return str(rng.randint(1, 10**length - 1))


def _small(rng: random.Random, length: int) -> int:
    return rng.randint(1, 4 * length)


def _operands(rng: random.Random, length: int, expression: str, count: int) -> list[str]:
    """The expression among fresh integers, in any place."""
    operands = [expression, *(_integer(rng, length) for _ in range(count - 1))]
    rng.shuffle(operands)
    return operands


# Each is given an expression and an unused name; it returns statements to run first, and the new expression.
def _pair(rng: random.Random, length: int, expression: str, name: str) -> tuple[list[str], str]:
    one, other = _operands(rng, length, expression, 2)
    return [], f"({one}{rng.choice('+-')}{other})"


def _product(rng: random.Random, length: int, expression: str, name: str) -> tuple[list[str], str]:
    operands = [expression, str(_small(rng, length))]
    rng.shuffle(operands)
    return [], f"({'*'.join(operands)})"


def _assignment(rng: random.Random, length: int, expression: str, name: str) -> tuple[list[str], str]:
    value, other = _operands(rng, length, expression, 2)
    return [f"{name}={value}"], f"({name}{rng.choice('+-')}{other})"


def _loop(rng: random.Random, length: int, expression: str, name: str) -> tuple[list[str], str]:
    start, change = _operands(rng, length, expression, 2)
    return [f"{name}={start}", f"for x in range({_small(rng, length)}):{name}{rng.choice('+-')}={change}"], name


def _choice(rng: random.Random, length: int, expression: str, name: str) -> tuple[list[str], str]:
    one, other, left, right = _operands(rng, length, expression, 4)
    return [], f"({one} if {left}{rng.choice('<>')}{right} else {other})"


_OPERATIONS: tuple[Callable[[random.Random, int, str, str], tuple[list[str], str]], ...] = (
    _pair, _product, _assignment, _loop, _choice,
)  # fmt: skip


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
