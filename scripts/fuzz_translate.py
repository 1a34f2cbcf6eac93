"""Experiment: does `translate` give one line for every line, whatever the lines hold?"""

import random
import subprocess
import sys
from pathlib import Path

from data.errors import UserError
from scripts.command import Parser, run


def fuzz() -> int:
    from jsonargparse.typing import PositiveInt

    parser = Parser(
        "fuzz_translate.py",
        "Feed random lines of every kind to the translate command and count what comes back.",
        "fuzz_translate.py --model DIR",
    )
    parser.add_argument("--model", type=Path, required=True, help="Model directory.")
    parser.add_argument("--source", type=Path | None, help="Text to take real sentences from, to be damaged.")
    parser.add_argument("--lines", type=PositiveInt, default=10_000, help="How many lines.")
    parser.add_argument("--seed", type=int, default=1, help="Decides the lines.")
    options = parser.read()

    draw = random.Random(options.seed)
    try:
        real = options.source.read_bytes().split(b"\n") if options.source else [b"a dog runs .", b"ein Hund"]
    except OSError as error:
        raise UserError(f"{options.source}: cannot be read ({error.strerror}): choose another --source") from error
    lines = [random_line(draw, real) for _ in range(options.lines)]
    command = [sys.executable, str(Path(__file__).with_name("translate.py")), "--model", str(options.model)]
    done = subprocess.run(
        [*command, "--beam", "1"], input=b"".join(line + b"\n" for line in lines), capture_output=True
    )
    out = done.stdout.count(b"\n")
    crashed = done.returncode != 0 or b"Traceback" in done.stderr
    print(f"{len(lines):,} lines in, {out:,} lines out, exit code {done.returncode}, {'' if crashed else 'no '}crash")
    print(done.stderr.decode(errors="replace")[-2000:], file=sys.stderr)
    return int(crashed or out != len(lines))


def random_line(draw: random.Random, real: list[bytes]) -> bytes:
    """One line of bytes without LF: blank, damaged text, any bytes, any characters, or something enormous."""
    kind = draw.randrange(6) if draw.random() < 0.999 else 6
    text = draw.choice(real)
    match kind:
        case 0:
            line = draw.choice(
                [b"", b" ", b"\t", b"\r", b"\x00", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\xa0", b"\xff"]
            )
        case 1:
            line = bytes(draw.randrange(256) for _ in range(draw.randrange(60)))
        case 2:
            characters = (chr(draw.randrange(0x110000)) for _ in range(draw.randrange(40)))
            line = "".join(characters).encode("utf-8", errors="replace")
        case 3:
            where = draw.randrange(len(text) + 1)
            line = text[:where] + bytes([draw.randrange(256)]) + text[where + 1 :]
        case 4:
            line = bytes(draw.choice(b"\x00\x01\x07\x08\x0b\x0c\r\x1b\x7f\t a.") for _ in range(draw.randrange(50)))
        case 5:
            line = text
        case _:
            line = draw.choice([b"x" * 100_000, b"a " * 50_000, b"\xf0\x9f\x90\x95" * 25_000, b"\xff" * 100_000])
    return line.replace(b"\n", b" ")


if __name__ == "__main__":
    run("fuzz_translate.py", fuzz)
