"""The images of a prepared split, with their captions."""

import json
from dataclasses import dataclass
from pathlib import Path

from data.errors import UserError


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
