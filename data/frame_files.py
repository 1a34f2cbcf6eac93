"""Sequences of feature frames as users have them: JSON lines or Parquet, the numbers in the record or in a file."""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from data.fields import nearest, string_field
from data.source import Frames
from data.text_files import fail_reading, read_records


@dataclass(frozen=True)
class FrameSplit:
    """Where the sequences of one split stand.

    Args:
        file: JSON lines (`.gz` as well) or Parquet (`.parquet`), a record for each sequence; "" is not given
        frames_field: the field of the frames: the name of a `.npy` file (frames x features), looked up in the folder
            of `file`, or the numbers themselves, as a list of lists
        target_field: the field of the sentence
    """

    file: str = ""
    frames_field: str = "frames"
    target_field: str = "target"


class FrameError(Exception):
    """Why something is no sequence of frames, in a few words."""


class FrameRecord(NamedTuple):
    """One sequence as it stands in the data: `given` is for `as_frames`; without a field for it, `target` is blank."""

    place: str
    given: object
    target: str


def as_frames(given: object, features: int = 0) -> Frames:
    """Any array or list of lists of real numbers (frames x features) in single precision.

    What `load_array` found to be no array is refused here, with its reason.

    Args:
        features: How many there must be; 0 is any number.

    Raises:
        FrameError: it is something else, holds no frame, or a number that is not finite.
    """
    if isinstance(given, FrameError):
        raise given
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise FrameError("its frames differ in their number of features") from error
    if not array.size:
        raise FrameError("it holds no frames")
    if array.dtype.kind not in "fiu":
        raise FrameError(f"it holds {array.dtype}, not real numbers")
    if array.ndim != 2:
        raise FrameError(f"it has the shape {array.shape}, not that of frames x features")
    if features and array.shape[1] != features:
        raise FrameError(f"it has {array.shape[1]} features in a frame, not {features}")
    with np.errstate(over="ignore"):
        frames = array.astype(np.float32, copy=False)
    finite = np.isfinite(frames).all(1)
    if not finite.all():
        raise FrameError(f"frame {finite.argmin() + 1} holds a number that is infinite, too large or not a number")
    return frames


def load_array(path: Path) -> object:
    """The array in a `.npy` file, or the FrameError that says why there is none."""
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        return FrameError(f"cannot be read ({error.strerror or error})")
    except (ValueError, EOFError, zipfile.BadZipFile):
        return FrameError("it is damaged, or no .npy file of numbers")


def read_frames(path: Path, frames_field: str, target_field: str) -> Iterator[FrameRecord]:
    """The records of a file, in order.

    Args:
        target_field: "" where no sentences are wanted.

    Raises:
        UserError: while reading, if the file is missing or damaged, or a record lacks a field or has no text there.
    """
    parquet = path.suffix.lower() == ".parquet"
    what = "row" if parquet else "line"
    for number, record in _parquet_records(path) if parquet else read_records(path):
        if frames_field not in record:
            near = nearest(frames_field, list(record))
            raise UserError(f"{path}, {what} {number}: no field {frames_field!r}.{near} Set frames_field.")
        place, given, target = f"{path.name}, {what} {number}", record[frames_field], ""
        if isinstance(given, str):
            place, given = f"{place} ({given})", load_array(path.parent / given)
        if target_field:
            target = " ".join(string_field(record, target_field, "target_field", f"{path}, {what}", number).split())
        yield FrameRecord(place, given, target)


def _parquet_records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet  # not needed by those who have .npy files

    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=64)
        yield from enumerate((record for batch in batches for record in batch.to_pylist()), 1)
    except (OSError, pyarrow.ArrowException) as error:
        fail_reading(path, error)
