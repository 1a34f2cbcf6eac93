"""How fast images become features, and what one caption takes from a cold start."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from captioning.cnn import load_network
from captioning.features import extract
from data.errors import UserError
from scripts.benchmarks.timing import alternate, table

_SCRIPT = Path(__file__).parents[1] / "caption.py"


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


def measure_features(folder: Path, name: str, count: int, rounds: int, threads: int) -> FeaturesMeasurement:
    """Extract the features of the first `count` images of a folder in both ways.

    Raises:
        UserError: there are no images, or no such network.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    if not paths:
        raise UserError(f"{folder}: no .jpg or .png files in it: choose another --images")
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

    found: dict[str, np.ndarray] = {}
    timings = alternate(
        {"plain": lambda: found.update(plain=plain()), "ours": lambda: found.update(ours=ours())}, rounds, warm=False
    )
    return FeaturesMeasurement(
        network=name,
        images=len(paths),
        threads=threads,
        plain=len(paths) / timings["plain"].seconds,
        ours=len(paths) / timings["ours"].seconds,
        ratio=timings["plain"].seconds / timings["ours"].seconds,
        cpu_ratio=statistics.median(timings["plain"].busy) / statistics.median(timings["ours"].busy),
        plain_rounds=[len(paths) / seconds for seconds in timings["plain"].elapsed],
        our_rounds=[len(paths) / seconds for seconds in timings["ours"].elapsed],
        largest_difference=float(np.abs(found["plain"] - found["ours"]).max()),
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


def measure_cold(model: Path, image: Path, rounds: int) -> ColdMeasurement:
    """Caption one image in a process of its own.

    Raises:
        UserError: the command failed.
    """
    caption = [sys.executable, str(_SCRIPT), "--model", str(model), str(image)]
    commands = {"caption": caption, "torch": [sys.executable, "-c", "import torch"]}
    elapsed: dict[str, list[float]] = {name: [] for name in commands}
    busy: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
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
    return ColdMeasurement(seconds, cpu, torch_seconds, torch_cpu, rounds)


def render_features(found: FeaturesMeasurement) -> Table:
    row = {
        "images": f"{found.images:,}",
        "plain loop, images/s": f"{found.plain:.1f}",
        "extraction, images/s": f"{found.ours:.1f}",
        "ratio": f"{found.ratio:.2f}",
        "ratio of processor time": f"{found.cpu_ratio:.2f}",
        "largest difference": f"{found.largest_difference:.4f}",
    }
    return table(f"Features of {found.network}", [row])


def render_cold(found: ColdMeasurement) -> Table:
    row = {
        "caption, s": f"{found.seconds:.2f}",
        "processor time": f"{found.cpu_seconds:.2f}",
        "import torch, s": f"{found.torch_seconds:.2f}",
        "its processor time": f"{found.torch_cpu_seconds:.2f}",
    }
    return table("One caption from a cold start", [row])
