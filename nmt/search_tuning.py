"""What beams and length penalties do to the scores of a text, to choose them by."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from nmt.translation_options import TranslationOptions
from nmt.translator import Translator


@dataclass(frozen=True)
class Tried:
    """A setting of the search and what it gives.

    length_ratio: Words written for each word of the closest references, as BLEU counts both.
    replaced_unknown: How many unknown words were replaced; None if none were to be.
    """

    beam: int
    length_penalty: float
    bleu: float
    chrf: float
    length_ratio: float
    replaced_unknown: int | None

    def command_options(self) -> str:
        """How `translate` is told of it."""
        more = "" if self.replaced_unknown is None else " --replace-unknown"
        return f"--beam {self.beam} --length-penalty {self.length_penalty:g}{more}"

    def recipe_options(self) -> str:
        """How a recipe and `evaluate_translation.py` are told of it."""
        more = "" if self.replaced_unknown is None else " --search.replace_unknown true"
        return f"--search.beam {self.beam} --search.length_penalty {self.length_penalty:g}{more}"


@dataclass(frozen=True)
class Tuning:
    """All settings in the order in which they were tried, and how their scores were computed."""

    tried: list[Tried]
    signatures: dict[str, str]

    @property
    def best(self) -> Tried:
        """The one of highest BLEU; of equals the first."""
        return max(self.tried, key=lambda one: one.bleu)


def tune_search(
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    beams: Sequence[int],
    length_penalties: Sequence[float],
    replace_unknown: bool = False,
    lowercase: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Tuning:
    """Score the translations of a text with every combination of settings.

    Args:
        references: The lines of each reference file.
        lowercase: Score in lower case.
        say: Is told of each search before it.

    Raises:
        UserError: A model cannot do what is to be tried.
        ValueError: There is no such setting.
    """
    bleu, chrf = BLEU(lowercase=lowercase, references=references), CHRF(lowercase=lowercase, references=references)
    plain = TranslationOptions(replace_unknown=replace_unknown)
    searches = [  # all, before the first takes its time
        replace(plain, beam=beam, length_penalty=penalty)
        for beam, penalty in itertools.product(beams, length_penalties)
    ]
    tried = []
    for number, options in enumerate(searches, 1):
        say(f"search {number} of {len(searches)}: beam {options.beam}, length penalty {options.length_penalty:g}")
        found = translator.translate(sources, options)
        lines = [one.text for one in found]
        score = bleu.corpus_score(lines, None)
        tried.append(
            Tried(
                options.beam,
                options.length_penalty,
                float(score.score),
                float(chrf.corpus_score(lines, None).score),
                float(score.ratio),
                sum(one.hypotheses[0].replaced for one in found) if replace_unknown else None,
            )
        )
    return Tuning(tried, {"bleu": bleu.get_signature().format(), "chrf": chrf.get_signature().format()})
