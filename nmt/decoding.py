"""From sources to hypotheses: sorted batches through search, results back in order."""

from collections.abc import Sequence

import numpy as np
import torch

from data.length_ratio import LengthRatio
from data.source import Column, Source
from nmt.model import SequenceModel
from nmt.search import Ensembled, Hypothesis, SearchOptions, average, search

_SLACK = 5  # tokens beyond what the training text's length ratio allows: short sentences vary more


@torch.no_grad()
def decode(
    models: Sequence[SequenceModel],
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
        models: One, or an ensemble of several with the same vocabularies.
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
            models,
            sources.collate(np.array(rows), reverse=models[0].config.reverse_source),
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
    models: Sequence[SequenceModel],
    source: Source,
    options: SearchOptions,
    ratio: LengthRatio,
    prefixes: list[Sequence[int]] | None,
    seeds: list[int],
) -> list[list[Hypothesis]]:
    device = next(models[0].parameters()).device
    source = source.to(device)
    lengths = source.lengths.to(device)
    shortest = (lengths * ratio.low).floor().long()
    longest = (lengths * ratio.high).ceil().long() + _SLACK
    if len(models) == 1:
        model = models[0]
        return search(
            model.step, model.start(source), options,
            min_lengths=shortest, max_lengths=longest, prefixes=prefixes, seeds=seeds,
        )  # fmt: skip
    state = Ensembled(tuple(model.start(source) for model in models))
    return search(
        average([model.step for model in models]), state, options,
        min_lengths=shortest, max_lengths=longest, prefixes=prefixes, seeds=seeds,
    )  # fmt: skip
