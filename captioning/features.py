"""The features of many images, computed once: a memory-mapped half-precision array and what it was made of.

features.npy   images x views x [positions x] features, float16
features.json  the names of its rows, the images that could not be read, and the settings; written when all is done
unfinished.json  stands in its place until then, with the number of rows that are safe on the disk
"""

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from captioning.cnn import ImageNetwork, Kind, Preprocessing, fast
from captioning.images import ImageError, open_image
from data.errors import UserError
from data.files import write_text

_ARRAY, _DONE, _UNFINISHED = "features.npy", "features.json", "unfinished.json"
# larger batches leave a processor's cache between one layer and the next
_CPU_BATCH = 4
_SAVE_SECONDS = 5.0
_CROP = 7 / 8  # of height and width
_CROP_CENTRES = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))
MOST_VIEWS = 2 + 2 * len(_CROP_CENTRES)
_MOST_WORKERS = 4


@dataclass(frozen=True)
class FeatureStore:
    """
    Args:
        names: Of the images, in the order of the rows.
        failed: Why an image could not be read, by its name; its row is zeros.
        array: images x views x features, or images x views x positions x features; memory-mapped.
        settings: What the features depend on: network, weights_sha256, preprocessing, kind, views.
    """

    names: list[str]
    failed: dict[str, str]
    array: npt.NDArray[np.float16]
    settings: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "FeatureStore":
        """Raises UserError if there are no finished features at `path`, or they are damaged."""
        if (path / _UNFINISHED).exists() and not (path / _DONE).exists():
            raise UserError(f"{path}: the extraction of features was stopped before its end: run it again to go on")
        found = _read_json(path / _DONE)
        try:
            array = np.load(path / _ARRAY, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path / _ARRAY}: missing or damaged ({error}): extract the features again") from error
        if list(array.shape) != found["shape"] or array.dtype != np.float16:
            raise UserError(
                f"{path / _ARRAY}: is {array.dtype} of shape {list(array.shape)}, but {_DONE} says float16 of "
                f"{found['shape']}: the two files are not of one extraction; extract the features again"
            )
        return cls(found["names"], found["failed"], array, found["settings"])

    def __len__(self) -> int:
        return len(self.names)


def extract(
    images: Sequence[tuple[str, Path]],
    network: ImageNetwork,
    out: Path,
    *,
    kind: Kind = "pooled",
    views: int = 1,
    batch: int = 32,
    workers: int = 0,
    console: Console | None = None,
) -> FeatureStore:
    """Compute the features of images, or what is left to compute of them, on the device of `network`.

    A killed extraction goes on where it was, at most some seconds of work before; a finished one is only opened.

    Args:
        images: Names and files.
        out: Directory for the features.
        views: Of each image: 1 the plain image; 2 also its mirror image; more, crops of 7/8 of height and width at the
            corners and the centre, then mirrored.
        batch: Images that are in work at a time.
        workers: Threads that open images while the network computes; 0 for as many as there are cores, at most 4.

    Raises:
        UserError: `out` holds features of other images or settings, or cannot be written, or the disk is too small.
    """
    console = console or Console(quiet=True)
    if not images:
        raise UserError("no images to extract features of: check the folder and the list of images")
    if not 1 <= views <= MOST_VIEWS:
        raise UserError(f"views={views}: give 1 to {MOST_VIEWS}")
    names = [name for name, _ in images]
    settings = {
        "network": network.name,
        "weights_sha256": network.weights_sha256,
        "preprocessing": json.loads(json.dumps(asdict(network.preprocessing))),
        "kind": kind,
        "views": views,
    }
    if (out / _DONE).exists():
        _check_same(out, _read_json(out / _DONE), names, settings)
        (out / _UNFINISHED).unlink(missing_ok=True)  # killed between the two
        return FeatureStore.open(out)
    network = fast(network)
    progress = _begin(out, names, settings, network.shape(kind), console)
    began, done_before = time.monotonic(), progress["done"]
    with (
        _open_rows(out, progress) as file,
        Progress(console=console, disable=not console.is_terminal) as display,
        torch.inference_mode(),
    ):
        task = display.add_task("features", total=len(images), completed=done_before)
        saved = told = time.monotonic()
        for pixels, failed in _batches(images[done_before:], network.preprocessing, views, batch, workers):
            rows = compute_features(network, pixels.flatten(0, 1), kind)
            rows = rows.view(*pixels.shape[:2], *rows.shape[1:])
            first = progress["done"]
            for i, reason in failed.items():
                rows[i] = 0
                progress["failed"][names[first + i]] = reason
            _write(out, file, rows.numpy())
            progress["done"] += len(rows)
            display.update(task, completed=progress["done"])
            now = time.monotonic()
            if now - saved > _SAVE_SECONDS:
                saved = now
                _save(out, file, progress)
            if not console.is_terminal and now - told > 30:
                told = now
                console.print(f"features: {progress['done']:,} of {len(images):,} images", highlight=False)
        _save(out, file, progress)
    _finish(out, progress)
    seconds, count = time.monotonic() - began, len(images) - done_before
    _say(console, f"features: {count:,} images in {seconds:.0f} s ({count / max(seconds, 1e-9):.1f} images/s)")
    if progress["failed"]:
        _say(
            console, f"features: {len(progress['failed']):,} images could not be read; they are named in {out / _DONE}"
        )
    return FeatureStore.open(out)


