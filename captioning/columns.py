"""The images of some captions as a batch's sources: features that are there already, or pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from captioning.cnn import Preprocessing
from captioning.images import ImageError, open_image
from data.errors import UserError
from data.source import Column, TensorSource


@dataclass(frozen=True)
class FeatureColumn:
    """Images as features that are there already.

    Args:
        array: (images, views, [positions,] features), memory-mapped or not.
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

    @classmethod
    def by_view(cls, array: npt.NDArray[np.floating]) -> list["FeatureColumn"]:
        """All images, once for each view there is of them."""
        images = np.arange(len(array))
        return [cls(array, images, np.full_like(images, view)) for view in range(array.shape[1])]

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
