"""From raw text to translations: `Translator.load("RUN/model").translate(["Ein Hund schläft."])`.

Text of any kind goes in, and every text comes back translated, in its place:

- A blank text has the empty translation, and the model is not asked.
- A text longer than any that the model was trained on is cut into pieces of at most that length, after the end of
  a sentence if there is one. The i-th translation of such a text is made of the i-th best of every piece, and their
  log-probabilities and scores are summed. The forced prefix goes to the first piece. A model that learnt from
  truncated text, or answers the end of a dialogue, is given one piece, truncated as its training text was.
- A translation is one line: words with single spaces between them and no line end of any kind.

The hypotheses of a text differ in their tokens. Two of them may read the same all the same, where different tokens
join to the same text; both are kept, since their log-probabilities are of different events.

Where unknown tokens are replaced, the word of the source is copied as it was typed, though the model may have read it
in lower case.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from data.dialogues import clip
from data.errors import UserError
from data.length_ratio import LengthRatio
from data.shortlist import Shortlist
from data.source import Ragged
from data.tokenizer import UNK_ID, Tokenizer
from nmt.checkpoint import TrainedModel, load_model
from nmt.decoding import decode
from nmt.explanation import Explanation, explain
from nmt.scoring import PairScore, score_pairs
from nmt.search import Hypothesis
from nmt.search_options import SearchOptions
from nmt.stepper import Precision, Stepper
from nmt.translation_options import TranslationOptions
from nmt.unknown_words import most_read
from nmt.written import WrittenHypothesis

_DEFAULTS = TranslationOptions()
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
        pieces: In how many pieces it was translated: none if it is blank, several if it was too long; one too if the
            model was trained on truncated text and read only a part of it.
    """

    source: str
    text: str
    hypotheses: list[WrittenHypothesis]
    unknown: int
    tokens: int
    pieces: int


