"""Times of several ways to do the same, taken in turn, and where they were taken."""

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from data.errors import UserError

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds that each round took: elapsed, and of the processor, which other processes disturb less."""

    elapsed: list[float]
    busy: list[float]

    @property
    def seconds(self) -> float:
        """The median of the elapsed ones."""
        return statistics.median(self.elapsed)

    @property
    def spread(self) -> float:
        """From the fastest to the slowest round, as a share of the median."""
        return (max(self.elapsed) - min(self.elapsed)) / self.seconds


def alternate(ways: Mapping[K, Callable[[], object]], rounds: int, *, warm: bool = True) -> dict[K, Timing]:
    """Do everything in turn, as often as there are rounds.

    Args:
        warm: Do each once before, untimed.
    """
    timings: dict[K, Timing] = {name: Timing([], []) for name in ways}
    if warm:
        for way in ways.values():
            way()
    for _ in range(rounds):
        for name, way in ways.items():
            began, busy = time.perf_counter(), time.process_time()
            way()
            timings[name].elapsed.append(time.perf_counter() - began)
            timings[name].busy.append(time.process_time() - busy)
    return timings


def hardware() -> str:
    """The machine and the software that a measurement depends on, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = (line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
        model = next(names, model)
    torch = importlib.metadata.version("torch")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch}"


def table(title: str, rows: list[dict[str, str]], caption: str = "") -> Table:
    """Rows that share their columns, for a terminal."""
    made = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for name in rows[0]:
        made.add_column(name, justify="left" if name == next(iter(rows[0])) else "right")
    for row in rows:
        made.add_row(*row.values())
    return made


def write_json(path: Path | None, found: Mapping[str, Any]) -> None:
    """Raises UserError if the file cannot be written."""
    if path is None:
        return
    try:
        path.write_text(json.dumps({**found, "hardware": hardware()}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): choose another --json") from error