def view(image: Image.Image, number: int) -> Image.Image:
    """View `number` of an image, as `extract` numbers them from 0."""
    if number < 2:
        return ImageOps.mirror(image) if number else image
    mirrored, centre = divmod(number - 2, len(_CROP_CENTRES))
    x, y = _CROP_CENTRES[centre]
    width, height = max(1, round(image.width * _CROP)), max(1, round(image.height * _CROP))
    left, top = round((image.width - width) * x), round((image.height - height) * y)
    cropped = image.crop((left, top, left + width, top + height))
    return ImageOps.mirror(cropped) if mirrored else cropped


def _open(path: Path, preprocessing: Preprocessing, views: int) -> UInt8[Tensor, "views 3 size size"] | str:
    """The pixels of all views of an image, or why there are none."""
    try:
        image = open_image(path)
    except ImageError as error:
        return str(error)
    return torch.stack([preprocessing.pixels(view(image, number)) for number in range(views)])


def _batches(
    images: Sequence[tuple[str, Path]], preprocessing: Preprocessing, views: int, batch: int, workers: int
) -> Iterator[tuple[UInt8[Tensor, "batch views 3 size size"], dict[int, str]]]:
    """Batches of images opened by threads, two batches ahead, and why some in them are blank, by their place."""
    blank = torch.zeros(views, 3, preprocessing.size, preprocessing.size, dtype=torch.uint8)
    waiting: deque[Future[UInt8[Tensor, "views 3 size size"] | str]] = deque()
    rest = iter(images)
    with ThreadPoolExecutor(workers or min(_MOST_WORKERS, os.cpu_count() or 1)) as threads:
        try:
            for start in range(0, len(images), batch):
                while len(waiting) < 2 * batch and (item := next(rest, None)):
                    waiting.append(threads.submit(_open, item[1], preprocessing, views))
                opened = [waiting.popleft().result() for _ in range(min(batch, len(images) - start))]
                failed = {i: one for i, one in enumerate(opened) if isinstance(one, str)}
                yield torch.stack([blank if isinstance(one, str) else one for one in opened]), failed
        finally:
            for future in waiting:
                future.cancel()


def compute_features(network: ImageNetwork, pixels: UInt8[Tensor, "rows 3 size size"], kind: Kind) -> Tensor:
    """Half-precision features in host memory: rows x [positions x] features."""
    device = next(network.parameters()).device
    size = _CPU_BATCH if device.type == "cpu" else max(1, len(pixels))
    parts = (pixels[i : i + size].to(device) for i in range(0, len(pixels), size))
    return torch.cat([network.read(part, kind).half().cpu() for part in parts])


