"""Measure how fast the stages are and what memory they take, on the machine at hand."""

import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.errors import UserError
from data.readers import read_lines
from scripts.command import Parser, run

_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class PrepareMeasurement:
    """What preparing a corpus took; peak_mb sums the proportional share of memory of all its processes."""

    pairs: int
    seconds: float
    pairs_per_second: float
    peak_mb: float
    hardware: str


def measure_prepare(pairs: int, corpus: Path) -> PrepareMeasurement:
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
        command = [sys.executable, str(Path(__file__).with_name("prepare_translation.py"))]
        command += ["--train.files", str(folder / "train.tsv"), "--target.language", "fr"]
        command += ["--holdout.valid", "1000", "--holdout.test", "1000", "--out", str(folder / "prepared")]
        peak = _peak_memory(command)
        report = json.loads((folder / "prepared" / "report.json").read_text(encoding="utf-8"))
    return PrepareMeasurement(pairs, report["seconds"], report["pairs_per_second"], peak / 1e6, hardware())


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


def hardware() -> str:
    """The machine and the software that a measurement depends on, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = (line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line)
        model = next(names, model)
    torch = importlib.metadata.version("torch")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch}"


def benchmark() -> None:
    from rich.console import Console
    from rich.table import Table

    prepare = Parser(
        "benchmark.py prepare",
        "Prepare a corpus of repeated sentence pairs; print pairs per second and the peak memory of all processes.",
        "benchmark.py prepare --pairs 2000000 --data DIR [--json OUT]",
    )
    prepare.add_argument("--pairs", type=int, default=2_000_000, help="Sentence pairs to prepare.")
    prepare.add_argument("--data", type=Path, required=True, help="Folder that holds fra.txt (TSV).")
    prepare.add_argument("--json", type=Path | None, help="File to write the measurement to.")
    parser = Parser("benchmark.py", "Measure speed and memory.", "benchmark.py prepare")
    parser.add_subcommands(dest="what").add_subcommand("prepare", prepare)
    prepare.prog = "benchmark.py prepare"  # a subcommand gets the whole usage of its parent put before its name
    options = parser.read().prepare
    if options.pairs < 1:
        prepare.error(f"--pairs {options.pairs}: give 1 or more")
    found = measure_prepare(options.pairs, options.data / "fra.txt")
    table = Table("pairs", "seconds", "pairs/s", "peak memory (MB)", caption=found.hardware, caption_justify="left")
    table.add_row(f"{found.pairs:,}", f"{found.seconds:.1f}", f"{found.pairs_per_second:,.0f}", f"{found.peak_mb:,.0f}")
    Console().print(table)
    if options.json:
        try:
            options.json.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{options.json}: cannot be written ({error.strerror}): choose another --json") from error


if __name__ == "__main__":
    run("benchmark.py", benchmark)
