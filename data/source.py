"""What encoders read: a column of sources in memory, and the batches cut from it. Here it is reversed.

A column holds the source of many pairs; `collate` makes the batch of some of them. Lengths count what a source is made
of (words, frames; an image is one thing) and always stay in host memory: packing wants them there, and reading them
back would stall a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from data.tokenizer import PAD_ID

Frames: TypeAlias = Float[np.ndarray, "_frames features"]  # of one sequence


@runtime_checkable
class Source(Protocol):
    """A batch of sources, whatever they are."""

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """How long each source is, in host memory."""
        ...

    def to(self, device: torch.device) -> "Source":
        """The same on another device."""
        ...


@runtime_checkable
class Column(Protocol):
    """The sources of many pairs."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How long each source is."""
        ...

    def collate(self, rows: npt.NDArray[np.int64], *, reverse: bool) -> Source:
        """The batch of these rows, in this order; `reverse` turns sequences round, each from its own end."""
        ...


@dataclass(frozen=True)
class TextSource:
    """Source sentences, padded on the right."""

    ids: Int[Tensor, "batch source_time"]
    lengths: Int[Tensor, " batch"]

    def to(self, device: torch.device) -> "TextSource":
        return replace(self, ids=self.ids.to(device, non_blocking=True))


@dataclass(frozen=True)
class TensorSource:
    """Sources that are tensors of one shape, such as the features of images, or their pixels."""

    values: Float[Tensor, "batch *shape"] | UInt8[Tensor, "batch *shape"]
    lengths: Int[Tensor, " batch"]

    @classmethod
    def of(cls, values: Float[Tensor, "batch *shape"] | UInt8[Tensor, "batch *shape"]) -> "TensorSource":
        """Of things that have no length."""
        return cls(values, torch.ones(len(values), dtype=torch.long))

    def to(self, device: torch.device) -> "TensorSource":
        return replace(self, values=self.values.to(device, non_blocking=True))


@dataclass(frozen=True)
class FrameSource:
    """Sequences of feature frames, padded with zeros on the right."""

    values: Float[Tensor, "batch source_time features"]
    lengths: Int[Tensor, " batch"]

    def to(self, device: torch.device) -> "FrameSource":
        return replace(self, values=self.values.to(device, non_blocking=True))


@dataclass(frozen=True)
class FrameColumn:
    """Sequences of frames (each frames x features), such as parts of a memory-mapped array."""

    sequences: Sequence[Frames]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.fromiter(map(len, self.sequences), dtype=np.int64, count=len(self.sequences))

    def collate(self, rows: npt.NDArray[np.int64], *, reverse: bool) -> FrameSource:
        chosen = [self.sequences[i] for i in rows]
        lengths = [len(frames) for frames in chosen]
        values = np.zeros((len(chosen), max(lengths), chosen[0].shape[1]), dtype=np.float32)
        for row, frames in zip(values, chosen, strict=True):
            row[: len(frames)] = frames[::-1] if reverse else frames
        return FrameSource(torch.from_numpy(values), torch.tensor(lengths))


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row i is `values[offsets[i] : offsets[i] + lengths[i]]`."""

    values: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(lengths.sum()))
        return cls(values, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def of_arrow(cls, column: Any) -> "Ragged":
        """Of a list column (pyarrow.ChunkedArray) that is taken from a table."""
        array = column.combine_chunks()
        offsets = array.offsets.to_numpy().astype(np.int64)
        return cls(array.values.to_numpy(), offsets[:-1], np.diff(offsets))

    def __len__(self) -> int:
        return len(self.lengths)

    def taken(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """The values of these rows, one after the other."""
        lengths = self.lengths[rows]
        starts = np.repeat(self.offsets[rows] - (np.cumsum(lengths) - lengths), lengths)
        return self.values[starts + np.arange(len(starts))]

    def collate(self, rows: npt.NDArray[np.int64], *, reverse: bool) -> TextSource:
        return TextSource(torch.from_numpy(self.padded(rows, reverse=reverse)), torch.from_numpy(self.lengths[rows]))

    def padded(self, rows: npt.NDArray[np.int64], *, reverse: bool) -> npt.NDArray[np.int64]:
        """(rows, longest): the rows side by side; reversed, each from its own last token (2014 paper, section 3.3)."""
        lengths, offsets = self.lengths[rows][:, None], self.offsets[rows][:, None]
        time = np.arange(int(lengths.max()))[None, :]
        where = offsets + (lengths - 1 - time if reverse else time)
        return np.where(time < lengths, self.values[np.clip(where, 0, len(self.values) - 1)], PAD_ID).astype(np.int64)
