"""Captioned images from whatever Hugging Face `datasets` loads: a folder, Parquet, a name on the hub."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.caption_files import CaptionEntry, CaptionFields, entry_of_record, pick, record_captions
from data.errors import UserError
from data.fields import shorten
from data.readers import DATASET_FILES, ParallelText, load_dataset
from data.text_files import resolve

_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


def read_dataset_entries(
    name: str, config: str, splits: str, fields: CaptionFields, base: Path | None, extracted: Path | None
) -> Iterator[CaptionEntry]:
    """Read one or more splits (joined by +) of a dataset in its order, without decoding an image.

    An image stored inside the dataset is written to `extracted`, once, under a name that ends in the start of its
    SHA-256: rows that hold the same image become one image, and different images never share a name.

    Raises:
        UserError: while reading, if the dataset or a split cannot be loaded, a field is missing or holds something
            else, or images have to be written and cannot be
    """
    source = resolve(name, base)
    kind, files = name, []
    if source.is_file() and source.suffix[1:] in DATASET_FILES:
        kind, files = source.suffix[1:], [source]
    for split in splits.split("+"):
        place = f"dataset {name!r}, split {split!r}"
        number = 0
        try:
            rows = load_dataset(ParallelText(dataset_config=config or None, dataset_split=split), kind, base, files)
            for row in _undecoded(rows, fields, place):
                entry = _entry(row, fields, f"{place}, row {number + 1}", source, extracted)
                number += 1
                yield entry
        except UserError:
            raise
        except Exception as error:  # `datasets` and the libraries below it raise errors of many unrelated kinds
            raise UserError(
                f"{place}, row {number + 1}: `datasets` cannot read it: {type(error).__name__}: {error}. Check the "
                f"name (a folder is looked for at {source.absolute()}), the files, the network, and dataset_config="
                f"{config!r}."
            ) from error
        if number == 0:
            raise UserError(f"{place}: no rows in it. Check the dataset and the split.")


def _undecoded(rows: Any, fields: CaptionFields, place: str) -> Any:
    from datasets import Image  # takes seconds, which only the users of datasets should wait

    names = rows.column_names
    if names is None:
        return rows
    image = pick(names, fields.image, "image_field", place)[0]
    rows = rows.select_columns([image, *pick(names, fields.caption, "caption_field", place)])
    return rows.cast_column(image, Image(decode=False)) if isinstance(rows.features[image], Image) else rows


def _entry(
    row: dict[str, Any], fields: CaptionFields, place: str, source: Path, extracted: Path | None
) -> CaptionEntry:
    value = row[pick(list(row), fields.image, "image_field", place)[0]]
    if isinstance(value, str):
        return entry_of_record(row, fields, place)
    captions = record_captions(row, fields, place)
    if isinstance(value, bytes):
        value = {"bytes": value}
    if value is not None and not (isinstance(value, dict) and value.keys() & {"bytes", "path"}):
        raise UserError(f"{place}: the image is {shorten(value)}, not an image. Set image_field to another field.")
    data, stored = (value or {}).get("bytes"), (value or {}).get("path") or ""
    if data is None and "://" in stored:  # in an archive, or on the hub
        import fsspec  # comes with `datasets`

        with fsspec.open(stored) as file:
            data = file.read()
    if data is not None:
        path = _write_once(data, Path(stored.partition("::")[0]).name, place, extracted)
        return CaptionEntry(place, path.name, captions, None, (str(path.absolute()),))
    if not stored:
        return CaptionEntry(place, place, captions, None, ())
    path = source / stored
    named = path.relative_to(source) if path.is_relative_to(source) else path
    return CaptionEntry(place, named.as_posix(), captions, None, (str(path.absolute()),))


def _write_once(data: bytes, stored: str, place: str, folder: Path | None) -> Path:
    if folder is None:
        raise UserError(f"{place}: its images lie inside the dataset. Say which folder they may be written to.")
    suffix = next((known for start, known in _SIGNATURES.items() if data.startswith(start)), Path(stored).suffix)
    digest = hashlib.sha256(data).hexdigest()
    path = folder / (f"{Path(stored).stem[:50]}-{digest[:12]}{suffix}" if stored else f"{digest[:16]}{suffix}")
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        if not path.is_file() or path.stat().st_size != len(data):
            folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}): check the place, its permissions and that "
            "the disk is not full"
        ) from error
    return path
