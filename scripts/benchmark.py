"""Measure how fast the stages are and what memory they take, on the machine at hand."""

import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.errors import UserError
from data.text_files import read_lines
from scripts.command import Parser, run

_SAMPLE_SECONDS = 0.1
_ROUNDS = 3


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


@dataclass(frozen=True)
class FeaturesMeasurement:
    """Speed of feature extraction beside the plain way: float32, one image after the other.

    Speeds are in images per second of elapsed time, the median of several rounds in which both ways alternate;
    cpu_ratio compares the processor time of the two instead, which other processes on the machine disturb less.
    """

    network: str
    images: int
    threads: int
    plain: float
    ours: float
    ratio: float
    cpu_ratio: float
    plain_rounds: list[float]
    our_rounds: list[float]
    largest_difference: float  # between the features of the two
    hardware: str


def measure_features(folder: Path, name: str, count: int, threads: int) -> FeaturesMeasurement:
    """Extract the features of the first `count` images of a folder in both ways.

    Raises:
        UserError: there are no images, or no such network.
    """
    import numpy as np
    import torch
    from PIL import Image

    from captioning.cnn import load_network
    from captioning.features import extract

    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    if not paths:
        raise UserError(f"{folder}: no .jpg or .png files in it: choose another --images")
    torch.set_num_threads(threads)
    network = load_network(name)

    def plain() -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for path in paths:
                pixels = network.preprocessing(Image.open(path).convert("RGB"))
                rows.append(network(pixels[None])[0].numpy())
        return np.stack(rows)

    def ours() -> np.ndarray:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as out:
            images = [(path.name, path) for path in paths]
            return np.array(extract(images, network, Path(out), workers=threads).array[:, 0])

    elapsed: dict[str, list[float]] = {"plain": [], "ours": []}
    busy: dict[str, list[float]] = {"plain": [], "ours": []}
    found: dict[str, np.ndarray] = {}
    for _ in range(_ROUNDS):
        for way, run_it in (("plain", plain), ("ours", ours)):
            began, began_busy = time.perf_counter(), time.process_time()
            found[way] = run_it()
            elapsed[way].append(time.perf_counter() - began)
            busy[way].append(time.process_time() - began_busy)
    median = {way: statistics.median(seconds) for way, seconds in elapsed.items()}
    return FeaturesMeasurement(
        network=name,
        images=len(paths),
        threads=threads,
        plain=len(paths) / median["plain"],
        ours=len(paths) / median["ours"],
        ratio=median["plain"] / median["ours"],
        cpu_ratio=statistics.median(busy["plain"]) / statistics.median(busy["ours"]),
        plain_rounds=[len(paths) / seconds for seconds in elapsed["plain"]],
        our_rounds=[len(paths) / seconds for seconds in elapsed["ours"]],
        largest_difference=float(np.abs(found["plain"] - found["ours"]).max()),
        hardware=hardware(),
    )


@dataclass(frozen=True)
class ColdMeasurement:
    """Seconds from starting the `caption` command to its end, for one image, and those of importing torch alone.

    Medians of several rounds in which the two alternate; processor time is that of all threads.
    """

    seconds: float
    cpu_seconds: float
    torch_seconds: float
    torch_cpu_seconds: float
    rounds: int
    hardware: str


