"""How much of the source hypotheses have attended to, and their order with that counted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from nmt.search import Hypothesis


def coverage(weights: Float[np.ndarray, "steps positions"]) -> float:
    """Sum over the source's positions of the logarithm of the attention they got, at most 1 each: 0 where every word
    was attended to as much as one word can be, the lower the more was left out.

    Wu et al. (2016), equation 14, without the weight.
    """
    received = np.maximum(weights.sum(0, dtype=np.float64), np.finfo(np.float32).tiny)  # finite where nothing was read
    return float(np.log(np.minimum(received, 1.0)).sum())


def rank_by_coverage(hypotheses: Sequence[Hypothesis], coverages: Sequence[float], penalty: float) -> list[Hypothesis]:
    """The hypotheses of one source in their new order, `penalty` times the coverage added to the score of each; equals
    keep their order."""
    scored = [replace(one, score=one.score + penalty * its) for one, its in zip(hypotheses, coverages, strict=True)]
    return sorted(scored, key=lambda one: -one.score)
