"""How long translations are for their sources."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LengthRatio:
    """Target tokens for one source token in training: 0.5th and 99.5th percentile over pairs, and the mean."""

    low: float
    mean: float
    high: float


def length_ratio(source: npt.NDArray[np.int32], target: npt.NDArray[np.int32]) -> LengthRatio:
    """How long targets are for their sources; search takes its shortest and longest output from this."""
    both = (source > 0) & (target > 0)
    if not both.any():
        return LengthRatio(0.5, 1.0, 2.0)
    ratios = target[both] / source[both]
    low, high = np.percentile(ratios, [0.5, 99.5])
    return LengthRatio(float(low), float(target[both].sum() / source[both].sum()), float(high))
