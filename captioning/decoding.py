"""From features to captions, for validation, evaluation and the `Captioner` alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.source import Column
from nmt.checkpoint import TrainedModel
from nmt.decoding import decode
from nmt.search import SearchOptions


@dataclass(frozen=True)
class CaptionHypothesis:
    """One caption of an image.

    Args:
        text: Detokenized, on one line.
        tokens: The vocabulary entries that were written.
        log_prob: Natural logarithm of the probability that the model gives to these tokens.
        score: The log-probability after length penalty, which hypotheses are ranked by.
        finished: Whether the model ended the caption itself, before the longest allowed length.
    """

    text: str
    tokens: list[str]
    log_prob: float
    score: float
    finished: bool


def caption_features(
    models: Sequence[TrainedModel],
    images: Column,
    options: SearchOptions,
    *,
    batch_images: int = 256,
    seeds: Sequence[int] | None = None,
) -> list[list[CaptionHypothesis]]:
    """At most `n_best` captions for each image, best first, and never none.

    Args:
        models: One, or several with one vocabulary that caption together.
        seeds: What tells the images of a sample apart; by default their places.
    """
    width = options.n_best if options.sample else options.beam
    target = models[0].target
    found = decode(
        [model.model for model in models],
        images,
        options,
        models[0].length_ratio,
        batch_tokens=batch_images * width,
        seeds=seeds,
    )
    return [
        [
            CaptionHypothesis(
                " ".join(target.decode(one.tokens).split()),
                target.tokens(one.tokens),
                one.log_prob,
                one.score,
                one.finished,
            )
            for one in hypotheses
        ]
        for hypotheses in found
    ]
