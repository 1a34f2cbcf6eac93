"""What an evaluation captioned, kept beside its scores: caption and references of each image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioning.corpus import SplitImage
from data.captions import CaptionedImage
from data.errors import UserError
from data.files import write_text
from data.text_files import read_records


@dataclass(frozen=True)
class Captioned:
    """An image that a model was scored on, with its caption and those of people."""

    name: str
    path: Path
    caption: str
    references: list[str]


def write_captioned(path: Path, images: Sequence[SplitImage | CaptionedImage], captions: Sequence[str]) -> None:
    """Write JSON lines for `read_captioned`."""
    records = (
        {"image": one.name, "path": str(one.path.resolve()), "caption": text, "references": list(one.captions)}
        for one, text in zip(images, captions, strict=True)
    )
    write_text(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))


def read_captioned(path: Path) -> list[Captioned]:
    """Raises UserError if the file is missing, or is another."""
    try:
        return [
            Captioned(record["image"], Path(record["path"]), record["caption"], record["references"])
            for _, record in read_records(path)
        ]
    except KeyError as error:
        raise UserError(f"{path}: has no {error}: evaluate the model again") from error
