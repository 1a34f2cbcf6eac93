"""From sources to hypotheses: sorted batches through search, results back in order."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from data.length_ratio import LengthRatio
from data.shortlist import Shortlist
from data.source import Column, Source, TextSource
from nmt.consensus import by_consensus
from nmt.ensemble import Ensembled, average
from nmt.search import Hypothesis, search
from nmt.search_options import SearchOptions
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
    shortlist: Shortlist | None = None,
) -> list[list[Hypothesis]]:
    """The n best hypotheses for each source, in the order of the sources.

    With a shortlist, log-probabilities are normalised over what it allows the sources of a batch together. So they are
    larger than the model's own, and depend a little on what is decoded together.

    Args:
        steppers: One, or an ensemble of several with the same vocabularies.
        sources: What to decode; none may be empty.
        ratio: Target lengths of the training text; the shortest and longest output follow from it.
        batch_tokens: The most cells of a batch: sources times beam times the longest of them.
        prefixes: What each translation must begin with.
        seeds: What tells the sources of a sample apart; by default their places.
        shortlist: The target ids for each source id, of text, that search is to choose from; by default from all.
    """
    lengths = sources.lengths.tolist()
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    width = options.n_best if options.sample else options.beam
    asked = replace(options, n_best=options.beam) if options.consensus else options
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
            asked,
            ratio,
            [prefixes[i] for i in rows] if prefixes else None,
            [seeds[i] if seeds else i for i in rows],
            shortlist,
        )
        for i, hypotheses in zip(rows, results, strict=True):
            if options.consensus:
                hypotheses = by_consensus(hypotheses, options.consensus)
            found[i] = hypotheses[: options.n_best]
        start = end
    return found


def _decode_batch(
    steppers: Sequence[Stepper],
    source: Source,
    options: SearchOptions,
    ratio: LengthRatio,
    prefixes: list[Sequence[int]] | None,
    seeds: list[int],
    shortlist: Shortlist | None,
) -> list[list[Hypothesis]]:
    if shortlist is not None:
        assert isinstance(source, TextSource)
        words = shortlist.words(source.ids.numpy(), prefixes or [])
        allowed = torch.from_numpy(words).to(steppers[0].device)
        steppers = [stepper.restricted(allowed) for stepper in steppers]
        prefixes = [np.searchsorted(words, prefix).tolist() for prefix in prefixes] if prefixes else None
        found = _decode_batch(steppers, source, options, ratio, prefixes, seeds, None)
        return [[replace(one, tokens=words[one.tokens].tolist()) for one in each] for each in found]
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
