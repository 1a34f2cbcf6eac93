"""Captions with their images: what batches of a captioner are cut from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioning.columns import ImageColumns
from data.corpus import PreparedCorpus
from data.errors import UserError
from data.pool import POOL_PAIRS, Pool, random_for
from data.source import Ragged


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
