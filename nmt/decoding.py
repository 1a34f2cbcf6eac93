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
    sources: Sequence[Column],
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
        sources: What each of them reads to decode the same; none may be empty. Lengths are those of the first.
        ratio: Target lengths of the training text; the shortest and longest output follow from it.
        batch_tokens: The most cells of a batch: sources times beam times the longest of them.
        prefixes: What each translation must begin with.
        seeds: What tells the sources of a sample apart; by default their places.
        shortlist: The target ids for each source id, of text, that search is to choose from; by default from all.
    """
    lengths = sources[0].lengths.tolist()
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    width = options.n_best if options.sample else options.beam
    asked = replace(options, n_best=options.beam) if options.consensus else options
    found: list[list[Hypothesis]] = [[] for _ in lengths]
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * width * lengths[order[end]] <= batch_tokens:
            end += 1
        rows, backwards = order[start:end], steppers[0].model.config.reverse_source
        made = {id(one): one.collate(np.array(rows), reverse=backwards) for one in sources}  # models may share one
        results = _decode_batch(
            steppers,
            [made[id(one)] for one in sources],
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
    sources: Sequence[Source],
    options: SearchOptions,
    ratio: LengthRatio,
    prefixes: list[Sequence[int]] | None,
    seeds: list[int],
    shortlist: Shortlist | None,
) -> list[list[Hypothesis]]:
    if shortlist is not None:
        assert isinstance(sources[0], TextSource)
        words = shortlist.words(sources[0].ids.numpy(), prefixes or [])
        allowed = torch.from_numpy(words).to(steppers[0].device)
        steppers = [stepper.restricted(allowed) for stepper in steppers]
        prefixes = [np.searchsorted(words, prefix).tolist() for prefix in prefixes] if prefixes else None
        found = _decode_batch(steppers, sources, options, ratio, prefixes, seeds, None)
        return [[replace(one, tokens=words[one.tokens].tolist()) for one in each] for each in found]
    lengths = sources[0].lengths.to(steppers[0].device)
    shortest = (lengths * ratio.low).floor().long()
    longest = (lengths * ratio.high).ceil().long() + _SLACK
    states = [one.start(source.to(one.device)) for one, source in zip(steppers, sources, strict=True)]
    if len(steppers) == 1:
        return search(
            steppers[0].step, states[0], options,
            min_lengths=shortest, max_lengths=longest, prefixes=prefixes, seeds=seeds,
        )  # fmt: skip
    return search(
        average([stepper.step for stepper in steppers]), Ensembled(tuple(states)), options,
        min_lengths=shortest, max_lengths=longest, prefixes=prefixes, seeds=seeds,
    )  # fmt: skip
