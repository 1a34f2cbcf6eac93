"""CIDEr-D: how far a caption agrees with what several people wrote about the same image.

Vedantam, Zitnick, Parikh 2015, "CIDEr: Consensus-based Image Description Evaluation", section 4 and, for CIDEr-D,
section 5: the mean over n = 1 to 4 of the cosine between the caption's and each reference's n-gram counts, weighted by
their inverse document frequency; an n-gram counts no more often than in the reference, and a caption of another length
is punished with a Gaussian of sigma 6 words; times 10.

A document is an image: the document frequency of an n-gram is the number of images with it in any of their references.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

_ORDERS = 4
_SIGMA = 6.0

Tokens = Sequence[Hashable]
_Ngram = tuple[Hashable, ...]


def _ngrams(tokens: Tokens) -> Iterator[_Ngram]:
    """Every 1- to 4-gram, as often as it stands there."""
    for order in range(1, _ORDERS + 1):
        yield from zip(*(tokens[start:] for start in range(order)), strict=False)


class CiderD:
    """The score with document frequencies that are counted once, as self-critical training needs it.

    Tokens are words or ids, the end token among them if the caller puts it there (on both sides: Rennie et al. 2017
    count it, so that a caption that breaks off is not rewarded; coco-caption does not).
    """

    def __init__(self, references: Iterable[Sequence[Tokens]]) -> None:
        """Count the document frequencies in the references of a training set, image by image.

        Raises:
            ValueError: there is no image.
        """
        counts = Counter[_Ngram]()
        images = 0
        for image in references:
            images += 1
            counts.update({ngram for tokens in image for ngram in _ngrams(tokens)})
        if not images:
            raise ValueError("CIDEr needs the references of at least one image")
        # An n-gram of no image has the weight of one image's, so neither kind is stored: most n-grams are rare.
        self._rare = math.log(images)
        self._weights = {ngram: self._rare - math.log(count) for ngram, count in counts.items() if count > 1}

    def scores(
        self, candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
    ) -> Float[np.ndarray, " captions"]:
        """The score of each caption, 0 to 10; the references of several samples for one image are weighted once a call.

        They are not kept from one call to the next: for a large training set that would be gigabytes, to save what
        takes a fraction of the time that the samples themselves do.

        Raises:
            ValueError: there are not as many lists of references as candidates, or one of them is empty.
        """
        scores = np.zeros(len(candidates))
        known: dict[tuple[tuple[Hashable, ...], ...], _Consensus] = {}
        for row, (candidate, image) in enumerate(zip(candidates, references, strict=True)):
            if not image:
                raise ValueError(f"caption {row} (counted from 0) has no references to be compared with")
            key = tuple(tuple(tokens) for tokens in image)
            if key not in known:
                known[key] = _Consensus([self._vector(tokens) for tokens in image])
            scores[row] = known[key].score(self._vector(candidate))
        return scores

    def _vector(self, tokens: Tokens) -> "_Vector":
        return _Vector(Counter(_ngrams(tokens)), len(tokens), self)

    def weight(self, ngram: _Ngram) -> float:
        """Its inverse document frequency, log(images / images with it)."""
        return self._weights.get(ngram, self._rare)


class _Vector:
    """Weighted n-gram counts of one caption and their norm for each n."""

    def __init__(self, counts: Counter[_Ngram], words: int, metric: CiderD) -> None:
        self.values: dict[_Ngram, float] = {}
        squares = [0.0] * _ORDERS
        for ngram, count in counts.items():
            value = count * metric.weight(ngram)
            self.values[ngram] = value
            squares[len(ngram) - 1] += value * value
        self.norms = [math.sqrt(square) for square in squares]
        self.length = max(0, words - 1)  # the original counts bigrams: only an empty caption has a length of its own


class _Consensus:
    """The references of one image, turned over: for each n-gram, the references with it."""

    def __init__(self, vectors: list[_Vector]) -> None:
        self._lengths = [vector.length for vector in vectors]
        self._found: dict[_Ngram, list[tuple[int, float, float]]] = {}  # reference, value, value / norm
        for reference, vector in enumerate(vectors):
            for ngram, value in vector.values.items():
                if value:
                    share = value / vector.norms[len(ngram) - 1]
                    self._found.setdefault(ngram, []).append((reference, value, share))

    def score(self, candidate: _Vector) -> float:
        sums = [0.0] * len(self._lengths)
        for ngram, value in candidate.values.items():
            norm = candidate.norms[len(ngram) - 1]
            for reference, other, share in self._found.get(ngram, ()):
                sums[reference] += min(value, other) * share / norm
        total = 0.0
        for cosines, length in zip(sums, self._lengths, strict=True):
            total += cosines * math.exp(-((candidate.length - length) ** 2) / (2 * _SIGMA**2))
        return 10 * total / (_ORDERS * len(self._lengths))
