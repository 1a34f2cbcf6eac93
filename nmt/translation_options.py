"""How translations are searched for, and what the attention behind them is used for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from data.errors import UserError
from nmt.search_options import SearchOptions


@dataclass(frozen=True)
class TranslationOptions(SearchOptions):
    """The options of search, and those that need a text to have been attended to.

    Args:
        replace_unknown: Let the unknown token be written, and put in its place the word of the source, as typed, that
            was attended to most at that step (Luong et al. 2015, section 4.1; Jean et al. 2015, section 3.3). For
            vocabularies of words.
        coverage_penalty: Weight b >= 0 of the coverage (Wu et al. 2016, equation 14) that is added to the scores of
            the hypotheses which the beam ends with, before the best are taken; 0 is off.
    """

    replace_unknown: bool = False
    coverage_penalty: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        penalty = self.coverage_penalty
        problems = [
            (not 0 <= penalty < math.inf, "must be a number, at least 0"),
            (penalty > 0 and self.sample, "orders what a beam has found: leave out --search.sample true"),
            (penalty > 0 and self.beam == 1, "needs --search.beam 2 or more: a beam of 1 has nothing to put in order"),
        ]
        for wrong, why in problems:
            if wrong:
                raise ValueError(f"--search.coverage_penalty {penalty} {why}")

    @classmethod
    def of(cls, options: SearchOptions) -> "TranslationOptions":
        """The same options; those that only a translation has are off where they are not said."""
        if isinstance(options, cls):
            return options
        return cls(**{field.name: getattr(options, field.name) for field in fields(SearchOptions)})

    def for_search(self, *, whole_beam: bool) -> "TranslationOptions":
        """What search has to be asked for: all that the beam ends with if it is put in a new order afterwards."""
        n_best = self.beam if whole_beam else self.n_best
        return replace(self, n_best=n_best, allow_unknown=self.allow_unknown or self.replace_unknown)

    def check(self, name: str, *, attention: bool, levels: Iterable[str]) -> None:
        """Raises UserError if `name`, a model with or without attention and vocabularies of these levels, cannot do
        what is asked for."""
        for option, asked in (
            ("replace_unknown (--replace-unknown)", self.replace_unknown),
            ("coverage_penalty (--coverage-penalty)", self.coverage_penalty > 0),
        ):
            if asked and not attention:
                raise UserError(
                    f"{name} has no attention, so nobody can tell what it read for a word: leave out {option}, or "
                    "train with model.attention general"
                )
        other = next((level for level in levels if level != "word"), None)
        if self.replace_unknown and other:
            raise UserError(
                f"{name} has a vocabulary of level {other}, not of words, and writes unknown words in parts: leave out "
                "replace_unknown (--replace-unknown)"
            )
