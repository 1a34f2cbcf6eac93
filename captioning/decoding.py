"""From features to captions, for validation, evaluation and the `Captioner` alike."""

from collections.abc import Sequence

from data.source import Column
from nmt.checkpoint import TrainedModel
from nmt.decoding import decode
from nmt.search_options import SearchOptions
from nmt.stepper import Stepper
from nmt.written import WrittenHypothesis


def caption_features(
    models: Sequence[TrainedModel],
    views: Sequence[Column],
    options: SearchOptions,
    *,
    steppers: Sequence[Stepper] | None = None,
    batch_images: int | None = None,
    seeds: Sequence[int] | None = None,
) -> list[list[WrittenHypothesis]]:
    """At most `n_best` captions for each image, best first, and never none.

    Args:
        models: One, or several with one vocabulary that caption together.
        views: The images, once for each view of them; probabilities are the mean over models and views.
        steppers: The models laid out for search; by default in float32, with the weights that they have now.
        batch_images: How many are in work at a time; by default 256, or 32 whose grids are attended over.
        seeds: What tells the images of a sample apart; by default their places.
    """
    if batch_images is None:
        batch_images = 256 if models[0].model.decoder.attention is None else 32
    steppers = steppers or [Stepper(model.model) for model in models]
    width = options.n_best if options.sample else options.beam
    target = models[0].target
    found = decode(
        [stepper for stepper in steppers for _ in views],
        [column for _ in steppers for column in views],
        options,
        models[0].length_ratio,
        batch_tokens=batch_images * width,
        seeds=seeds,
    )
    return [[WrittenHypothesis.of([one], target) for one in hypotheses] for hypotheses in found]
