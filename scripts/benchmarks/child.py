"""Run a command in a process of its own and say what it took.

This file is also a program, which `run` starts and which starts the command: a process begins with the peak memory of
the one that started it, so beside one that has imported torch nothing would seem to need less than that. Nothing large
is imported here.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


class FailureError(Exception):
    """A command failed; the text is what it said last."""


@dataclass(frozen=True)
class Command:
    """A process to start.

    stdin: what it reads on standard input, if anything
    stdout: where its standard output goes, if that is its result; else to its log
    place: its working directory; by default the one for its results
    threads: by how many threads each of its own may compute; 0 is all it is given
    """

    arguments: list[str]
    stdin: Path | None = None
    stdout: Path | None = None
    place: Path | None = None
    threads: int = 0


@dataclass(frozen=True)
class Ran:
    """What a command took (elapsed seconds, most memory in MB), and what it said."""

    seconds: float
    peak_mb: float
    log: str


def run(command: Command, threads: int, out: Path) -> Ran:
    """Run a command to its end with so many threads, its log in the folder `out`; raises FailureError if it fails."""
    log, said = out / "log", command.stdout or out / "said"
    given = [command.stdin or os.devnull, said, log, *command.arguments]
    done = subprocess.run(
        [sys.executable, "-S", __file__, *map(str, given)],
        stdout=subprocess.PIPE,
        check=True,
        env=environment(command.threads or threads),
        cwd=command.place or out,
    )
    found = json.loads(done.stdout)
    text = log.read_text(encoding="utf-8", errors="replace")
    if not command.stdout:
        text = said.read_text(encoding="utf-8", errors="replace") + text
    if found["code"]:
        raise FailureError(f"exit code {found['code']}: {last_line(text)}")
    return Ran(found["seconds"], found["peak_mb"], text)


def environment(threads: int) -> dict[str, str]:
    """The variables of a process that computes on the processor with so many threads."""
    # how threads wait is set for our own commands (scripts/command.py); others are to have their own way
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "PYTHONPATH")}
    return kept | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}


def last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _main() -> None:
    """Print the exit code, elapsed seconds and the peak memory (MB) of a command as JSON."""
    given, written, log, *command = sys.argv[1:]
    with Path(given).open("rb") as stdin, Path(written).open("wb") as stdout, Path(log).open("wb") as stderr:
        began = time.perf_counter()
        code = subprocess.run(command, stdin=stdin, stdout=stdout, stderr=stderr, check=False).returncode
        seconds = time.perf_counter() - began
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes on Linux
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    print(json.dumps({"code": code, "seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    _main()
