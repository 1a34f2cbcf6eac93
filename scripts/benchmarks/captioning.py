"""How fast images become features, and captions, and what one caption takes from a cold start."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Group

from captioning.captioner import Captioner, ImageCaption
from captioning.cnn import load_network
from captioning.features import extract
from captioning.inputs import batches, pools
from captioning.outputs import Captioned, caption_batches
from data.errors import UserError
from nmt.search_options import SearchOptions
from scripts.benchmarks.plain import PlainCaptioner
from scripts.benchmarks.timing import Timing, alternate, table

_BATCH = 32  # images, as in the `caption` command
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


def measure_features(paths: Sequence[Path], name: str, rounds: int, threads: int) -> FeaturesMeasurement:
    """Extract the features of images in both ways; raises UserError if there is no such network."""
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
class CaptionSpeed:
    """Captioning a folder as the `caption` command does, from files to text, the model being loaded.

    The plain loop takes one image after the other through the same network in float32, and then writes as many words
    as our greedy captions have, word by word, with a model of the same sizes but without attention.
    """

    images: int
    threads: int
    plain: Timing
    greedy: Timing
    beam: Timing

    @property
    def rates(self) -> dict[str, float]:
        """Images a second."""
        ways = {"plain loop, greedy": self.plain, "greedy": self.greedy, "beam 5": self.beam}
        return {way: self.images / timing.seconds for way, timing in ways.items()}


def measure_captions(captioner: Captioner, paths: Sequence[Path], rounds: int, threads: int) -> CaptionSpeed:
    """Caption images in both ways.

    Raises:
        UserError: an image cannot be read.
    """
    trained = captioner.models[0]
    config = trained.model.config
    network = load_network(trained.config["network"]["name"])
    plain = PlainCaptioner(network.features, len(trained.target), config.embedding, config.hidden, config.layers).eval()

    def ours(beam: int) -> list[Captioned]:
        def caption(images: list[Path], first: int) -> list[ImageCaption]:
            return captioner.caption(images, SearchOptions(beam=beam), first_image=first)

        images = batches(pools([str(path) for path in paths], []), _BATCH)
        return [one for batch in caption_batches(caption, images) for one in batch]

    written = captioner.caption(paths, SearchOptions(beam=1))
    for path, one in zip(paths, written, strict=True):
        if one.error is not None:
            raise UserError(f"{path}: {one.error}: leave it out of --images")
    lengths = [len(one.hypotheses[0].tokens) for one in written]

    def plainly() -> None:
        with torch.inference_mode():
            for path, length in zip(paths, lengths, strict=True):
                pixels = network.preprocessing(Image.open(path).convert("RGB"))
                plain.greedy(network(pixels[None]), length + 1)

    timings = alternate({"plain": plainly, "greedy": lambda: ours(1), "beam": lambda: ours(5)}, rounds, warm=False)
    return CaptionSpeed(len(paths), threads, **timings)


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


@dataclass(frozen=True)
class CaptionMeasurement:
    features: FeaturesMeasurement
    captions: CaptionSpeed
    cold: ColdMeasurement


def measure_captioning(model: Path, folder: Path, count: int, rounds: int, threads: int) -> CaptionMeasurement:
    """Measure all of it on the first `count` images of a folder, one that starts cold being the first.

    Raises:
        UserError: there are no images, one cannot be read, or the model is none.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    if not paths:
        raise UserError(f"{folder}: no .jpg or .png files in it: choose another --images")
    captioner = Captioner.load(model, torch.device("cpu"))  # as the plain loop
    name = captioner.models[0].config["network"]["name"]
    return CaptionMeasurement(
        measure_features(paths, name, rounds, threads),
        measure_captions(captioner, paths, rounds, threads),
        measure_cold(model, paths[0], rounds),
    )


def render(found: CaptionMeasurement) -> Group:
    features, captions, cold = found.features, found.captions, found.cold
    feature_row = {
        "images": f"{features.images:,}",
        "plain loop, images/s": f"{features.plain:.1f}",
        "extraction, images/s": f"{features.ours:.1f}",
        "ratio": f"{features.ratio:.2f}",
        "ratio of processor time": f"{features.cpu_ratio:.2f}",
        "largest difference": f"{features.largest_difference:.4f}",
    }
    plain = captions.rates["plain loop, greedy"]
    spreads = (captions.plain.spread, captions.greedy.spread, captions.beam.spread)
    caption_rows = [
        {
            "way": way,
            "images/s": f"{rate:.1f}",
            "spread of the rounds": f"{spread:.0%}",
            "times the plain loop": f"{rate / plain:.2f}",
        }
        for (way, rate), spread in zip(captions.rates.items(), spreads, strict=True)
    ]
    cold_row = {
        "caption, s": f"{cold.seconds:.2f}",
        "processor time": f"{cold.cpu_seconds:.2f}",
        "import torch, s": f"{cold.torch_seconds:.2f}",
        "its processor time": f"{cold.torch_cpu_seconds:.2f}",
    }
    return Group(
        table(f"Features of {features.network}", [feature_row]),
        table(f"Captioning {captions.images:,} images, from files to text", caption_rows),
        table("One caption from a cold start", [cold_row]),
    )
