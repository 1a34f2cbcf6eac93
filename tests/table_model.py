"""A model of random next-token distributions, and greedy search in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nmt.search import BOS, EOS, UNK, Hypothesis, search


@dataclass(frozen=True)
class Told:
    """The state of a model that looks at everything written so far, in a sentence of its own."""

    sentence: torch.Tensor  # rows
    history: torch.Tensor  # rows, one number for all that was written

    def select(self, rows, sentences=None):
        return Told(self.sentence[rows], self.history[rows])


class TableModel:
    """Random next-token distributions, one for every sentence and everything that can be written before."""

    def __init__(self, vocab: int = 7, seed: int = 0, size: int = 4099, sharpness: float = 1.5):
        generator = torch.Generator().manual_seed(seed)
        self.table = (torch.randn(size, vocab, generator=generator) * sharpness).log_softmax(-1)
        self.vocab, self.size, self.rows = vocab, size, 0

    def start(self, sentences: Sequence[int]) -> Told:
        sentence = torch.tensor(sentences, dtype=torch.long)
        return Told(sentence, torch.zeros_like(sentence))

    def step(self, previous: torch.Tensor, state: Told) -> tuple[torch.Tensor, Told]:
        self.rows += len(previous)
        history = (state.history * 31 + previous + 7 * state.sentence + 1) % self.size
        return self.table[history], Told(state.sentence, history)

    def next(self, sentence: int, written: Sequence[int]) -> torch.Tensor:
        """The log-probabilities after `written`, without any batch."""
        history = 0
        for token in (BOS, *written):
            history = (history * 31 + token + 7 * sentence + 1) % self.size
        return self.table[history]

    def run(self, sentences, options, shortest, longest, **rest) -> list[list[Hypothesis]]:
        lengths = {"min_lengths": torch.tensor(shortest).long(), "max_lengths": torch.tensor(longest).long()}
        return search(self.step, self.start(sentences), options, **lengths, **rest)


def greedy(model: TableModel, sentence: int, shortest: int, longest: int, unknown: bool = False):
    """Plain argmax decoding: tokens and log-probability."""
    tokens: list[int] = []
    total = 0.0
    while True:
        log_probs = model.next(sentence, tokens).tolist()
        may = [UNK] * unknown + list(range(EOS + 1, model.vocab)) if len(tokens) < longest else []
        may += [EOS] if len(tokens) >= min(shortest, longest) else []
        best = max(may, key=lambda token: log_probs[token])
        total += log_probs[best]
        if best == EOS:
            return tokens, total
        tokens.append(best)
