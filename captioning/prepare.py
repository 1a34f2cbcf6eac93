"""The prepare stage of captioning: captioned images to a feature cache, a vocabulary and memory-mapped ids.

A prepared directory holds
    features/                    what the CNN makes of every image (captioning/features.py); resumable
    text/target.model            tokenizer
    text/train text/valid        (row of the image, ids of a caption) as Arrow files, memory-mapped when read
    text/NAME.jsonl              the images of each split with their untouched captions
    text/report.json config.yaml what was done, and with which settings
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console, Group, RenderableType
from rich.table import Table

from captioning.cnn import ImageNetwork, Kind, load_network
from captioning.config import CaptionPrepareConfig
from captioning.corpus import SplitImage, write_split
from captioning.features import FeatureStore, extract
from data.captions import CaptionedImage, CaptionedImages, CaptionSplit, read_captioned_images
from data.errors import UserError
from data.files import atomic_directory
from data.length_ratio import LengthRatio, length_ratio
from data.report import PERCENTILES, SideReport
from data.row_text import encode_rows, learn_vocabulary
from data.text_files import fingerprint
from nmt.device import default_device

_MANY = 10  # names listed of those that are missing; all stand in report.json


@dataclass(frozen=True)
class CaptionSplitReport:
    """One split.

    images, captions: what is kept
    left_out: images that are not kept and why, by name
    dropped: captions that are not kept, by reason
    truncated: captions that were cut off
    repeated: images whose very file stands in the split before
    text: tokens, unknown tokens and lengths of the captions before any is dropped
    """

    images: int
    captions: int
    left_out: dict[str, str]
    dropped: dict[str, int]
    truncated: int
    repeated: int
    text: SideReport
    fingerprint: str


@dataclass(frozen=True)
class CaptionReport:
    splits: dict[str, CaptionSplitReport]
    vocabulary: int
    distinct_words: int
    length_ratio: LengthRatio


def prepare_captioning(
    config: CaptionPrepareConfig, out: Path, console: Console, *, base: Path | None = None, overwrite: bool = False
) -> CaptionReport:
    """Run the prepare stage; features are kept and gone on with if `out` has some already, all else is written whole.

    Args:
        base: The folder that relative names are looked up in.
        overwrite: Replace the text side of `out`.

    Raises:
        UserError: a file is missing or damaged, `out` exists, or a split that is needed is empty.
    """
    if (out / "text").exists() and not overwrite:
        raise UserError(f"{out}: is prepared already: choose another --out, or allow replacing with --overwrite")
    found = {
        name: read_captioned_images(split, base, out / "images")
        for name, split in (("train", config.train), ("valid", config.valid), ("test", config.test))
        if split != CaptionSplit()
    }
    for name in ("train", "valid"):
        if name not in found:
            raise UserError(f"no images for {name}: give --{name}.captions FILE, with --{name}.images DIR")
    network = load_network(config.network, Path(config.weights) if config.weights else None).to(default_device())
    network.preprocessing = network.preprocessing.with_resize(config.resize)
    unique = {image.name: image for split in found.values() for image in split.images}
    for split in found.values():
        for image in split.images:
            if unique[image.name].path != image.path:
                raise UserError(
                    f"{image.name}: names two images, {image.path} and {unique[image.name].path}: give each image a "
                    "name of its own"
                )
    images = [(name, image.path) for name, image in unique.items()]
    store = extract(images, network, out / "features", kind=config.kind, views=config.views, console=console)
    with atomic_directory(out / "text", overwrite=overwrite) as folder:
        report = _write_text(config, found, store, folder)
        settings = asdict(config) | {
            "base": str((base or Path()).resolve()),
            "network_used": describe_network(network, config.kind),
        }
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        text = json.dumps(asdict(report), indent=2, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    return report


def describe_network(network: ImageNetwork, kind: Kind) -> dict[str, object]:
    """What a feature depends on beside the image: recorded in every model."""
    return {
        "name": network.name,
        "kind": kind,
        "weights_sha256": network.weights_sha256,
        "preprocessing": json.loads(json.dumps(asdict(network.preprocessing))),  # tuples as lists, as YAML has them
    }


def _write_text(
    config: CaptionPrepareConfig, found: dict[str, CaptionedImages], store: FeatureStore, folder: Path
) -> CaptionReport:
    rows = {name: row for row, name in enumerate(store.names)}
    left_out = {name: dict(split.missing) for name, split in found.items()}
    kept: dict[str, list[CaptionedImage]] = {}
    for name, split in found.items():
        left_out[name] |= {image.name: store.failed[image.name] for image in split.images if image.name in store.failed}
        kept[name] = [image for image in split.images if image.name not in store.failed]
    digests = {image.name: _digest(image.path) for images in kept.values() for image in images}
    elsewhere = {digests[image.name]: (name, image.name) for name in kept if name != "train" for image in kept[name]}
    for image in kept["train"]:
        if digests[image.name] in elsewhere:
            part, other = elsewhere[digests[image.name]]
            left_out["train"][image.name] = f"the same image stands in {part} as {other}"
    kept["train"] = [image for image in kept["train"] if image.name not in left_out["train"]]
    for name, images in kept.items():
        if not images:
            raise UserError(f"no image of {name} is left: {_some(left_out[name])}")
        split_images = [SplitImage(one.name, one.path, rows[one.name], list(one.captions)) for one in images]
        write_split(folder / f"{name}.jsonl", split_images)
    captions = [caption for image in kept["train"] for caption in image.captions]
    tokenizer, distinct = learn_vocabulary(captions, config.text)
    tokenizer.save(folder / "target.model")
    splits = {}
    lengths = np.zeros(0, dtype=np.int32)
    for name, images in kept.items():
        text = encode_rows(
            tokenizer,
            config.text,
            [rows[one.name] for one in images for _ in one.captions],
            [caption for one in images for caption in one.captions],
            config.max_length,
            truncate=config.overlong == "truncate",
        )
        if name != "test":
            text.save(folder / name)
        if name == "train":
            lengths = np.array([len(caption) for caption in text.ids], dtype=np.int32)
        text.dropped["blank"] += found[name].blank
        splits[name] = CaptionSplitReport(
            images=len(images),
            captions=len(text.ids),
            left_out=left_out[name],
            dropped=text.dropped,
            truncated=text.truncated,
            repeated=len(images) - len({digests[one.name] for one in images}),
            text=text.tokens,
            fingerprint=fingerprint(folder / f"{name}.jsonl"),
        )
    return CaptionReport(splits, len(tokenizer), distinct, length_ratio(np.ones_like(lengths), lengths))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _some(left_out: dict[str, str]) -> str:
    shown = [f"{name}: {why}" for name, why in list(left_out.items())[:_MANY]]
    return "; ".join([*shown, *([f"and {len(left_out) - _MANY:,} more"] if len(left_out) > _MANY else [])])


def render(report: CaptionReport) -> RenderableType:
    """The report as tables for a terminal."""
    table = Table(title="Captioned images", title_justify="left")
    for name in ("split", "images", "left out", "captions", "dropped", "cut off"):
        table.add_column(name, justify="left" if name in ("split", "dropped") else "right")
    texts = Table(title="Captions", title_justify="left")
    for name in ("split", "tokens", "unknown", *(f"{p} %" for p in PERCENTILES)):
        texts.add_column(name, justify="left" if name == "split" else "right")
    lines = []
    for name, split in report.splits.items():
        dropped = ", ".join(f"{count:,} {why}" for why, count in split.dropped.items() if count) or "none"
        counts = (f"{split.images:,}", f"{len(split.left_out):,}", f"{split.captions:,}", dropped)
        table.add_row(name, *counts, f"{split.truncated:,}")
        lengths = (str(split.text.lengths[p]) for p in PERCENTILES)
        texts.add_row(name, f"{split.text.tokens:,}", f"{split.text.unknown_rate:.2%}", *lengths)
        if split.left_out:
            lines.append(f"{name}: left out {_some(split.left_out)}")
        if split.repeated:
            lines.append(f"{name}: {split.repeated:,} image files are copies of others in it (kept)")
    texts.caption = "the last columns: so many percent of the captions have at most this many tokens"
    lines.append(
        f"vocabulary: {report.vocabulary:,} entries; {report.distinct_words:,} distinct words in the training captions"
    )
    return Group(table, texts, *lines)
