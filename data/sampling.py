"""Other segmentations of the same words, drawn anew in every epoch: BPE-dropout and unigram sampling.

sentencepiece draws segmentations, too, but salts its random numbers in every process, whatever the seed: a resumed run
would see other data, and processes that train together would disagree. It serves here for what is not random.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data.errors import UserError
from data.pool import Pool
from data.source import Ragged
from data.tokenizer import SPACE_MARK, SPECIAL_IDS, UNK_ID, Tokenizer

_DRAWS = 64  # of one word in one pool, which its further occurrences share: to draw for each takes twice as long
_N_BEST = 64  # as in the experiments of Kudo 2018
_MOST_KEPT = 1 << 15  # words whose segmentations are remembered

Word = tuple[int, ...]


def check_levels(rate: float, levels: Mapping[str, str]) -> None:
    """Raises UserError if words are to be cut in other ways (`rate` above 0) on a side whose level has only one."""
    for side, level in levels.items():
        if rate and level not in ("bpe", "unigram"):
            raise UserError(
                f"training.subword_sampling is {rate:g}, but the {side} is cut into {level}s, which can be done in one "
                "way only: prepare it with level bpe or unigram, or leave the option out"
            )


class SubwordSampling:
    """Gives the sentences of a pool other segmentations into the same vocabulary; what they decode to stays.

    Words that hold an unknown token, or whose beginning was cut off, stay as they are.
    """

    def __init__(self, source: Tokenizer | None, target: Tokenizer, rate: float) -> None:
        """
        Args:
            source: None where sources are no text.
            rate: At level bpe, how often a merge is left out where it could be made (Provilkov et al. 2020, section 3).
                At level unigram, the power that the probabilities of the 64 best segmentations are raised to (Kudo
                2018, section 3.3): the smaller, the more often the worse ones are drawn.

        Raises:
            UserError: there is only one segmentation into words or characters.
        """
        self._source = _Sampler("source", source, rate) if source else None
        self._target = _Sampler("target", target, rate)

    def __call__(self, pool: Pool, numbers: np.random.Generator) -> Pool:
        """What is drawn depends on nothing but the pool and the state of `numbers`."""
        draw = random.Random(int(numbers.integers(1 << 63)))  # for single numbers, faster than numpy's
        source = pool.source
        if self._source:
            assert isinstance(source, Ragged)
            source = self._source(source, draw)
        return Pool(source, self._target(pool.target, draw), pool.rows)


class _Sampler:
    """Draws segmentations with one tokenizer."""

    def __init__(self, side: str, tokenizer: Tokenizer, rate: float) -> None:
        check_levels(rate, {side: tokenizer.level})
        self._tokenizer, self._rate = tokenizer, rate
        self._tokens = tokenizer.tokens(range(len(tokenizer)))
        self._begins = [token.startswith(SPACE_MARK) for token in self._tokens]
        # special entries are no text, whatever text looks like them
        self._ids = {token: i for i, token in enumerate(self._tokens) if i >= SPECIAL_IDS}
        self._n_best: dict[Word, tuple[list[list[int]], list[float]]] = {}
        self._draw = self._draw_merges if tokenizer.level == "bpe" else self._draw_n_best

    def __call__(self, rows: Ragged, draw: random.Random) -> Ragged:
        seen: dict[Word, list[Sequence[int]]] = {}
        made: list[list[int]] = []
        for start, length in zip(rows.offsets.tolist(), rows.lengths.tolist(), strict=True):
            sentence: list[int] = []
            for word in self._words(rows.values[start : start + length].tolist()):
                drawn = seen.setdefault(word, [])
                if len(drawn) < _DRAWS:
                    fixed = UNK_ID in word or not self._begins[word[0]]
                    drawn.append(word if fixed else self._draw(word, draw))
                    sentence += drawn[-1]
                else:
                    sentence += drawn[int(draw.random() * _DRAWS)]
            made.append(sentence)
        return Ragged.of(made)

    def _words(self, ids: list[int]) -> Iterator[Word]:
        start = 0
        for i in range(1, len(ids)):
            if self._begins[ids[i]]:
                yield tuple(ids[start:i])
                start = i
        if ids:
            yield tuple(ids[start:])

    def _draw_merges(self, word: Word, draw: random.Random) -> Sequence[int]:
        """Merge neighbours from characters on, at each step the first learnt of those that are not left out."""
        ids, tokens = self._ids, list("".join(self._tokens[i] for i in word))
        # how many are made before one is left out, drawn at once: mostly all are, and nothing is to be done
        made = int(math.log(1 - draw.random()) / math.log1p(-self._rate))
        if made >= len(tokens) - len(word):
            return word
        while True:
            # pieces are numbered in the order that they were learnt in
            found = sorted((ids[both], i) for i in range(len(tokens) - 1) if (both := tokens[i] + tokens[i + 1]) in ids)
            if made > 0:
                chosen = found[0][1]
            else:
                left = found[1:] if made == 0 else found
                chosen = next((i for _, i in left if draw.random() >= self._rate), -1)
                if chosen < 0:
                    return [ids[token] for token in tokens]
            tokens[chosen : chosen + 2] = [tokens[chosen] + tokens[chosen + 1]]
            made -= 1

    def _draw_n_best(self, word: Word, draw: random.Random) -> list[int]:
        if word not in self._n_best:
            if len(self._n_best) >= _MOST_KEPT:
                self._n_best.clear()
            text = self._tokenizer.decode(word)
            # a lone mark, whose word was cut off, is no text
            found = self._tokenizer.n_best(text, _N_BEST) if text else [(list(word), 0.0)]
            best = found[0][1]
            weights = [math.exp(self._rate * (log_prob - best)) for _, log_prob in found]
            self._n_best[word] = [ids for ids, _ in found], weights
        choices, weights = self._n_best[word]
        return draw.choices(choices, weights)[0]
