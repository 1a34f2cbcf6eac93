"""The layouts that files of image captions come in, told from what the file holds.

Flickr8k: lines `name.jpg#0<TAB>caption`. Table: CSV whose first line names the columns (Kaggle's captions.txt), also
with TAB, | or ; between them. Karpathy: {"images": [{"filename", "split", "sentences": [{"raw"}, ...]}, ...]}. COCO:
{"images": [{"id", "file_name"}, ...], "annotations": [{"image_id", "caption"}, ...]}. JSONL: {"image", "captions"} or
{"image", "caption"}, one a line, or all in one array.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from data.errors import UserError
from data.fields import nearest, shorten
from data.text_files import read_lines

_DELIMITERS = ",\t|;"
_IMAGE_FIELDS = ("image", "image_name", "file_name", "filename")
_CAPTION_FIELDS = ("captions", "caption", "comment", "text", "sentences")


@dataclass(frozen=True)
class CaptionEntry:
    """What one line, row or record says about an image; several entries may speak of the same image.

    Args:
        place: Where it stands, for messages.
        name: What the image is called in the data.
        captions: Its captions as they stand.
        split: The split it belongs to; None if the layout knows no splits.
        paths: Where the file may lie, in the folder of images or absolute, most likely place first; none if the
            data holds no image.
    """

    place: str
    name: str
    captions: list[str]
    split: str | None
    paths: tuple[str, ...]


@dataclass(frozen=True)
class CaptionFields:
    """Names of the fields that hold image and captions; `fnmatch` patterns, because captions may fill several."""

    image: str = "image"
    caption: str = "captions"


def read_entries(path: Path, fields: CaptionFields) -> Iterator[CaptionEntry]:
    """Read a file of captions in any layout, in the order of the file; blank lines are skipped.

    Raises:
        UserError: while reading, if the file is missing, empty, damaged or not UTF-8, if its layout cannot be
            told, or if a line does not follow it
    """
    number, first = next(_numbered(path), (1, ""))
    if first.lstrip()[:1] in ("{", "["):
        return _json_entries(path, first, number, fields)
    if re.fullmatch(r"[^\t]+(#\d+|\.\w{2,5})", first.partition("\t")[0]) and "\t" in first:
        return _token_entries(path)
    for delimiter in _DELIMITERS:
        header = [name.strip() for name in next(csv.reader([first.replace("\r", " ")], delimiter=delimiter))]
        if _matching(header, fields.image, _IMAGE_FIELDS) and _matching(header, fields.caption, _CAPTION_FIELDS):
            return _table_entries(path, delimiter, fields)
    hint = "If it is CSV without a header, add a first line: image,caption."
    raise _layout_error(f"{path}, line {number}", first, hint)


def entry_of_record(record: Mapping[str, Any], fields: CaptionFields, place: str) -> CaptionEntry:
    """The entry of a record with named fields whose image is the name of a file.

    Raises UserError if a field is missing or does not hold text.
    """
    names = list(record)
    image = record[pick(names, fields.image, "image_field", place)[0]]
    if not isinstance(image, str) or not image.strip():
        raise UserError(f"{place}: the image is {shorten(image)}, not the name of a file. Correct the data.")
    _check_writable(image, place)
    return CaptionEntry(place, image, record_captions(record, fields, place), _split(record), (image,))


def record_captions(record: Mapping[str, Any], fields: CaptionFields, place: str) -> list[str]:
    """All captions of a record; raises UserError as `entry_of_record` does."""
    chosen = pick(list(record), fields.caption, "caption_field", place)
    return [caption for name in chosen for caption in _texts(record[name], f"{place}, field {name!r}")]


def pick(names: list[str], wanted: str, option: str, place: str) -> list[str]:
    """The names that match the pattern `wanted`, or if that is a usual name, the usual name that is there.

    Raises UserError if there is none.
    """
    known = _IMAGE_FIELDS if option == "image_field" else _CAPTION_FIELDS
    if found := _matching(names, wanted, known):
        return found
    raise UserError(f"{place}: no field {wanted!r}.{nearest(wanted, names)} Set {option}.")


def _matching(names: list[str], wanted: str, known: tuple[str, ...]) -> list[str]:
    matching = [name for name in names if fnmatchcase(name, wanted)]
    if matching or wanted not in known:
        return matching
    lowered = {name.lower(): name for name in names}
    return [lowered[name] for name in known if name in lowered][:1]


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(read_lines(path), 1) if line.strip())


def _token_entries(path: Path) -> Iterator[CaptionEntry]:
    for number, line in _numbered(path):
        place = f"{path}, line {number}"
        left, tab, caption = line.partition("\t")
        name = re.sub(r"#\d+$", "", left)
        if not tab or not name.strip():
            raise UserError(
                f"{place}: not `name.jpg#0<TAB>caption` as the lines before it: {shorten(line)}. Correct or "
                "delete the line; look for a caption that was broken in two, or spaces where the tab was."
            )
        yield CaptionEntry(place, name, [caption], None, (name,))


def _table_entries(path: Path, delimiter: str, fields: CaptionFields) -> Iterator[CaptionEntry]:
    # A lone CR would end a row for `csv`, but only LF ends a line here.
    rows = csv.reader((line.replace("\r", " ") + "\n" for line in read_lines(path)), delimiter=delimiter, strict=True)
    header: list[str] = []
    last_is_caption = False
    while True:
        place = f"{path}, line {rows.line_num + 1}"
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise UserError(
                f"{place}: not valid CSV ({error}). Look for a caption with an opening quote only: a caption that "
                'holds " or starts with it stands in quotes, and each " inside is doubled.'
            ) from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            last_is_caption = header[-1] in pick(header, fields.caption, "caption_field", place)
            continue
        if len(cells) > len(header) and last_is_caption:
            # a caption that holds the delimiter and was written without quotes
            cells = [*cells[: len(header) - 1], delimiter.join(cells[len(header) - 1 :])]
        if len(cells) != len(header):
            raise UserError(
                f"{place}: {len(cells)} column(s), but the first line names {len(header)} ({', '.join(header)}): "
                f"{shorten(delimiter.join(cells))}. Correct or delete the line; a text that holds {delimiter!r} must "
                "stand in quotes."
            )
        yield entry_of_record(dict(zip(header, cells, strict=True)), fields, place)


def _json_entries(path: Path, first: str, number: int, fields: CaptionFields) -> Iterator[CaptionEntry]:
    try:
        document = json.loads("\n".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        try:
            is_lines = isinstance(json.loads(first), dict)
        except (ValueError, RecursionError):
            is_lines = False
        if not is_lines:
            _fail_json(f"{path}, line {getattr(error, 'lineno', number)}", error)
        yield from _jsonl_entries(path, fields)
        return
    if isinstance(document, dict) and "images" not in document:
        yield entry_of_record(document, fields, f"{path}, line {number}")  # JSONL of a single line
    elif isinstance(document, list):
        for index, record in enumerate(document, 1):
            place = f"{path}, record {index}"
            yield entry_of_record(_object(record, place), fields, place)
    elif isinstance(images := document["images"], list) and isinstance(document.get("annotations"), list):
        yield from _coco_entries(path, images, document["annotations"])
    elif isinstance(images, list) and images and isinstance(images[0], dict) and "sentences" in images[0]:
        yield from _karpathy_entries(path, images)
    else:
        why = "A COCO file also needs `annotations`, a Karpathy file `sentences` in each of its images."
        raise _layout_error(str(path), f"an object of {', '.join(document)}", why)


def _jsonl_entries(path: Path, fields: CaptionFields) -> Iterator[CaptionEntry]:
    for number, line in _numbered(path):
        place = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            _fail_json(place, error)
        yield entry_of_record(_object(record, place), fields, place)


def _coco_entries(path: Path, images: list[Any], annotations: list[Any]) -> Iterator[CaptionEntry]:
    names: dict[object, str] = {}
    for index, record in enumerate(images):
        place = f"{path}, images[{index}]"
        name = names[_value(record, "id", (int, str), place)] = _value(record, "file_name", (str,), place)
        yield CaptionEntry(place, name, [], None, (name,))  # an image may have no annotation
    for index, record in enumerate(annotations):
        place = f"{path}, annotations[{index}]"
        image = _value(record, "image_id", (int, str), place)
        if image not in names:
            raise UserError(f"{place}: no image has the id {image!r}. Correct the data.")
        if "caption" not in record:
            raise UserError(f"{place}: no caption in it. Give the captions_*.json file, not instances or keypoints.")
        yield CaptionEntry(place, names[image], _texts(record["caption"], place), None, (names[image],))


def _karpathy_entries(path: Path, images: list[Any]) -> Iterator[CaptionEntry]:
    for index, record in enumerate(images):
        place = f"{path}, images[{index}]"
        name = _value(record, "filename", (str,), place)
        captions = _texts(_value(record, "sentences", (list,), place), place)
        # COCO's photos lie in folders such as val2014, or all in one
        folder = f"{record['filepath']}/" if record.get("filepath") else ""
        paths = (f"{folder}{name}", name) if folder else (name,)
        yield CaptionEntry(place, folder + name, captions, _split(record), paths)


def _split(record: Mapping[str, Any]) -> str | None:
    split = record.get("split")
    return split if isinstance(split, str) and split else None


def _object(record: object, place: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise UserError(f"{place}: not a JSON object: {shorten(record)}. Give it an image and its captions.")
    return record


def _value(record: object, name: str, kinds: tuple[type, ...], place: str) -> Any:
    value = _object(record, place).get(name)
    if not isinstance(value, kinds) or value == "":
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{place}: {name!r} is {shorten(value)}, not a {wanted}. Correct the data.")
    if isinstance(value, str):
        _check_writable(value, place)
    return value


def _texts(value: object, place: str) -> list[str]:
    """The captions in a value: text, a Karpathy sentence {"raw": ...}, or a list of these."""
    if isinstance(value, list):
        return [text for one in value for text in _texts(one, place)]
    if isinstance(value, dict) and "raw" in value:
        return _texts(value["raw"], place)
    if not isinstance(value, str):
        raise UserError(f"{place}: a caption is {shorten(value)}, not text. Correct the data or set caption_field.")
    _check_writable(value, place)
    return [value]


def _check_writable(text: str, place: str) -> None:
    try:
        text.encode()  # half a surrogate pair is valid JSON, but no text that could be written
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: not text ({error.reason}): {shorten(text)}. Correct the data.") from error


def _fail_json(place: str, error: Exception) -> NoReturn:
    raise UserError(
        f"{place}: not valid JSON ({error}). Correct it, or copy the file again if it ends too early."
    ) from error


def _layout_error(place: str, found: str, hint: str) -> UserError:
    return UserError(
        f"{place}: cannot tell how captions stand in it: {shorten(found)}. There are: lines "
        "`name.jpg#0<TAB>caption` (Flickr8k), CSV with a first line such as `image,caption`, Karpathy's "
        'dataset_*.json, COCO\'s captions_*.json, and JSONL of {"image": ..., "captions": [...]}. ' + hint
    )
