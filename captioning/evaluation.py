"""How good a captioner is: its scores beside what is needed to believe them.

Next to the model's row stand the captions of the nearest training image (same features), the model's captions when it
is fed the wrong images, and how well people agree with each other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Table

from captioning.cnn import REGIONS
from captioning.coco_metrics import CaptionScores, CiderComparison, human_agreement, score_captions
from captioning.coco_tokenizer import tokenize
from captioning.columns import FeatureColumn
from captioning.corpus import SplitImage, read_split
from captioning.decoding import caption_features
from captioning.features import FeatureStore
from data.errors import UserError
from nmt.checkpoint import TrainedModel
from nmt.search_options import SearchOptions

_SEED = 1  # of the wrong images
_BLOCK = 256  # images whose features are in memory at a time
METRICS = {
    "bleu1": "BLEU-1", "bleu2": "BLEU-2", "bleu3": "BLEU-3", "bleu4": "BLEU-4", "meteor": "METEOR",
    "rouge_l": "ROUGE-L", "cider": "CIDEr", "cider_d": "CIDEr-D",
}  # fmt: skip


@dataclass(frozen=True)
class TrainingImages:
    """What the model was trained on, for comparison: one feature vector and the captions of each image."""

    features: npt.NDArray[np.floating]
    captions: list[list[str]]

    @classmethod
    def read(cls, prepared: Path) -> "TrainingImages":
        """Of a prepared directory; raises UserError if there is none."""
        images = read_split(prepared, "train")
        array, rows = FeatureStore.open(prepared / "features").array, [one.row for one in images]
        blocks = [_pooled(array[rows[i : i + _BLOCK], 0]) for i in range(0, len(rows), _BLOCK)]
        return cls(np.concatenate(blocks), [one.captions for one in images])


@dataclass(frozen=True)
class CaptionEvaluation:
    """All figures of one captioner on one set of images.

    Args:
        model, nearest_image, wrong_image, human: Scores of the model; of copying the first caption of the nearest
            training image; of the model fed another image of the set; of people against each other. None where there
            is nothing to compute it from.
        captions: The model's, one an image.
        distinct: How many of them differ.
        from_train: Share of them that stands word for word in the training captions; None without those.
        unfinished: How many were cut off at the length limit.
    """

    model: CaptionScores
    nearest_image: CaptionScores | None
    wrong_image: CaptionScores
    human: CaptionScores | None
    captions: list[str]
    distinct: int
    from_train: float | None
    unfinished: int


def evaluate_captions(
    models: Sequence[TrainedModel],
    features: npt.NDArray[np.floating],
    references: Sequence[Sequence[str]],
    options: SearchOptions,
    train: TrainingImages | None,
    published: npt.NDArray[np.floating] | None = None,
) -> CaptionEvaluation:
    """Decode and score.

    Args:
        features: (images, views, [positions,] features) of the images to caption, all views of which are looked at.
        references: Their untouched captions.
        published: (images, [positions,] features) as `train` has them, where `features` are those of a fine-tuned CNN.
    """
    captions, unfinished = decode_texts(models, features, options)
    # everybody's image goes to somebody else
    order = np.random.default_rng(_SEED).permutation(len(features))
    wrong = np.empty_like(order)
    wrong[order] = np.roll(order, 1)
    wrong_captions, _ = decode_texts(models, features[wrong], options)
    nearest = None
    from_train = None
    if train is not None:
        alike = nearest_images(features[:, 0] if published is None else published, train.features)
        copied = [train.captions[i][0] for i in alike]
        nearest = score_captions(copied, references)
        known = {tuple(tokenize(caption)) for each in train.captions for caption in each}
        from_train = sum(tuple(tokenize(caption)) in known for caption in captions) / len(captions)
    return CaptionEvaluation(
        model=score_captions(captions, references),
        nearest_image=nearest,
        wrong_image=score_captions(wrong_captions, references),
        human=human_agreement(references) if all(len(each) > 1 for each in references) else None,
        captions=captions,
        distinct=len(set(captions)),
        from_train=from_train,
        unfinished=unfinished,
    )


def decode_texts(
    models: Sequence[TrainedModel], features: npt.NDArray[np.floating], options: SearchOptions
) -> tuple[list[str], int]:
    """The best caption of each image, and how many were cut off at the length limit."""
    found = caption_features(models, FeatureColumn.by_view(features), options)
    return [each[0].text for each in found], sum(not each[0].finished for each in found)


def nearest_images(
    features: npt.NDArray[np.floating], train: npt.NDArray[np.floating], block: int = _BLOCK
) -> npt.NDArray[np.int64]:
    """For each image, the training image whose feature points in the most similar direction."""
    others, features = train.astype(np.float32), _pooled(features).astype(np.float32)
    others /= np.linalg.norm(others, axis=1, keepdims=True).clip(min=1e-12)
    blocks = [features[i : i + block] @ others.T for i in range(0, len(features), block)]
    return np.concatenate([each.argmax(axis=1) for each in blocks])


def _pooled(features: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """One vector an image: regions one after the other, of a grid the mean over its positions."""
    if features.ndim == 3 and features.shape[1] == REGIONS**2:
        return features.reshape(len(features), -1)
    return features.mean(axis=1, dtype=np.float32) if features.ndim == 3 else features


def result_json(found: CaptionEvaluation, provenance: Mapping[str, Any]) -> str:
    """The evaluation as strict JSON: the model's scores at the top, `provenance` at the end."""
    rows = {name: scores_dict(getattr(found, name)) for name in ("nearest_image", "wrong_image", "human")}
    record = {
        **scores_dict(found.model),
        **rows,
        "computed": found.model.computed,
        "images": len(found.captions),
        "distinct": found.distinct,
        "from_train": found.from_train,
        "unfinished": found.unfinished,
        **provenance,
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def scores_dict(scores: CaptionScores | None) -> dict[str, float | None]:
    """The metrics by name, all of them None where there are no scores."""
    fields = asdict(scores) if scores else {}
    return {name: fields.get(name) for name in METRICS}


def render(found: CaptionEvaluation) -> RenderableType:
    """The evaluation as a table for a terminal."""
    title = f"Scores of {len(found.captions):,} images"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("captions of")
    shown = {name: title for name, title in METRICS.items() if name != "cider_d"}  # which equals cider
    for title in shown.values():
        table.add_column(title, justify="right")
    rows = (
        ("model", found.model),
        ("nearest image", found.nearest_image),
        ("wrong image", found.wrong_image),
        ("a person", found.human),
    )
    for label, scores in rows:
        values = scores_dict(scores)
        table.add_row(label, *("-" if values[name] is None else f"{values[name]:.3f}" for name in shown))
    share = "" if found.from_train is None else f"; {found.from_train:.0%} stand word for word in the training captions"
    table.caption = (
        "nearest image: a caption of the most similar training image; wrong image: the model fed another image of "
        "these; a person: one reference against the others"
    )
    return Group(
        table,
        f"{found.distinct:,} distinct captions{share}; {found.unfinished:,} cut off at the length limit",
        *how_computed(found.model.computed),
    )


def how_computed(computed: Mapping[str, str]) -> list[str]:
    """How each metric was computed; of those that were computed alike, in one line."""
    ways: dict[str, list[str]] = {}
    for name, how in computed.items():
        if name != "cider_d":
            ways.setdefault(how, []).append(METRICS.get(name, name))
    return [f"{', '.join(names)}: {how}" for how, names in ways.items()]


def render_comparison(found: CiderComparison, other: str) -> RenderableType:
    """A paired bootstrap as a table for a terminal; `other` names the other system."""
    table = Table(title=f"CIDEr, compared with {other}", title_justify="left", caption_justify="left")
    for name in ("this", "other", "this - other", "95 % of resamples", "p-value"):
        table.add_column(name, justify="right")
    interval = f"{found.low:+.3f} to {found.high:+.3f}"
    difference = f"{found.difference:+.3f}"
    table.add_row(f"{found.score:.3f}", f"{found.other:.3f}", difference, interval, f"{found.p_value:.4f}")
    table.caption = f"paired bootstrap over images (Koehn 2004), {found.samples:,} resamples"
    return table


def split_features(store: FeatureStore, images: Sequence[SplitImage], views: int) -> npt.NDArray[np.floating]:
    """The features of the first views of the images of a prepared split; raises UserError if there are fewer."""
    if views > store.array.shape[1]:
        raise UserError(f"search.mirror: the data has no mirror images: prepare with views {views} or more")
    features: npt.NDArray[np.floating] = store.array[[one.row for one in images], :views]
    return features
