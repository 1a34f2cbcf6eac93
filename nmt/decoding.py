"""From sources to hypotheses: sorted batches through search, results back in order."""

from collections.abc import Sequence

import numpy as np
import torch

from data.length_ratio import LengthRatio
from data.source import Column, Source
from nmt.search import Ensembled, Hypothesis, SearchOptions, average, search
from nmt.stepper import Stepper

_SLACK = 5  # tokens beyond what the training text's length ratio allows: short sentences vary more


@torch.inference_mode()
def decode(
    steppers: Sequence[Stepper],
    sources: Column,
    options: SearchOptions,
    ratio: LengthRatio,
    *,
    batch_tokens: int = 4096,
    prefixes: Sequence[Sequence[int]] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """The n best hypotheses for each source, in the order of the sources.

    Args:
        steppers: One, or an ensemble of several with the same vocabularies.
        sources: What to decode; none may be empty.
        ratio: Target lengths of the training text; the shortest and longest output follow from it.
        batch_tokens: The most cells of a batch: sources times beam times the longest of them.
        prefixes: What each translation must begin with.
        seeds: What tells the sources of a sample apart; by default their places.
    """
    lengths = sources.lengths.tolist()
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    width = options.n_best if options.sample else options.beam
    found: list[list[Hypothesis]] = [[] for _ in lengths]
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * width * lengths[order[end]] <= batch_tokens:
            end += 1
        rows = order[start:end]
        results = _decode_batch(
            steppers,
            sources.collate(np.array(rows), reverse=steppers[0].model.config.reverse_source),
            options,
            ratio,
            [prefixes[i] for i in rows] if prefixes else None,
            [seeds[i] if seeds else i for i in rows],
        )
        for i, hypotheses in zip(rows, results, strict=True):
            found[i] = hypotheses
        start = end
    return found


def _decode_batch(
    steppers: Sequence[Stepper],
    source: Source,
    options: SearchOptions,
    ratio: LengthRatio,
    prefixes: list[Sequence[int]] | None,
    seeds: list[int],
) -> list[list[Hypothesis]]:
    source = source.to(steppers[0].device)
    lengths = source.lengths.to(steppers[0].device)
    shortest = (lengths * ratio.low).floor().long()
    longest = (lengths * ratio.high).ceil().long() + _SLACK
    if len(steppers) == 1:
        stepper = steppers[0]
        return search(
            stepper.step, stepper.start(source), options,
            min_lengths=shortest, max_lengths=longest, prefixes=prefixes, seeds=seeds,
        )  # fmt: skip
    state = Ensembled(tuple(stepper.start(source) for stepper in steppers))
    return search(
        average([stepper.step for stepper in steppers]), state, options,
        min_lengths=shortest, max_lengths=longest, prefixes=prefixes, seeds=seeds,
    )  # fmt: skip
