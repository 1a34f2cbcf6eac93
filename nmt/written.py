"""A hypothesis as text: what translating and captioning give to those who use them."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.tokenizer import Tokenizer
from nmt.search import Hypothesis


@dataclass(frozen=True)
class WrittenHypothesis:
    """One translation of a text, or one caption of an image.

    Args:
        text: Detokenized, on one line.
        tokens: The entries of the target vocabulary that were written.
        log_prob: Natural logarithm of the probability that the model gives to these tokens.
        score: The log-probability after length penalty, which hypotheses are ranked by.
        finished: Whether the model ended it itself, before the longest allowed length.
        parts: What it is written from: the hypotheses of the pieces of a text, or a single one.
    """

    text: str
    tokens: list[str]
    log_prob: float
    score: float
    finished: bool
    parts: Sequence[Hypothesis] = ()

    @classmethod
    def of(cls, parts: Sequence[Hypothesis], target: Tokenizer) -> "WrittenHypothesis":
        """`parts` written one after the other."""
        return cls(
            " ".join(word for one in parts for word in target.decode(one.tokens).split()),
            [token for one in parts for token in target.tokens(one.tokens)],
            float(sum(one.log_prob for one in parts)),
            float(sum(one.score for one in parts)),
            all(one.finished and not one.cut_off for one in parts),
            parts,
        )