def measure_cold(model: Path, image: Path) -> ColdMeasurement:
    """Caption one image in a process of its own.

    Raises:
        UserError: the command failed.
    """
    caption = [sys.executable, str(Path(__file__).with_name("caption.py")), "--model", str(model), str(image)]
    commands = {"caption": caption, "torch": [sys.executable, "-c", "import torch"]}
    elapsed: dict[str, list[float]] = {name: [] for name in commands}
    busy: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_ROUNDS):
        for name, command in commands.items():
            began, before = time.perf_counter(), os.times()
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                raise UserError(f"the command failed: {made.stderr.strip()}")
            after = os.times()
            elapsed[name].append(time.perf_counter() - began)
            busy[name].append(sum(after[2:4]) - sum(before[2:4]))  # user and system time of finished children
    (seconds, torch_seconds), (cpu, torch_cpu) = (
        (statistics.median(each["caption"]), statistics.median(each["torch"])) for each in (elapsed, busy)
    )
    return ColdMeasurement(seconds, cpu, torch_seconds, torch_cpu, _ROUNDS, hardware())


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
    prepare = Parser(
        "benchmark.py prepare",
        "Prepare a corpus of repeated sentence pairs; print pairs per second and the peak memory of all processes.",
        "benchmark.py prepare --pairs 2000000 --data DIR [--json OUT]",
    )
    prepare.add_argument("--pairs", type=int, default=2_000_000, help="Sentence pairs to prepare.")
    prepare.add_argument("--data", type=Path, required=True, help="Folder that holds fra.txt (TSV).")
    prepare.add_argument("--json", type=Path | None, help="File to write the measurement to.")
    features = Parser(
        "benchmark.py features",
        "Extract image features, and alternately compute them one image at a time; print the speed of both.",
        "benchmark.py features --images DIR [--network NAME] [--count 200] [--threads 1] [--json OUT]",
    )
    features.add_argument("--images", type=Path, required=True, help="Folder of images.")
    features.add_argument("--network", type=str, default="efficientnet_lite2", help="Image network.")
    features.add_argument("--count", type=int, default=200, help="Images to use.")
    features.add_argument("--threads", type=int, default=1, help="Threads that compute, and that open images.")
    features.add_argument("--json", type=Path | None, help="File to write the measurement to.")
    cold = Parser(
        "benchmark.py cold",
        "Caption one image from a cold start, beside importing torch and nothing else; print the seconds of both.",
        "benchmark.py cold --model RUN/model --image FILE [--json OUT]",
    )
    cold.add_argument("--model", type=Path, required=True, help="Model directory of a captioner.")
    cold.add_argument("--image", type=Path, required=True, help="Image to caption.")
    cold.add_argument("--json", type=Path | None, help="File to write the measurement to.")
    parser = Parser("benchmark.py", "Measure speed and memory.", "benchmark.py prepare|features|cold")
    commands = parser.add_subcommands(dest="what")
    for name, command in (("prepare", prepare), ("features", features), ("cold", cold)):
        commands.add_subcommand(name, command)
        command.prog = f"benchmark.py {name}"  # a subcommand gets the whole usage of its parent put before its name
    read = parser.read()
    if read.what == "prepare":
        options = read.prepare
        if options.pairs < 1:
            prepare.error(f"--pairs {options.pairs}: give 1 or more")
        prepared = measure_prepare(options.pairs, options.data / "fra.txt")
        figures = {
            "pairs": f"{prepared.pairs:,}",
            "seconds": f"{prepared.seconds:.1f}",
            "pairs/s": f"{prepared.pairs_per_second:,.0f}",
            "peak memory (MB)": f"{prepared.peak_mb:,.0f}",
        }
        _tell(figures, prepared, options.json)
    elif read.what == "cold":
        options = read.cold
        started = measure_cold(options.model, options.image)
        figures = {
            "caption, s": f"{started.seconds:.2f}",
            "processor time": f"{started.cpu_seconds:.2f}",
            "import torch, s": f"{started.torch_seconds:.2f}",
            "its processor time": f"{started.torch_cpu_seconds:.2f}",
        }
        _tell(figures, started, options.json)
    else:
        options = read.features
        for name in ("count", "threads"):
            if options[name] < 1:
                features.error(f"--{name} {options[name]}: give 1 or more")
        extracted = measure_features(options.images, options.network, options.count, options.threads)
        figures = {
            "images": f"{extracted.images:,}",
            "plain loop, images/s": f"{extracted.plain:.1f}",
            "extraction, images/s": f"{extracted.ours:.1f}",
            "ratio": f"{extracted.ratio:.2f}",
            "ratio of CPU time": f"{extracted.cpu_ratio:.2f}",
            "largest difference": f"{extracted.largest_difference:.4f}",
        }
        _tell(figures, extracted, options.json)


def _tell(
    figures: dict[str, str], found: PrepareMeasurement | FeaturesMeasurement | ColdMeasurement, json_path: Path | None
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*figures, caption=found.hardware, caption_justify="left")
    table.add_row(*figures.values())
    Console().print(table)
    if json_path:
        try:
            json_path.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{json_path}: cannot be written ({error.strerror}): choose another --json") from error


if __name__ == "__main__":
    run("benchmark.py", benchmark)
