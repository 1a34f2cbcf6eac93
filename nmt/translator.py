"""From raw text to translations: `Translator.load("RUN/model").translate(["Ein Hund schläft."])`.

Text of any kind goes in, and every text comes back translated, in its place:

- A blank text has the empty translation, and the model is not asked.
- A text longer than any that the model was trained on is cut into pieces of at most that length, after the end of
  a sentence if there is one. The i-th translation of such a text is made of the i-th best of every piece, and their
  log-probabilities and scores are summed. The forced prefix goes to the first piece.
- A translation is one line: words with single spaces between them and no line end of any kind.

The hypotheses of a text differ in their tokens. Two of them may read the same all the same, where different tokens
join to the same text; both are kept, since their log-probabilities are of different events.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data.errors import UserError
from data.length_ratio import LengthRatio
from data.source import Ragged
from data.tokenizer import UNK_ID, Tokenizer
from nmt.checkpoint import TrainedModel, load_model
from nmt.decoding import decode
from nmt.search import Hypothesis, SearchOptions
from nmt.written import WrittenHypothesis

_DEFAULTS = SearchOptions()
_SPACE_MARK = "\u2581"  # begins a token that has a space before it
_ENDS_BEFORE_SPACE = re.compile(rf"{_SPACE_MARK}?[.!?…։؟۔।॥]+[\"'”’»)\]]*")
_ENDS = re.compile(rf"{_SPACE_MARK}?[。．！？｡]+[」』”）]*")  # of writing without spaces


@dataclass(frozen=True)
class Translation:
    """What became of one text.

    Args:
        source: The text as it was given.
        text: Its best translation.
        hypotheses: At most `n_best` translations, best first, and never none.
        unknown: How many tokens of the source the model does not know.
        tokens: How many tokens the source has; none if it is blank.
        pieces: In how many pieces it was translated: none if it is blank, several if it was too long.
    """

    source: str
    text: str
    hypotheses: list[WrittenHypothesis]
    unknown: int
    tokens: int
    pieces: int


class Translator:
    """A model, or an ensemble of several that share their vocabularies, with its tokenizers."""

    def __init__(self, models: Sequence[TrainedModel], names: Sequence[str] = ()) -> None:
        """Puts the models into evaluation mode.

        Args:
            models: At least one.
            names: What error messages call them.

        Raises:
            UserError: The models do not fit together.
        """
        first = models[0]
        assert first.source is not None
        names = names or [f"model {i}" for i in range(1, len(models) + 1)]
        for model, name in zip(models, names, strict=True):
            check_pair(first, model, names[0], name)
            model.model.eval()
        self._models = [model.model for model in models]
        self._source, self._target = first.source, first.target
        ratios = [model.length_ratio for model in models]
        mean = sum(ratio.mean for ratio in ratios) / len(ratios)
        self._ratio = LengthRatio(min(r.low for r in ratios), mean, max(r.high for r in ratios))
        self.max_length = min(model.max_length for model in models)

    @classmethod
    def load(cls, path: Path | str | Sequence[Path | str], device: torch.device | None = None) -> "Translator":
        """Read a model directory, or several for an ensemble; by default onto the CPU.

        Raises:
            UserError: A directory is none, is damaged, or does not fit the others.
        """
        paths = [Path(path)] if isinstance(path, Path | str) else [Path(one) for one in path]
        if not paths:
            raise ValueError("no model directory given")
        return cls([load_model(one, device) for one in paths], [str(one) for one in paths])

    def translate(
        self,
        texts: Sequence[str],
        options: SearchOptions = _DEFAULTS,
        *,
        prefixes: Sequence[str] | None = None,
        first_line: int = 0,
        batch_tokens: int = 4096,
    ) -> list[Translation]:
        """Translate texts, one sentence each, in their order.

        Args:
            texts: Any text.
            options: How translations are searched for.
            prefixes: What each translation must begin with; "" is nothing. Blank texts ignore it.
            first_line: The number of the first text. Sampling draws for each text by `options.seed` and its number,
                so a long list may be given in parts.
            batch_tokens: The most cells of a batch: sentences times beam times longest source. Takes memory, and
                time where it is small.

        Raises:
            UserError: The target vocabulary lacks a word of a prefix.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of strings, not one string")
        if prefixes is not None and len(prefixes) != len(texts):
            raise ValueError(f"{len(prefixes)} prefixes for {len(texts)} texts: give one for each")
        ids = self._source.encode_segmented([self._source.segment(_encodable(text)) for text in texts])
        pieces = [cut(sentence, self._source, self.max_length) for sentence in ids]
        places = [(i, part) for i, parts in enumerate(pieces) for part in range(len(parts))]
        encoded = {prefix: self.encode_prefix(prefix) for prefix in {"", *(prefixes or [])}}
        forced = [encoded[prefix] for prefix in prefixes or [""] * len(texts)]
        found = decode(
            self._models,
            Ragged.of([pieces[i][part] for i, part in places]),
            options,
            self._ratio,
            batch_tokens=batch_tokens,
            prefixes=[forced[i] if part == 0 else [] for i, part in places],
            seeds=[(part << 40) + first_line + i for i, part in places],
        )
        by_text: list[list[list[Hypothesis]]] = [[] for _ in texts]
        for (i, _), hypotheses in zip(places, found, strict=True):
            by_text[i].append(hypotheses)
        return [self._join(*each) for each in zip(texts, ids, by_text, strict=True)]

    def encode_prefix(self, prefix: str) -> list[int]:
        """The target ids of what a translation must begin with; raises UserError if the vocabulary lacks a word."""
        text = _encodable(prefix)
        ids = self._target.encode(text)
        if UNK_ID in ids:
            parts = self._target.segment(text).split()
            lacking = next((part for part in parts if UNK_ID in self._target.encode_segmented([part])[0]), text)
            raise UserError(
                f"the prefix {prefix!r} cannot be written: {lacking!r} is not in the model's target vocabulary"
            )
        return ids

    def _join(self, text: str, ids: list[int], pieces: list[list[Hypothesis]]) -> Translation:
        """The translation of a text from the hypotheses of its pieces."""
        ranks = list(zip(*pieces, strict=False)) if pieces else [()]  # as many as the piece with fewest has
        hypotheses = [WrittenHypothesis.of(parts, self._target) for parts in ranks]
        return Translation(text, hypotheses[0].text, hypotheses, ids.count(UNK_ID), len(ids), len(pieces))


