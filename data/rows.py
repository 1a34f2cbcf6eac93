"""Rows of the Arrow tables that the prepare stage works on."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

_PARALLEL_ROWS = 20_000  # fewer are done before another process has started


def workers(wanted: int, rows: int) -> int | None:
    """Processes worth starting for so many rows, of those wanted (0: one for each core); None is this process alone."""
    wanted = wanted or os.cpu_count() or 1
    return None if wanted == 1 or rows < _PARALLEL_ROWS else wanted


def column(rows: datasets.Dataset, name: str) -> npt.NDArray[Any]:
    # of chosen rows all at once, Arrow would make a table for each row
    batches = rows.select_columns([name]).with_format("arrow").iter(batch_size=10_000)
    return np.concatenate([batch[name].to_numpy() for batch in batches])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        # a line end inside a field of JSON would shift every later line
        file.writelines(line.replace("\n", " ") + "\n" for line in lines)
