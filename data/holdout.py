"""Hold out validation and test sentences from a corpus that has no official split.

In many corpora one sentence stands many times, each time with another translation. The pairs of one sentence
are a group, and a group falls whole into one split: what the model is tested on was never trained on.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import numpy.typing as npt

from data.errors import UserError
from data.rows import column, write_lines

TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True)
class Holdout:
    """How many sentences are held out from the training pairs.

    Args:
        valid: number of distinct sentences in the validation split; each brings all of its pairs
        test: number of distinct sentences in the test split; each brings all of its pairs
        seed: which sentences are chosen; the same seed and sentences always give the same split
        side: the side on which pairs are grouped, "source" or "target"
    """

    valid: int = 0
    test: int = 0
    seed: int = 1
    side: Literal["source", "target"] = "source"


_NOT_WORD = re.compile(r"[^\w\s]|_")
_NOT_WORD_ASCII = re.compile(r"[^\w\s]+|_+", re.ASCII)


def _keep_mark(match: re.Match[str]) -> str:
    # To Python a combining mark is no part of a word, yet without its marks Devanagari has lost its vowels.
    return match[0] if unicodedata.category(match[0]).startswith("M") else ""


def group_key(sentence: str) -> int:
    """The 64-bit key of the group that `sentence` belongs to, the same in every process and on every machine.

    Sentences that differ only in case, punctuation, symbols, white space or Unicode composition share a key:
    "Go!" and "go." are one sentence. A sentence without any letter, digit or mark is keyed on its own text,
    stripped of white space at both ends.
    """
    text = sentence.casefold()
    if text.isascii():
        text = _NOT_WORD_ASCII.sub("", text)
    else:
        text = _NOT_WORD.sub(_keep_mark, unicodedata.normalize("NFC", text))
    text = " ".join(text.split()) or sentence.strip()
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def group_keys(sentences: Iterable[str]) -> npt.NDArray[np.uint64]:
    """The `group_key` of each sentence, at eight bytes a sentence."""
    return np.fromiter(map(group_key, sentences), dtype=np.uint64)


def split_pairs(keys: npt.NDArray[np.uint64], holdout: Holdout) -> npt.NDArray[np.int8]:
    """The split of each pair: 0 for train, 1 for valid, 2 for test.

    The split of a pair depends on the set of keys and on the seed, never on the order of the pairs. The test
    split does not depend on the size of the validation split either.

    Args:
        keys: the group key of each pair, on the side `holdout.side`
        holdout: how many groups each split gets

    Raises:
        UserError: a count is negative, or the two together exceed the number of distinct sentences
    """
    if holdout.valid < 0 or holdout.test < 0:
        raise UserError(f"holdout: valid={holdout.valid}, test={holdout.test}: give counts of 0 or more")
    ranks = _scramble(keys, holdout.seed)
    ordered = np.sort(ranks)
    # np.unique gives the same groups, but takes over ten times as long.
    groups = np.append(ordered[:1], ordered[1:][ordered[1:] != ordered[:-1]])
    held = holdout.valid + holdout.test
    if held > len(groups):
        raise UserError(
            f"holdout: valid={holdout.valid} and test={holdout.test} ask for {held} distinct {holdout.side} "
            f"sentences, but the corpus has {len(groups)}. Lower valid or test, or add data."
        )
    splits = np.full(len(keys), TRAIN, dtype=np.int8)
    if held:
        splits[ranks <= groups[held - 1]] = VALID
    if holdout.test:
        splits[ranks <= groups[holdout.test - 1]] = TEST
    return splits


def _scramble(keys: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """A random order of the keys: the SplitMix64 finaliser, which gives distinct keys distinct ranks.

    NumPy's own generators may draw other numbers in a later release, and a split must outlive a release.
    """
    ranks = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    ranks = (ranks ^ (ranks >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    ranks = (ranks ^ (ranks >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ranks ^ (ranks >> np.uint64(31))


def hold_out(
    splits: dict[str, datasets.Dataset], holdout: Holdout, folder: Path, *, dialogues: bool = False
) -> list[str]:
    """Move held-out sentences from train to splits of their own and write each with all of its translations.

    Spellings of one sentence ("Go!", "go.") leave train together; the first of them stands in the split. Of
    `dialogues`, it is whole ones that leave, and with each all that open in the same way.
    """
    if not holdout.valid and not holdout.test:
        return []
    train = splits["train"]
    keys = group_keys(column(train, "opening")) if dialogues else column(train, f"{holdout.side}_key")
    where = split_pairs(keys, holdout)
    notes = []
    for name, code in (("valid", VALID), ("test", TEST)):
        rows = np.flatnonzero(where == code)
        if not len(rows):
            continue
        first: dict[int, str] = {}
        references: dict[str, list[str]] = {}
        kept = []
        for index, row in zip(rows.tolist(), train.select(rows), strict=True):
            spelling = first.setdefault(row["source_key"], row["source"])
            if row["source"] == spelling:
                kept.append(index)
                known = references.setdefault(spelling, [])
                if row["target"] not in known:
                    known.append(row["target"])
        splits[name] = train.select(kept)
        write_lines(folder / f"{name}.source", references)
        most = max(map(len, references.values()))
        for n in range(most):
            # a sentence with fewer translations than others repeats its first, which changes no BLEU; a blank line
            # would count as a translation of no words
            translations = (each[n] if n < len(each) else each[0] for each in references.values())
            write_lines(folder / f"{name}.reference{n or ''}", translations)
        notes.append(
            f"{name}: {len(references):,} sentences held out of train with up to {most} translations each; "
            f"{len(rows) - len(kept):,} pairs with another spelling of one of them were left out of every split"
        )
    rows = np.flatnonzero(where == TRAIN)
    if not len(rows):
        raise UserError(f"holdout leaves no pair to train on (of {len(train):,}): lower --holdout.valid or .test")
    splits["train"] = train.select(rows)
    return notes
