"""Text to ids and back, at four levels, each held in one self-contained sentencepiece file.

What sentencepiece has no place for (casing, Unicode form, language, whether text is tokenized already) is
written into fields of its own model format that the library keeps but does not read, so that a tokenizer is
one file and nobody has to remember how the training text was treated.
"""

import functools
import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, cast

import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

from data.errors import UserError

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
SPECIAL_IDS = 4
UNKNOWN_TEXT = "<unk>"
_SPECIAL_PIECES = ["<pad>", UNKNOWN_TEXT, "<s>", "</s>"]

Level = Literal["word", "char", "bpe", "unigram"]
UnicodeForm = Literal["NFC", "NFKC", "none"]

_LEVELS: dict[int, Level] = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SPACE_MARK = "\u2581"  # sentencepiece writes a space as this character
_RESERVED = "\u2585"  # and leaves out of its training whatever holds this one


@dataclass(frozen=True)
class TokenizerConfig:
    """How the text of one side becomes ids.

    Args:
        level: word (Moses tokens, unless `tokenized`), char, bpe or unigram.
        language: Two-letter code; decides the Moses rules at word level.
        tokenized: At word level: the words of the text have spaces between them already. Moses rules are not applied
            then, and what a model writes has spaces between its words, too.
        lowercase: Lower-case all text. The output is then lower-case too.
        unicode: Unicode normal form that text is brought to; NFC changes no visible character.
        vocab_size: The most entries a vocabulary may have, the four special ones included.
        min_count: Words (characters, at every other level) seen less often in the training text become unknown.
    """

    level: Level = "word"
    language: str = "en"
    tokenized: bool = False
    lowercase: bool = False
    unicode: UnicodeForm = "NFC"
    vocab_size: int = 30_000
    min_count: int = 2

    def __post_init__(self) -> None:
        if self.vocab_size <= SPECIAL_IDS:
            raise ValueError(f"vocab_size {self.vocab_size} leaves no room beside the {SPECIAL_IDS} special tokens")
        if self.min_count < 1:
            raise ValueError(f"min_count {self.min_count}: give 1 or more")
        if self.tokenized and self.level != "word":
            raise ValueError(f"tokenized is for level word: at level {self.level} text is read as it stands")


@functools.lru_cache(maxsize=8)
def _moses(language: str) -> tuple[Any, Any]:
    """Tokenizer and detokenizer of one language (making them reads rule files, so once)."""
    import sacremoses  # takes .4 s, and other levels do without

    return sacremoses.MosesTokenizer(lang=language), sacremoses.MosesDetokenizer(lang=language)


