"""How fast a large corpus is prepared, and what memory it takes."""

import itertools
import json
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
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class PrepareMeasurement:
    """What preparing a corpus took, round by round; peak_mb sums the proportional share of memory of all processes."""

    pairs: int
    seconds: list[float]
    pairs_per_second: list[float]
    peak_mb: list[float]


def measure_prepare(pairs: int, corpus: Path, rounds: int) -> PrepareMeasurement:
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
        command = [sys.executable, str(_SCRIPT)]
        command += ["--train.files", str(folder / "train.tsv"), "--target.language", "fr"]
        command += ["--holdout.valid", "1000", "--holdout.test", "1000", "--out"]
        found = PrepareMeasurement(pairs, [], [], [])
        for number in range(rounds):
            prepared = folder / f"prepared{number}"
            found.peak_mb.append(_peak_memory([*command, str(prepared)]) / 1e6)
            report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
            found.seconds.append(report["seconds"])
            found.pairs_per_second.append(report["pairs_per_second"])
            shutil.rmtree(prepared)
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
    row = {
        "pairs": f"{found.pairs:,}",
        "seconds": f"{statistics.median(found.seconds):.1f}",
        "pairs/s": f"{statistics.median(found.pairs_per_second):,.0f}",
        "rounds": ", ".join(f"{rate:,.0f}" for rate in found.pairs_per_second),
        "peak memory (MB)": f"{max(found.peak_mb):,.0f}",
    }
    return table("Preparing a corpus", [row])