class Translator:
    """A model, or an ensemble of several that share their vocabularies, with its tokenizers."""

    def __init__(
        self,
        models: Sequence[TrainedModel],
        names: Sequence[str] = (),
        *,
        precision: Precision = "float32",
        shortlist: Shortlist | None = None,
    ) -> None:
        """Puts the models into evaluation mode, and translates with the weights that they have now.

        Args:
            models: At least one.
            names: What error messages call them.
            precision: What decoding is computed in: see `nmt.stepper.Stepper`.
            shortlist: What translations are made of, given their sources: see `nmt.decoding.decode`.

        Raises:
            UserError: The models do not fit together, or the device does not compute in that precision.
        """
        first = models[0]
        assert first.source is not None
        names = names or [f"model {i}" for i in range(1, len(models) + 1)]
        for model, name in zip(models, names, strict=True):
            check_pair(first, model, names[0], name)
            model.model.eval()
        self._models, self._name = [model.model for model in models], ", ".join(names)
        self._steppers, self._shortlist = [Stepper(model, precision) for model in self._models], shortlist
        self.has_attention = any(model.decoder.attention is not None for model in self._models)
        self._source, self._target = first.source, first.target
        ratios = [model.length_ratio for model in models]
        mean = sum(ratio.mean for ratio in ratios) / len(ratios)
        self._ratio = LengthRatio(min(r.low for r in ratios), mean, max(r.high for r in ratios))
        self.max_length = min(model.max_length for model in models)
        self._truncates, self._history = first.truncates, first.history

    @classmethod
    def load(
        cls,
        path: Path | str | Sequence[Path | str],
        device: torch.device | None = None,
        *,
        precision: Precision = "float32",
        shortlist: Path | str | None = None,
    ) -> "Translator":
        """Read a model directory, or several for an ensemble; by default onto the GPU if there is one.

        Args:
            shortlist: A file that scripts/make_shortlist.py has made for these models.

        Raises:
            UserError: A directory is none, is damaged, or does not fit the others, or the device does not compute in
                that precision; or the shortlist is none or was made for other vocabularies.
        """
        paths = [Path(path)] if isinstance(path, Path | str) else [Path(one) for one in path]
        if not paths:
            raise ValueError("no model directory given")
        models, allowed = [load_model(one, device) for one in paths], None
        if shortlist is not None:
            assert models[0].source is not None
            allowed = Shortlist.load(Path(shortlist), models[0].source, models[0].target)
        return cls(models, [str(one) for one in paths], precision=precision, shortlist=allowed)

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
            options: How translations are searched for; TranslationOptions may also have unknown words replaced.
            prefixes: What each translation must begin with; "" is nothing. Blank texts ignore it.
            first_line: The number of the first text. Sampling draws for each text by `options.seed` and its number,
                so a long list may be given in parts.
            batch_tokens: The most cells of a batch: sentences times beam times longest source. Takes memory, and
                time where it is small.

        Raises:
            UserError: The target vocabulary lacks a word of a prefix, or `check` refuses the options.
        """
        options = TranslationOptions.of(options)
        self.check(options)
        if isinstance(texts, str):
            raise TypeError("texts must be a list of strings, not one string")
        if prefixes is not None and len(prefixes) != len(texts):
            raise ValueError(f"{len(prefixes)} prefixes for {len(texts)} texts: give one for each")
        ids = self._encode(texts)
        pieces = [self._pieces(sentence) for sentence in ids]
        places = [(i, part) for i, parts in enumerate(pieces) for part in range(len(parts))]
        encoded = {prefix: self.encode_prefix(prefix) for prefix in {"", *(prefixes or [])}}
        forced = [encoded[prefix] for prefix in prefixes or [""] * len(texts)]
        read = [pieces[i][part] for i, part in places]
        found = decode(
            self._steppers,
            [Ragged.of(read)] * len(self._steppers),
            options.for_search(),
            self._ratio,
            batch_tokens=batch_tokens,
            prefixes=[forced[i] if part == 0 else [] for i, part in places],
            seeds=[(part << 40) + first_line + i for i, part in places],
            shortlist=self._shortlist,
        )
        unknown: list[list[list[str]]] = [[[] for _ in hypotheses] for hypotheses in found]
        if options.replace_unknown:
            typed = (self._source.typed(_encodable(text)) for text in texts)
            words = [part for both in zip(typed, pieces, strict=True) for part in self._by_piece(*both)]
            unknown = most_read(self._models, read, found, words, batch_tokens=batch_tokens)
        by_text: list[list[list[tuple[Hypothesis, list[str]]]]] = [[] for _ in texts]
        for (i, _), hypotheses, its in zip(places, found, unknown, strict=True):
            by_text[i].append(list(zip(hypotheses, its, strict=True)))
        return [self._join(*every) for every in zip(texts, ids, by_text, strict=True)]

    def check(self, options: SearchOptions) -> None:
        """Raises UserError if the models cannot do what the options ask for."""
        levels = self._source.level, self._target.level
        TranslationOptions.of(options).check(self._name, attention=self.has_attention, levels=levels)

    def score(
        self, sources: Sequence[str], targets: Sequence[str], *, batch_tokens: int = 4096
    ) -> list[PairScore | None]:
        """How probable given translations are, in their order; None where the source is blank.

        Long sentences are read whole. Target words that the model does not know count as the unknown token.
        """
        if len(sources) != len(targets):
            raise ValueError(f"{len(targets)} targets for {len(sources)} sources: give one for each")
        source = self._encode(sources)
        target = self._target.encode_segmented([self._target.segment(_encodable(text)) for text in targets])
        rows = [i for i, ids in enumerate(source) if len(ids)]
        pairs = Ragged.of([source[i] for i in rows]), Ragged.of([target[i] for i in rows])
        found: list[PairScore | None] = [None] * len(sources)
        for i, score in zip(rows, score_pairs(self._models, *pairs, batch_tokens=batch_tokens), strict=True):
            found[i] = score
        return found

    @torch.no_grad()
    def sentence_vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "texts features"]:
        """What the encoder ends with: the output of each of its layers after the last word it reads, side by side.

        Of an ensemble it is the first model's.

        Raises:
            UserError: A text is blank.
        """
        ids = self._encode(texts)
        if [] in ids:
            raise UserError(f"text {ids.index([]) + 1} is blank: leave it out")
        model, vectors = self._models[0], []
        for one in ids:
            source = Ragged.of([one]).collate(np.zeros(1, np.int64), reverse=model.config.reverse_source)
            context = model.encode(source.to(next(model.parameters()).device))
            ends = context.vector if context.state is None else context.state.hidden
            assert ends is not None  # an encoder of text always ends with something
            vectors.append(ends.flatten().float().cpu().numpy())
        return np.stack(vectors)

    def explain(self, translation: Translation) -> list[Explanation]:
        """How the model came to the best translation of a text, for each of its pieces."""
        segmented = self._source.segment(_encodable(translation.source))
        ids = self._source.encode_segmented([segmented])[0]
        pieces = self._pieces(ids)
        labels = self._by_piece(self._source.surface(segmented), pieces)
        return explain(self._models, Ragged.of(pieces), translation.hypotheses[0].parts, self._target, labels)

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

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._source.encode_segmented([self._source.segment(_encodable(text)) for text in texts])

    def _pieces(self, ids: Sequence[int]) -> list[Sequence[int]]:
        """What the model reads of a text; none of nothing."""
        if ids and (self._truncates or self._history):
            return [clip(ids, self.max_length, end=self._history > 0)]
        return cut(ids, self._source, self.max_length)

    def _by_piece(self, tokens: Sequence[str], pieces: Sequence[Sequence[int]]) -> list[list[str]]:
        """The tokens of a text that its pieces were made of; some at an end may be in none."""
        unread = len(tokens) - sum(map(len, pieces)) if self._history else 0  # of a dialogue, its beginning
        rest = islice(tokens, unread, None)
        return [list(islice(rest, len(piece))) for piece in pieces]

    def _join(self, text: str, ids: list[int], pieces: list[list[tuple[Hypothesis, list[str]]]]) -> Translation:
        """The translation of a text from the hypotheses of its pieces, each with the words for its unknown tokens."""
        ranks = list(zip(*pieces, strict=False)) if pieces else [()]  # as many as the piece with fewest has
        hypotheses = [
            WrittenHypothesis.of([one for one, _ in parts], self._target, [unknown for _, unknown in parts])
            for parts in ranks
        ]
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