def cut(ids: Sequence[int], tokenizer: Tokenizer, most: int) -> list[Sequence[int]]:
    """Pieces of at most `most` tokens; none of nothing.

    Each but the last ends with the last sentence that ends in its first `most` tokens, else before the last word
    that begins there, else where it must.
    """
    pieces: list[Sequence[int]] = []
    start = 0
    while len(ids) - start > most:
        window = tokenizer.tokens(ids[start : start + most + 1])
        starts_word = [token.startswith(_SPACE_MARK) for token in window]
        after_sentence = (
            n
            for n in range(most, 0, -1)
            if _ENDS.fullmatch(window[n - 1]) or (starts_word[n] and _ENDS_BEFORE_SPACE.fullmatch(window[n - 1]))
        )
        before_word = (n for n in range(most, 0, -1) if starts_word[n])
        end = start + next(after_sentence, next(before_word, most))
        pieces.append(ids[start:end])
        start = end
    return [*pieces, ids[start:]] if len(ids) else []


def _encodable(text: str) -> str:
    """The text with halves of surrogate pairs, which no encoding can write, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def check_pair(first: TrainedModel, other: TrainedModel, name: str, other_name: str) -> None:
    """Raises UserError if two models cannot write one translation together."""
    differences: Iterable[tuple[bool, str]] = (
        (first.source != other.source, "their source vocabularies differ"),
        (first.target != other.target, "their target vocabularies differ"),
        (first.config.get("frames") != other.config.get("frames"), "their frames have other features"),
        (
            first.model.config.reverse_source != other.model.config.reverse_source,
            "one of them reads the source backwards",
        ),
    )
    for differ, what in differences:
        if differ:
            raise UserError(
                f"{name} and {other_name} cannot be used together: {what}. Ensembles need models trained on one "
                "prepared directory with one setting of model.reverse_source"
            )
