"""The prepare stage of frames: sequences of feature frames and their sentences to memory-mapped arrays and ids.

A prepared directory holds
    NAME.npy NAME.lengths.npy    the frames of a split, one sequence after the other, and how many each has
    standard.npy                 mean and standard deviation of each feature in train
    target.model                 tokenizer
    train/ valid/                (row of the sequence, ids of its sentence) as Arrow files, memory-mapped when read
    NAME.reference               the untouched sentences of valid and test, one a line
    NAME.left_out.txt            the records that were left out and why, if there are any
    report.json config.yaml      what was done, and with which settings
"""

import hashlib
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import yaml
from jaxtyping import Float

from data.errors import UserError
from data.files import atomic_directory
from data.frame_files import FrameError, FrameSplit, as_frames, read_frames
from data.length_ratio import length_ratio
from data.report import PrepareReport, SideReport, SplitReport, VocabularyReport, percentiles, write_report
from data.row_text import encode_rows, learn_vocabulary
from data.source import Frames
from data.text_files import fingerprint, resolve
from data.tokenizer import TokenizerConfig

_SHOWN = 3  # records named of those that are left out; all stand in a file
_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class FramePrepareConfig:
    """What the prepare stage of frames does.

    Args:
        train: The sequences to learn from.
        valid: Those that training is steered by.
        test: Those that the finished model is scored on; optional.
        text: How sentences become ids.
        max_frames: The most frames of a sequence of train and valid; longer ones are dropped and counted.
        max_length: The most tokens of a sentence; the same.
    """

    train: FrameSplit = field(default_factory=FrameSplit)
    valid: FrameSplit = field(default_factory=FrameSplit)
    test: FrameSplit = field(default_factory=FrameSplit)
    text: TokenizerConfig = field(default_factory=TokenizerConfig)
    max_frames: int = 1000
    max_length: int = 100

    def __post_init__(self) -> None:
        for name in ("max_frames", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: give 1 or more")


@dataclass
class _Split:
    """What was read of a split; `keys` tell a sequence from others."""

    lengths: list[int] = field(default_factory=list)
    read_lengths: list[int] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    blank: int = 0
    overlong: int = 0


def prepare_frames(config: FramePrepareConfig, out: Path, *, base: Path | None = None) -> PrepareReport:
    """Run the prepare stage and write the prepared directory `out`, whole or not at all.

    Args:
        base: The folder that relative file names are looked up in.

    Raises:
        UserError: a file is missing or damaged, `out` exists, or a split that is needed is empty.
    """
    started = time.monotonic()
    for name in ("train", "valid"):
        if not getattr(config, name).file:
            raise UserError(f"no sequences for {name}: give prepare.{name}.file, JSON lines or Parquet")
    with atomic_directory(out) as folder:
        found: dict[str, _Split] = {}
        features = 0
        for name in ("train", "valid", "test"):
            split: FrameSplit = getattr(config, name)
            if split.file:
                path = resolve(split.file, base)
                found[name] = _read_split(config, name, split, path, folder, features)
                features = features or np.load(folder / "train.npy", mmap_mode="r").shape[1]
        np.save(folder / "standard.npy", _standard(np.load(folder / "train.npy", mmap_mode="r")))
        report = _write_text(config, found, folder, base)
        seconds = time.monotonic() - started
        read = sum(split.read for split in report.splits.values())
        report = replace(report, seconds=seconds, pairs_per_second=read / seconds)
        write_report(report, folder / "report.json")
        settings = asdict(config) | {"base": str((base or Path()).resolve())}
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    return report


def read_sequences(prepared: Path, split: str) -> list[Frames]:
    """The sequences of a prepared split, as parts of one memory-mapped array; raises UserError if it is not there."""
    try:
        values = np.asarray(np.load(prepared / f"{split}.npy", mmap_mode="r"))
        lengths = np.load(prepared / f"{split}.lengths.npy")
    except (OSError, ValueError) as error:
        raise UserError(f"{prepared}: no prepared frames of {split} here ({error}): prepare them again") from error
    return np.split(values, np.cumsum(lengths)[:-1])


def _read_split(
    config: FramePrepareConfig, name: str, split: FrameSplit, path: Path, folder: Path, features: int
) -> _Split:
    """Write the frames of a split to one array."""
    found = _Split()
    with (folder / f"{name}.npy").open("wb") as file:
        for record in read_frames(path, split.frames_field, split.target_field):
            try:
                frames = as_frames(record.given, features)
            except FrameError as error:
                found.left_out.append(f"{record.place}: {error}")
                continue
            found.read_lengths.append(len(frames))
            if not record.target:
                found.blank += 1
            elif name != "test" and len(frames) > config.max_frames:
                found.overlong += 1
            else:
                if not found.lengths:
                    features = frames.shape[1]
                    _write_header(file, 0, features)
                file.write(frames.tobytes())
                found.lengths.append(len(frames))
                found.targets.append(record.target)
                found.keys.append(hashlib.blake2b(frames.tobytes(), digest_size=16).digest())
        if not found.lengths:
            raise UserError(
                f"{path}: no sequence of {name} is left: {len(found.left_out):,} cannot be used "
                f"({'; '.join(found.left_out[:_SHOWN])}), {found.blank:,} have no text, {found.overlong:,} have more "
                f"than {config.max_frames:,} frames. Correct them, or raise max_frames."
            )
        file.seek(0)
        _write_header(file, sum(found.lengths), features)
    np.save(folder / f"{name}.lengths.npy", np.array(found.lengths))
    if found.left_out:
        (folder / f"{name}.left_out.txt").write_text("".join(f"{why}\n" for why in found.left_out), encoding="utf-8")
    return found


def _write_header(file: BinaryIO, frames: int, features: int) -> None:
    """The header of a `.npy` file, which numpy makes as long for few frames as for many."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (frames, features)}
    np.lib.format.write_array_header_1_0(file, header)


def _standard(values: npt.NDArray[np.float32]) -> Float[np.ndarray, "2 features"]:
    """Mean and standard deviation of each feature; of one that is always the same, the deviation is 1."""
    mean = values.mean(0, dtype=np.float64)
    blocks = (values[start : start + _BLOCK_FRAMES] for start in range(0, len(values), _BLOCK_FRAMES))
    deviation = np.sqrt(sum(((block - mean) ** 2).sum(0) for block in blocks) / len(values))
    return np.stack([mean, np.where(deviation > 0, deviation, 1.0)])


def _write_text(config: FramePrepareConfig, found: dict[str, _Split], folder: Path, base: Path | None) -> PrepareReport:
    """Learn the vocabulary, write tokenizer, ids and references, and describe every split."""
    tokenizer, distinct = learn_vocabulary(found["train"].targets, config.text)
    tokenizer.save(folder / "target.model")
    splits: dict[str, SplitReport] = {}
    notes = ["the source is frames, and its tokens are frames, too"]
    train_pairs = set(zip(found["train"].keys, found["train"].targets, strict=True))
    train_keys = {key for key, _ in train_pairs}
    ratio = None
    for name, split in found.items():
        text = encode_rows(tokenizer, config.text, range(len(split.targets)), split.targets, config.max_length)
        if name != "test":
            text.save(folder / name)
        if name != "train":
            (folder / f"{name}.reference").write_text("".join(f"{t}\n" for t in split.targets), encoding="utf-8")
        else:
            lengths = np.array(split.lengths, dtype=np.int32)[text.rows]
            ratio = length_ratio(lengths, np.array([len(ids) for ids in text.ids], dtype=np.int32))
        pairs = list(zip(split.keys, split.targets, strict=True))
        given: FrameSplit = getattr(config, name)
        splits[name] = SplitReport(
            read=len(split.read_lengths) + len(split.left_out),
            kept=len(split.targets) if name == "test" else len(text.ids),
            dropped={
                "unusable": len(split.left_out),
                "blank": split.blank,
                "overlong": split.overlong + (text.dropped["overlong"] if name != "test" else 0),
            },
            truncated=0,
            source=SideReport(sum(split.read_lengths), 0, percentiles(np.array(split.read_lengths, dtype=np.int32))),
            target=text.tokens,
            duplicates=len(pairs) - len(set(pairs)),
            source_in_train=None if name == "train" else sum(key in train_keys for key in split.keys),
            pair_in_train=None if name == "train" else sum(pair in train_pairs for pair in pairs),
            fingerprints={
                given.file: fingerprint(resolve(given.file, base)),
                f"{name}.npy": fingerprint(folder / f"{name}.npy"),
            },
        )
        if split.left_out:
            some = "; ".join(split.left_out[:_SHOWN])
            notes.append(f"{name}: {len(split.left_out):,} sequences left out, see {name}.left_out.txt: {some}")
    words = VocabularyReport(tokenizer.level, len(tokenizer), distinct, 1 - splits["train"].target.unknown_rate)
    assert ratio is not None
    # few words may belong to many frames: only the longest output follows from their number
    return PrepareReport(splits, None, words, replace(ratio, low=0.0), pairs_per_second=0.0, seconds=0.0, notes=notes)