class Tokenizer:
    """A trained sentencepiece model, at word level with Moses tokenization around it unless text is tokenized already.

    Ids 0 to 3 are padding, unknown, start and end; `encode` writes none of the last two.
    """

    def __init__(self, model: bytes) -> None:
        """Raises ValueError if `model` is not a sentencepiece model that `train` has made."""
        try:
            proto = ModelProto.FromString(model)
            if [piece.piece for piece in proto.pieces[:SPECIAL_IDS]] != _SPECIAL_PIECES:
                raise ValueError("it does not begin with " + " ".join(_SPECIAL_PIECES))
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except Exception as error:
            raise ValueError(f"not a sentencepiece model of this program: {error}") from error
        self._entries = [piece.piece for piece in proto.pieces]
        self._ids = {piece: i for i, piece in enumerate(self._entries)}
        form, *marks = proto.normalizer_spec.name.split("+")
        self._model = model
        self._how = TokenizerConfig(
            level=_LEVELS[proto.trainer_spec.model_type],
            language=next(iter(proto.trainer_spec.accept_language), "en"),
            tokenized="tokenized" in marks,
            lowercase="lower" in marks,
            unicode=cast(UnicodeForm, form if form in ("NFC", "NFKC") else "none"),
        )
        self.level, self.language, self.lowercase = self._how.level, self._how.language, self._how.lowercase

    @classmethod
    def train(cls, counts: Counter[str], config: TokenizerConfig) -> "Tokenizer":
        """Learn a vocabulary from how often each segment of the training text stands there.

        `counts` holds what `segment(...).split(" ")` gave, so memory grows with the types, not with the text.
        Raises UserError where the text cannot fill a vocabulary.
        """
        characters = Counter[str]()
        for word, count in counts.items():
            for character in word:
                characters[character] += count
        units = counts if config.level == "word" else characters
        common = {unit: count for unit, count in units.items() if count >= config.min_count and _RESERVED not in unit}
        if not common:
            raise UserError(
                f"no {'word' if config.level == 'word' else 'character'} of the training text occurs "
                f"{config.min_count} times or more: lower min_count, or check that the files hold text"
            )
        size, pieces = config.vocab_size, Counter[str]()
        if config.level in ("word", "char"):
            # sentencepiece counts the space mark among the characters
            size = min(len(common) + SPECIAL_IDS + (config.level == "char"), size)
            pieces.update(common)
        else:
            smallest = len(common) + SPECIAL_IDS + 1
            if size < smallest:
                raise UserError(
                    f"vocab_size {size} is too small for {config.level}: {len(common)} distinct characters with the "
                    f"special tokens need {smallest}: raise vocab_size, or raise min_count to leave out rare characters"
                )
            for word, count in counts.items():
                pieces["".join(character for character in word if character in common)] += count
            del pieces[""]
        written = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(f"{piece}\t{count}" for piece, count in sorted(pieces.items(), key=_by_count)),
                input_format="tsv",
                model_writer=written,
                model_type=config.level,
                vocab_size=size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                normalization_rule_name="identity",
                pad_id=PAD_ID,
                unk_id=UNK_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                unk_surface=UNKNOWN_TEXT,
                max_sentence_length=1 << 20,
                num_threads=1,
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"no {config.level} vocabulary of {size} entries could be made from {len(pieces)} distinct words "
                f"(sentencepiece: {error}): choose another vocab_size"
            ) from error
        proto = ModelProto.FromString(written.getvalue())
        marks = {"lower": config.lowercase, "tokenized": config.tokenized}
        proto.normalizer_spec.name = "+".join([config.unicode, *(mark for mark, wanted in marks.items() if wanted)])
        proto.trainer_spec.accept_language[:] = [config.language]
        return cls(proto.SerializeToString())

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a tokenizer from a file; raises UserError if it is missing or is none."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}): is the directory complete?") from error
        except ValueError as error:
            raise UserError(f"{path}: {error}: was the file changed or cut off?") from error

    def save(self, path: Path) -> None:
        path.write_bytes(self._model)

    def for_language(self, language: str) -> "Tokenizer":
        """The same vocabulary with the Moses rules of another language (a shared vocabulary's other side)."""
        proto = ModelProto.FromString(self._model)
        proto.trainer_spec.accept_language[:] = [language]
        return Tokenizer(proto.SerializeToString())

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its file, in hexadecimal."""
        return hashlib.sha256(self._model).hexdigest()

    def __len__(self) -> int:
        return int(self._pieces.get_piece_size())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._model == other._model

    def __hash__(self) -> int:
        return hash(self._model)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes]]:
        return Tokenizer, (self._model,)

    def segment(self, text: str) -> str:
        """Normalised text; at word level with spaces between words."""
        return segment(text, self._how)

    def encode(self, text: str) -> list[int]:
        """Ids of a raw sentence, without start and end; an empty list for blank text."""
        return self.encode_segmented([self.segment(text)])[0]

    def encode_segmented(self, segmented: Sequence[str]) -> list[list[int]]:
        """Ids of sentences that `segment` has been over already.

        Of words and characters every one is a token. Of subwords, neighbouring unknown characters are one token.
        """
        # where the tokens are given, sentencepiece would still make one of all unknown ones in a row
        if self.level == "word":
            return [[self._ids.get(SPACE_MARK + word, UNK_ID) for word in text.split()] for text in segmented]
        if self.level == "char":
            marked = ((SPACE_MARK + text).replace(" ", SPACE_MARK) if text else "" for text in segmented)
            return [[self._ids.get(character, UNK_ID) for character in text] for text in marked]
        # one thread: callers with much to do run several processes
        return cast(list[list[int]], self._pieces.encode(list(segmented), num_threads=1))

    def n_best(self, segmented: str, most: int) -> list[tuple[list[int], float]]:
        """The most probable segmentations at level unigram, best first, with their log-probabilities."""
        found = self._pieces.nbest_encode(segmented, nbest_size=most)
        return [(ids, sum(self._pieces.get_score(i) for i in ids)) for ids in found]

    def surface(self, segmented: str) -> list[str]:
        """What stands in a segmented sentence for each of its ids, the unknown ones too, as `shown`."""
        if self.level == "word":
            return segmented.split()
        if self.level == "char":
            return self.shown((SPACE_MARK + segmented).replace(" ", SPACE_MARK) if segmented else "")
        return self.shown(self._pieces.encode(segmented, out_type=str))

    def typed(self, text: str) -> list[str]:
        """What stands in a raw sentence for each word that `segment` makes of it, before lower-casing."""
        words = self.segment(text).split()
        if not self.lowercase:
            return words
        raw = "".join(segment(text, TokenizerConfig(level="char", unicode=self._how.unicode)).split())
        origins = [i for i, character in enumerate(raw) for _ in character.lower()]  # of one, lower case may be two
        if len(origins) != sum(map(len, words)):
            return words  # Moses has written something else than spaces
        ends = list(accumulate(map(len, words)))
        return [raw[origins[end - len(word)] : origins[end - 1] + 1] for word, end in zip(words, ends, strict=True)]

    def shown(self, tokens: Iterable[str]) -> list[str]:
        """Entries of the vocabulary for people: the space that belongs to one as `␣`, to a word as nothing."""
        return [token.replace(SPACE_MARK, "" if self.level == "word" else "␣") for token in tokens]

    def decode(self, ids: Iterable[int], unknown: Iterable[str] = ()) -> str:
        """Text of ids, unknown ones written as `<unk>`, other special ids as nothing.

        It is detokenized unless it is tokenized text that the vocabulary was learnt from.

        Args:
            unknown: At word level, what to write for the unknown ids instead, one after the other.
        """
        kept = [i for i in ids if i == UNK_ID or i >= SPECIAL_IDS]
        if self.level != "word":
            return " ".join(str(self._pieces.decode(kept)).split())
        instead = iter(unknown)
        words = [next(instead, UNKNOWN_TEXT) if i == UNK_ID else self._entries[i].lstrip(SPACE_MARK) for i in kept]
        if self._how.tokenized:
            return " ".join(words)
        return str(_moses(self.language)[1].detokenize(words, unescape=False))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's own entries for ids, for tables and figures."""
        return [self._entries[i] for i in ids]


def segment(text: str, how: TokenizerConfig) -> str:
    """Normalise a sentence and, at word level, put spaces between its Moses tokens unless they are there already.

    Control characters and every kind of space become one plain space, so the result holds no line end.
    """
    text = _CONTROL.sub(" ", text).replace(SPACE_MARK, "_")
    if how.unicode != "none":
        text = unicodedata.normalize(how.unicode, text)
    if how.lowercase:
        text = text.lower()
    if how.level == "word" and not how.tokenized:
        text = str(_moses(how.language)[0].tokenize(text, escape=False, return_str=True))
    return " ".join(text.split())


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    """Most frequent first, ties by spelling: the vocabulary must not depend on the order of the files."""
    return -item[1], item[0]
