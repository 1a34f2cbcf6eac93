"""Captioned images of one split: from a file of captions and a folder of images, or from a dataset."""

import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.caption_datasets import read_dataset_entries
from data.caption_files import CaptionEntry, CaptionFields, read_entries
from data.errors import UserError
from data.fields import nearest, shorten
from data.text_files import fail_reading, read_lines, resolve


@dataclass(frozen=True)
class CaptionSplit:
    """Where the captioned images of one split stand: `captions`, or `dataset`. What is "" is not given.

    Args:
        images: folder that image names are looked up in; if not given, the folder that `captions` lies in
        captions: file of captions: a Flickr8k token file, CSV such as Kaggle's captions.txt, Karpathy's
            dataset_*.json, COCO's captions_*.json, or JSONL of {image, captions} or {image, caption}; the layout
            is told from what the file holds; `.gz` is unpacked
        list: file with image names, one a line: only these belong to the split, in this order
        split: name of the split, where the captions or the dataset have several; "train+restval" is both; if not
            given, all captions of the file, and the split "train" of a dataset
        dataset: what `datasets.load_dataset` loads: a folder of images with metadata.csv or metadata.jsonl, a
            Parquet file or a folder of them, a folder written by `save_to_disk`, or a name on the Hugging Face hub
        dataset_config: configuration of the dataset, for a dataset that has several
        image_field: field of the image in CSV, JSONL or a dataset; the usual names need not be given
        caption_field: field of the caption or captions, in the same way; a pattern such as "caption_*" for captions
            in several fields
    """

    images: str = ""
    captions: str = ""
    list: str = ""
    split: str = ""
    dataset: str = ""
    dataset_config: str = ""
    image_field: str = "image"
    caption_field: str = "captions"


@dataclass(frozen=True)
class CaptionedImage:
    """An image file and what people wrote about it: at least one caption, each one line of text, none blank."""

    name: str
    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionedImages:
    """What was found of a split.

    Args:
        images: The images that have a file and a caption, in the order of the list, or else of the data.
        missing: Why the other images of the split are not among them, by name.
        blank: Captions without text that were left out.
    """

    images: list[CaptionedImage]
    missing: dict[str, str] = field(default_factory=dict)
    blank: int = 0


def read_captioned_images(
    split: CaptionSplit, base: Path | None = None, extracted: Path | None = None
) -> CaptionedImages:
    """Read the captions of a split and look up the files of its images; no image is opened.

    Captions stand as in the data, but for a line end inside one, which becomes a space, and white space around it.

    Args:
        split: where the captioned images stand
        base: folder that relative paths start from; the working directory if None
        extracted: folder that images stored inside a dataset are written to, once, so that every image is a file

    Raises:
        UserError: `split` does not say where the images stand, a file or folder is missing, the layout of the
            captions cannot be told or is broken, the split is not in the data, or not one image was found
    """
    _check_given(split)
    fields = CaptionFields(split.image_field, split.caption_field)
    if split.dataset:
        where, folder = f"dataset {split.dataset!r}", resolve(split.images or split.dataset, base)
        folder = folder.parent if folder.is_file() else folder
        entries = read_dataset_entries(
            split.dataset, split.dataset_config, split.split or "train", fields, base, extracted
        )
    else:
        file = resolve(split.captions, base)
        where, folder = str(file), resolve(split.images, base) if split.images else file.parent
        entries = read_entries(file, fields)
        if split.split:
            entries = _of_split(entries, split.split, where)
    if split.images and not folder.is_dir():
        fail_reading(folder, NotADirectoryError("not a folder") if folder.exists() else FileNotFoundError())
    captions: dict[str, list[str]] = {}
    paths: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        captions.setdefault(entry.name, []).extend(entry.captions)
        paths.setdefault(entry.name, entry.paths)
    names = _listed(resolve(split.list, base), captions) if split.list else list(captions)
    return _found(names, captions, paths, folder, where)


def _check_given(split: CaptionSplit) -> None:
    if bool(split.captions) + bool(split.dataset) != 1:
        raise UserError(
            f"cannot tell where the captions stand: captions={split.captions!r}, dataset={split.dataset!r}. Give "
            "one of them: captions (with images, the folder) or dataset."
        )
    if split.dataset and split.list:
        raise UserError(f"list={split.list!r} does not go with dataset={split.dataset!r}. Name its part with split.")


def _of_split(entries: Iterable[CaptionEntry], wanted: str, where: str) -> Iterator[CaptionEntry]:
    known: dict[str, None] = {}
    for entry in entries:
        if entry.split is None:
            raise UserError(
                f"{entry.place}: does not say which split it belongs to, but split={wanted!r}. Leave split empty; "
                "name the images of the split in a file and give it as list."
            )
        known[entry.split] = None
        if entry.split in wanted.split("+"):
            yield entry
    for name in wanted.split("+"):
        if name not in known:
            raise UserError(f"{where}: no split {name!r}.{nearest(name, list(known))} Set split.")


def _listed(path: Path, captions: dict[str, list[str]]) -> list[str]:
    """The names in a list, each once; spaces around a name are left out if it is known without them."""
    names = [name for name in read_lines(path) if name.strip()]
    names = [name.strip() if name not in captions and name.strip() in captions else name for name in names]
    if captions and not any(name in captions for name in names):
        raise UserError(
            f"{path}: not one of its {len(names)} names has a caption: {', '.join(map(shorten, names[:3]))}. In the "
            f"captions, images are named like {next(iter(captions))!r}. Correct the list, or give the captions it "
            "belongs to."
        )
    return list(dict.fromkeys(names))


def _found(
    names: list[str], captions: dict[str, list[str]], paths: dict[str, tuple[str, ...]], folder: Path, where: str
) -> CaptionedImages:
    images: list[CaptionedImage] = []
    missing: dict[str, str] = {}
    blank = 0
    for name in names:
        texts = [re.sub(r"\s*\n\s*", " ", text.strip()) for text in captions.get(name, [])]
        blank += texts.count("")
        found = _look_up(folder, paths.get(name, ()))
        if not any(texts):
            missing[name] = f"only blank captions in {where}" if texts else f"no caption in {where}"
        elif isinstance(found, str):
            missing[name] = found
        else:
            images.append(CaptionedImage(name, found, tuple(text for text in texts if text)))
    if not images:
        reasons = "".join(f" {name!r}: {missing[name]}." for name in list(missing)[:3])
        raise UserError(
            f"{where}: not one of {len(names)} images has a caption and a file.{reasons} Check images, the folder, and "
            "whether the captions are those of its images."
        )
    return CaptionedImages(images, missing, blank)


def _look_up(folder: Path, candidates: tuple[str, ...]) -> Path | str:
    """The first candidate that is a file, or else why the last one is none."""
    why = "no image in the data"
    for place in candidates:
        path = folder / place
        try:
            if stat.S_ISREG(path.stat().st_mode):
                return path
            why = f"{path}: not a file"
        except (OSError, ValueError) as error:  # a name can also be too long, or hold what no file name can
            why = f"{path}: {getattr(error, 'strerror', None) or error}"
    return why
