"""What the `translate` command takes to start and at most of memory, beside importing torch and nothing else."""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from scripts.benchmarks.commands import first_line, peak_memory
from scripts.benchmarks.timing import table

_SCRIPT = Path(__file__).parents[1] / "translate.py"


@dataclass(frozen=True)
class Process:
    """Of a command, round by round: seconds to its first line, and megabytes at the peak."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)


def measure_start(model: Path, lines: Sequence[str], rounds: int, threads: int) -> dict[str, Process]:
    """Start `translate` for one sentence and take the time to its translation, then the memory that all lines take.

    Raises:
        UserError: the command failed.
    """
    translate = [sys.executable, str(_SCRIPT), "--model", str(model), "--threads", str(threads)]
    torch = [sys.executable, "-c", "import torch; print(torch.__version__)"]
    found = {"translate": Process(), "import torch": Process()}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        text = Path(name) / "source.txt"
        text.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        for _ in range(rounds):
            for way, command in (("translate", translate), ("import torch", torch)):
                found[way].seconds.append(first_line(command, lines[0] + "\n"))
                whole = [*command, str(text)] if way == "translate" else command
                found[way].peak_mb.append(peak_memory(whole) / 1e6)
    return found


def render_start(found: dict[str, Process]) -> Table:
    rows = [
        {
            "process": way,
            "to the first line, s": f"{statistics.median(one.seconds):.2f}",
            "rounds": ", ".join(f"{seconds:.2f}" for seconds in one.seconds),
            "peak memory (MB)": f"{statistics.median(one.peak_mb):,.0f}",
        }
        for way, one in found.items()
    ]
    return table("Starting to translate", rows, "translate: one sentence; memory that of translating the whole file")
