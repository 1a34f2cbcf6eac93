"""Captions with their images: what batches of a captioner are cut from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from captioning.cnn import Preprocessing
from captioning.images import ImageError, open_image
from data.corpus import PreparedCorpus
from data.errors import UserError
from data.pool import POOL_PAIRS, Pool, random_for
from data.source import Column, Ragged, TensorSource


@dataclass(frozen=True)
class FeatureColumn:
    """Images as features that are there already.

    Args:
        array: (images, views, features), memory-mapped or not.
        images: Which image each source is.
        views: Which view of it.
    """

    array: npt.NDArray[np.floating]
    images: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]

    @classmethod
    def plain(cls, array: npt.NDArray[np.floating], images: npt.NDArray[np.int64] | None = None) -> "FeatureColumn":
        """The images themselves, without a turn or crop."""
        images = np.arange(len(array)) if images is None else images
        return cls(array, images, np.zeros_like(images))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.ones_like(self.images)

    def collate(self, rows: npt.NDArray[np.int64], *, reverse: bool) -> TensorSource:
        del reverse  # an image has no order
        values = self.array[self.images[rows], self.views[rows]].astype(np.float32)
        return TensorSource.of(torch.from_numpy(values))


@dataclass(frozen=True)
class PixelColumn:
    """Images as files, opened when a batch is made: for training the CNN as well."""

    paths: list[Path]
    images: npt.NDArray[np.int64]
    preprocessing: Preprocessing

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.ones_like(self.images)

    def collate(self, rows: npt.NDArray[np.int64], *, reverse: bool) -> TensorSource:
        """Raises UserError if an image can no longer be read."""
        del reverse
        pixels = []
        for path in (self.paths[i] for i in self.images[rows]):
            try:
                pixels.append(self.preprocessing.pixels(open_image(path)))
            except ImageError as error:
                raise UserError(f"{path}: {error}: it could be read when the data was prepared; restore it") from error
        return TensorSource.of(torch.stack(pixels))


@runtime_checkable
class ImageColumns(Protocol):
    """How the images of some captions are to be read."""

    def __call__(self, images: npt.NDArray[np.int64], random: np.random.Generator | None) -> Column: ...


@dataclass(frozen=True)
class Features:
    """Features from the cache: a random view of each image, or the plain one where nothing is random."""

    array: npt.NDArray[np.floating]

    def __call__(self, images: npt.NDArray[np.int64], random: np.random.Generator | None) -> Column:
        if random is None:
            return FeatureColumn.plain(self.array, images)
        return FeatureColumn(self.array, images, random.integers(self.array.shape[1], size=len(images)))


@dataclass(frozen=True)
class Pixels:
    """Pixels from the image files."""

    paths: list[Path]
    preprocessing: Preprocessing

    def __call__(self, images: npt.NDArray[np.int64], random: np.random.Generator | None) -> Column:
        del random
        return PixelColumn(self.paths, images, self.preprocessing)


class CaptionCorpus:
    """The captions of one split; an image stands as often as it has captions."""

    def __init__(self, captions: PreparedCorpus, columns: ImageColumns) -> None:
        self._captions, self._columns = captions, columns

    def __len__(self) -> int:
        return len(self._captions)

    def pools(self, seed: int, epoch: int, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All captions once, in an order that depends on nothing but (seed, epoch), and so do the views."""
        for index, pool in enumerate(self._captions.pools(seed, epoch, size)):
            yield self._with_images(pool, random_for(seed, epoch, index, 1))

    def in_order(self, size: int = POOL_PAIRS) -> Iterator[Pool]:
        """All captions as they stand in the corpus, with the plain views."""
        for pool in self._captions.in_order(size):
            yield self._with_images(pool, None)

    def _with_images(self, pool: Pool, random: np.random.Generator | None) -> Pool:
        assert isinstance(pool.source, Ragged)  # the image's row, alone
        images = pool.source.values[pool.source.offsets].astype(np.int64)
        return Pool(self._columns(images, random), pool.target, pool.rows)


@dataclass(frozen=True)
class SplitImage:
    """An image of a prepared split: its row in the feature cache, and its untouched captions."""

    name: str
    path: Path
    row: int
    captions: list[str]


def read_split(prepared: Path, name: str) -> list[SplitImage]:
    """The images of a prepared split; raises UserError if there is no such split."""
    path = prepared / "text" / f"{name}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}): run scripts/prepare_captioning.py with images for {name}"
        ) from error
    records = (json.loads(line) for line in lines)
    return [SplitImage(one["name"], Path(one["path"]), one["row"], one["captions"]) for one in records]


def write_split(path: Path, images: list[SplitImage]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for one in images:
            record = {"name": one.name, "path": str(one.path), "row": one.row, "captions": one.captions}
            file.write(json.dumps(record) + "\n")
