"""How fast a large corpus is prepared, and what memory it takes."""

import itertools
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from data.errors import UserError
from data.text_files import read_lines
from scripts.benchmarks.timing import table

_SCRIPT = Path(__file__).parents[1] / "prepare_translation.py"
_PLAIN = Path(__file__).parent / "plain_prepare.py"
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class PrepareMeasurement:
    """What preparing a corpus took, round by round, in our way and in that of tutorials.

    seconds: from starting the command to its end; ours also cleans, checks, splits and writes what it prepares
    peak_mb: the proportional share of memory of all its processes together
    """

    pairs: int
    workers: int
    seconds: dict[str, list[float]]
    peak_mb: dict[str, list[float]]


def measure_prepare(pairs: int, corpus: Path, rounds: int, workers: int) -> PrepareMeasurement:
    """Prepare `pairs` lines of a TSV file, repeated as often as that takes, with scripts/prepare_translation.py.

    Raises:
        UserError: the file cannot be read, or the command failed.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        with (folder / "train.tsv").open("w", encoding="utf-8", newline="\n") as file:
            left = pairs
            while left > 0:
                for line in itertools.islice(read_lines(corpus), left):
                    file.write(line + "\n")
                    left -= 1
        ours = [sys.executable, str(_SCRIPT), "--workers", str(workers)]
        ours += ["--train.files", str(folder / "train.tsv"), "--target.language", "fr"]
        ours += ["--holdout.valid", "1000", "--holdout.test", "1000", "--out", str(folder / "prepared")]
        plain = [sys.executable, str(_PLAIN), str(folder / "train.tsv"), "fr"]
        ways = {"the prepare stage": ours, "plain, one process": plain}
        found = PrepareMeasurement(pairs, workers, {way: [] for way in ways}, {way: [] for way in ways})
        for _ in range(rounds):
            for way, command in ways.items():
                began = time.perf_counter()
                found.peak_mb[way].append(_peak_memory(command) / 1e6)
                found.seconds[way].append(time.perf_counter() - began)
            shutil.rmtree(folder / "prepared")
    return found


def _peak_memory(command: Sequence[str]) -> int:
    """Run a command; the most bytes that it and the processes it starts held at one time."""
    try:
        import psutil
    except ImportError as error:
        raise UserError("measuring memory needs psutil: pip install psutil") from error

    peak = 0
    with tempfile.TemporaryFile() as messages:
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        try:
            while process.poll() is None:
                held = 0
                for one in [process, *process.children(recursive=True)]:
                    try:
                        memory = one.memory_full_info()
                    except psutil.NoSuchProcess:
                        continue
                    held += getattr(memory, "pss", memory.rss)  # shared pages are counted once where PSS is known
                peak = max(peak, held)
                time.sleep(_SAMPLE_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
        if process.returncode:
            messages.seek(0)
            raise UserError(f"the command failed: {messages.read().decode(errors='replace').strip()}")
    return peak


def render(found: PrepareMeasurement) -> Table:
    rows = [
        {
            "way": way,
            "seconds": f"{statistics.median(seconds):.1f}",
            "rounds": ", ".join(f"{each:.1f}" for each in seconds),
            "pairs/s": f"{found.pairs / statistics.median(seconds):,.0f}",
            "peak memory (MB)": f"{max(found.peak_mb[way]):,.0f}",
        }
        for way, seconds in found.seconds.items()
    ]
    return table(f"Preparing {found.pairs:,} pairs, {found.workers} worker(s)", rows)
