"""How translations are searched for."""

import math
from dataclasses import dataclass, fields
from typing import TypeVar

S = TypeVar("S", bound="SearchOptions")


@dataclass(frozen=True)
class SearchOptions:
    """How translations are searched for.

    Args:
        beam: Partial hypotheses kept at every step of beam search; 1 is greedy search.
        n_best: Translations returned per sentence, at most the beam; when sampling, the number of samples.
        length_penalty: Exponent a >= 0 of the score, log-probability / length**a, where the length counts the
            end token (Wu et al. 2016, section 7, before their constant offset); 0 scores by log-probability.
        sample: Draw translations from the model, token by token, instead of searching for the best.
        temperature: Sampling divides log-probabilities by this: under 1 sharpens, over 1 flattens.
        top_k: Sampling draws from the k most probable tokens only (Fan et al. 2018); 0 is off.
        top_p: Sampling draws from the fewest tokens that hold this much probability (Holtzman et al. 2020),
            counted within the top k; 1 is off.
        seed: Seed of sampling.
        allow_unknown: Whether the unknown token may be written.
        consensus: Put first what agrees most with all that the beam ends with, their probabilities raised to
            1 / consensus (see `nmt.consensus`); 0 is off. Scores are then agreements, from 0 to 1.
    """

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1
    allow_unknown: bool = False
    consensus: float = 0.0

    @classmethod
    def of(cls: type[S], options: "SearchOptions") -> S:
        """The same options; those that only this class has are off where they are not said."""
        if isinstance(options, cls):
            return options
        return cls(**{field.name: getattr(options, field.name) for field in fields(SearchOptions)})

    def __post_init__(self) -> None:
        """Refuse what cannot be searched with, and what would silently do nothing."""
        problems = [
            ("beam", self.beam < 1, "must be at least 1"),
            ("n_best", self.n_best < 1, "must be at least 1"),
            ("n_best", self.n_best > self.beam and not self.sample,
             f"exceeds --search.beam {self.beam}: widen the beam or ask for fewer"),
            ("length_penalty", not 0 <= self.length_penalty < math.inf, "must be a number, at least 0"),
            ("temperature", not 0 < self.temperature < math.inf, "must be a number above 0"),
            ("top_k", self.top_k < 0, "must be at least 1, or 0 for off"),
            ("top_p", not 0 < self.top_p <= 1, "must be above 0 and at most 1, which is off"),
            ("temperature", self.temperature != 1 and not self.sample, "needs --search.sample true"),
            ("top_k", self.top_k != 0 and not self.sample, "needs --search.sample true"),
            ("top_p", self.top_p != 1 and not self.sample, "needs --search.sample true"),
            ("consensus", not 0 <= self.consensus < math.inf, "must be a number above 0, or 0 for off"),
            ("consensus", self.consensus > 0 and self.sample,
             "orders what a beam has found: leave out --search.sample true"),
            ("consensus", self.consensus > 0 and self.beam == 1,
             "needs --search.beam 2 or more: a beam of 1 has nothing to put in order"),
        ]  # fmt: skip
        for flag, wrong, why in problems:
            if wrong:
                raise ValueError(f"--search.{flag} {getattr(self, flag)} {why}")
