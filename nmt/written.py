"""A hypothesis as text: what translating and captioning give to those who use them."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.tokenizer import Tokenizer
from nmt.search import Hypothesis


@dataclass(frozen=True)
class WrittenHypothesis:
    """One translation of a text, or one caption of an image.

    Args:
        text: As `Tokenizer.decode` writes it, on one line.
        tokens: The entries of the target vocabulary that were written.
        log_prob: Natural logarithm of the probability that the model gives to these tokens.
        score: The log-probability after length penalty, which hypotheses are ranked by.
        finished: Whether the model ended it itself, before the longest allowed length.
        parts: What it is written from: the hypotheses of the pieces of a text, or a single one.
        replaced: How many unknown tokens have words of the source in their place in `text`.
    """

    text: str
    tokens: list[str]
    log_prob: float
    score: float
    finished: bool
    parts: Sequence[Hypothesis] = ()
    replaced: int = 0

    @classmethod
    def of(
        cls, parts: Sequence[Hypothesis], target: Tokenizer, unknown: Sequence[Sequence[str]] = ()
    ) -> "WrittenHypothesis":
        """`parts` written one after the other; `unknown` has, for each, the words for its unknown tokens."""
        words = unknown or [()] * len(parts)
        return cls(
            " ".join(
                word for one, its in zip(parts, words, strict=True) for word in target.decode(one.tokens, its).split()
            ),
            [token for one in parts for token in target.tokens(one.tokens)],
            float(sum(one.log_prob for one in parts)),
            float(sum(one.score for one in parts)),
            all(one.finished and not one.cut_off for one in parts),
            parts,
            sum(map(len, words)),
        )