def _begin(
    out: Path, names: list[str], settings: dict[str, Any], row: tuple[int, ...], console: Console
) -> dict[str, Any]:
    """What was done before; where nothing was, the size is told, and the place made."""
    shape = [len(names), settings["views"], *row]
    if (out / _UNFINISHED).exists():
        found = _read_json(out / _UNFINISHED)
        _check_same(out, found, names, settings)
        _say(console, f"features: going on after {found['done']:,} of {len(names):,} images")
        return found
    size = 2 * int(np.prod(shape, dtype=np.int64))
    shown = " x ".join(f"{n:,}" for n in shape)
    _say(console, f"features: {shown} half-precision numbers, {size / 1e6:,.1f} MB in {out / _ARRAY}")
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(
            f"{out}: the features take {size / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free there: free some space, "
            "choose another place, fewer views, or the pooled feature instead of the grid"
        )
    progress = {"names": names, "failed": {}, "settings": settings, "shape": shape, "done": 0}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / _ARRAY).open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(file, header)
    except OSError as error:
        raise _unwritable(out, error) from error
    write_text(out / _UNFINISHED, json.dumps(progress))
    return progress


def _open_rows(out: Path, progress: dict[str, Any]) -> FileIO:
    """The array's file, cut off after the rows that are done."""
    # Rows are written, not stored through a memory map: there a full disk would kill the process.
    try:
        file = (out / _ARRAY).open("r+b", buffering=0)
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        end = file.tell() + progress["done"] * 2 * int(np.prod(progress["shape"][1:], dtype=np.int64))
        if file.seek(0, os.SEEK_END) < end:
            raise ValueError(f"it ends before row {progress['done']}")
        file.truncate(end)
        file.seek(end)
    except (OSError, ValueError) as error:
        raise UserError(f"{out}: {_ARRAY} is missing or damaged ({error}): delete {out} and start again") from error
    return file


def _write(out: Path, file: FileIO, rows: npt.NDArray[np.float16]) -> None:
    try:
        left = rows.astype("<f2", copy=False).tobytes()
        while left:  # unbuffered, so that what a full disk refuses is refused here, not once more on closing
            left = left[file.write(left) :]
    except OSError as error:
        raise _unwritable(out, error) from error


def _save(out: Path, file: FileIO, progress: dict[str, Any]) -> None:
    """First the rows reach the disk, then the record that they have."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(out, error) from error
    write_text(out / _UNFINISHED, json.dumps(progress))


def _finish(out: Path, progress: dict[str, Any]) -> None:
    del progress["done"]
    write_text(out / _DONE, json.dumps(progress, indent=1, ensure_ascii=False) + "\n")
    (out / _UNFINISHED).unlink()


def _check_same(out: Path, found: dict[str, Any], names: list[str], settings: dict[str, Any]) -> None:
    """Raises UserError if the features at `out` are of something else."""
    differ = [
        f"{key} is {found['settings'].get(key)} there and {value} now"
        for key, value in settings.items()
        if found["settings"].get(key) != value
    ]
    if found["names"] != names:
        pairs = zip(found["names"], names, strict=False)
        first = next((f", the first that differs is {a!r} there and {b!r} now" for a, b in pairs if a != b), "")
        differ.append(f"its images are others: {len(found['names']):,} there and {len(names):,} now{first}")
    if differ:
        raise UserError(f"{out}: holds other features: {'; '.join(differ)}. Choose another place, or delete it")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: missing or damaged ({error}): extract the features first") from error
    if not isinstance(found, dict) or not {"names", "failed", "settings", "shape"} <= set(found):
        raise UserError(f"{path}: is no description of features: extract them again")
    return found


def _unwritable(out: Path, error: OSError) -> UserError:
    return UserError(f"{out}: cannot be written ({error.strerror or error}): free some space, or choose another place")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
