"""Consensus: of what a beam ends with, the sentence that agrees most with the others comes first.

This is minimum Bayes risk decoding (Kumar and Byrne 2004, section 2) over the list that the beam ends with: the
expected gain of a sentence is the mean of its similarity to all, weighted by their probability. For captions see Devlin
et al. (2015), section 3.2. Similar is what shares n-grams as CIDEr-D counts them (Vedantam et al. 2015, sections 4 and
5), without weights of document frequency, so that nothing but the list itself is needed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from nmt.search import Hypothesis

_ORDERS = 4
_SIGMA = 6.0


def by_consensus(hypotheses: Sequence[Hypothesis], temperature: float) -> list[Hypothesis]:
    """The hypotheses of one source in their new order, the score of each being its agreement with all, 0 to 1.

    Args:
        temperature: Above 0. Probabilities are raised to 1 / temperature: where it is small, the most probable
            hypothesis decides alone; where it is large, all count alike.
    """
    log_probs = np.array([one.log_prob for one in hypotheses])
    weights = np.exp((log_probs - log_probs.max()) / temperature)
    agreement = similarities([one.tokens for one in hypotheses]) @ (weights / weights.sum())
    scored = [replace(one, score=float(score)) for one, score in zip(hypotheses, agreement, strict=True)]
    return sorted(scored, key=lambda one: -one.score)


def similarities(sentences: Sequence[Sequence[int]]) -> Float[np.ndarray, "these those"]:
    """How much of these sentences is in those: the mean over n = 1 to 4 of the cosine of n-gram counts, where an n-gram
    counts no more often than in the other, and less where the lengths differ."""
    lengths = np.array([len(tokens) for tokens in sentences])
    total = np.zeros((len(sentences), len(sentences)))
    for order in range(1, _ORDERS + 1):
        counted = [Counter(zip(*(one[start:] for start in range(order)), strict=False)) for one in sentences]
        places = {ngram: place for place, ngram in enumerate(dict.fromkeys(gram for one in counted for gram in one))}
        counts = np.zeros((len(sentences), len(places)))
        for row, one in enumerate(counted):
            counts[row, [places[ngram] for ngram in one]] = list(one.values())
        norms = np.linalg.norm(counts, axis=1).clip(min=1e-9)
        shared = np.minimum(counts[:, None], counts[None]) * counts[None]
        total += shared.sum(-1) / (norms[:, None] * norms)
    near: Float[np.ndarray, "these those"] = np.exp(-((lengths[:, None] - lengths) ** 2) / (2 * _SIGMA**2))
    return near * total / _ORDERS
