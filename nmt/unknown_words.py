"""Words of the source for the unknown tokens of translations (Luong et al. 2015, section 4.1)."""

from collections.abc import Sequence

from data.tokenizer import UNK_ID
from nmt.explanation import attention_weights
from nmt.model import SequenceModel
from nmt.search import Hypothesis


def most_read(
    models: Sequence[SequenceModel],
    sources: Sequence[Sequence[int]],
    found: Sequence[Sequence[Hypothesis]],
    words: Sequence[Sequence[str]],
    *,
    batch_tokens: int = 4096,
) -> list[list[list[str]]]:
    """For each unknown token of each hypothesis of each source, the word that was attended to most at its step.

    Args:
        models: At least one with attention.
        words: What stands at each position of each source, as typed.
    """
    holding = [[one for one in its if UNK_ID in one.tokens] for its in found]
    attended = [iter(its) for its in attention_weights(models, sources, holding, batch_tokens=batch_tokens)]
    return [
        [
            [its[int(row.argmax())] for token, row in zip(one.tokens, next(weights), strict=False) if token == UNK_ID]
            if UNK_ID in one.tokens
            else []
            for one in hypotheses
        ]
        for hypotheses, weights, its in zip(found, attended, words, strict=True)
    ]
