import subprocess
import sys
import unicodedata
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.holdout import Holdout, group_key, group_keys, split_pairs

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Go!", "go."),
        ("Go!", " «go» "),
        ("Go\u202f!", "Go"),
        ("I'm here.", "i’m  here"),
        ("snake_case", "snakecase"),
        ("STRASSE", "Straße"),
        (unicodedata.normalize("NFD", "Ça alors !"), "ça alors"),
        ("मैं जाता हूँ।", "मैं जाता हूँ"),
        ("a\tb\u00a0c\u2028d", "A b c d!"),
    ],
)
def test_the_same_sentence(one: str, other: str) -> None:
    assert group_key(one) == group_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Go", "Goo"),
        ("Take 2.", "Take 3."),
        ("a b", "ab"),
        ("été", "ete"),
        ("की", "का"),  # they differ in a spacing vowel sign
        ("कि", "क"),
        ("क्ष", "कष"),  # and these in the virama
        ("x²", "x³"),
        ("?", "!"),
        ("", "?"),
        ("😀", "😢"),
    ],
)
def test_different_sentences(one: str, other: str) -> None:
    assert group_key(one) != group_key(other)


def test_punctuation_alone_is_keyed_on_itself() -> None:
    assert group_key(" ?! ") == group_key("?!")


@given(st.characters(exclude_categories=["Cs"]))
def test_letters_digits_and_marks_count_and_nothing_else(char: str) -> None:
    # Some symbols, such as musical notes, have combining marks in their composed form.
    kept = any(unicodedata.category(c)[0] in "LNM" for c in unicodedata.normalize("NFC", char))
    assert (group_key(f"क{char}क") != group_key("कक")) == (kept or char.isspace())


@given(st.text())
def test_key_is_64_bits_and_blind_to_space_around(sentence: str) -> None:
    assert 0 <= group_key(sentence) < 2**64
    assert group_key(f" {sentence} ") == group_key(sentence)


def test_key_is_stable_between_processes() -> None:
    code = "from data.holdout import group_key; print(group_key('Wie geht’s?'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == group_key("Wie geht’s?") == 14682063956984610446


def test_group_keys() -> None:
    keys = group_keys(iter(["Go!", "Stop", "go"]))
    assert keys.dtype == np.uint64
    assert keys.tolist() == [group_key("go"), group_key("stop"), group_key("go")]


@given(keys=KEYS, data=st.data(), seed=st.integers(-5, 2**70))
def test_split_has_the_counts_asked_for_and_whole_groups(keys: list[int], data: st.DataObject, seed: int) -> None:
    distinct = len(set(keys))
    valid = data.draw(st.integers(0, distinct))
    test = data.draw(st.integers(0, distinct - valid))
    splits = split_pairs(np.array(keys, dtype=np.uint64), Holdout(valid=valid, test=test, seed=seed))
    groups = set(zip(keys, splits.tolist(), strict=True))
    assert splits.dtype == np.int8
    assert len(groups) == distinct
    counts = np.bincount([split for _, split in groups], minlength=3)
    assert counts.tolist() == [distinct - valid - test, valid, test]


@given(keys=KEYS, order=st.randoms(use_true_random=False))
def test_split_is_independent_of_row_order_and_repetition(keys: list[int], order: Random) -> None:
    holdout = Holdout(valid=len(set(keys)) // 3, test=len(set(keys)) // 3)
    mixed = keys * 2
    order.shuffle(mixed)
    one = dict(zip(keys, split_pairs(np.array(keys, dtype=np.uint64), holdout).tolist(), strict=True))
    two = dict(zip(mixed, split_pairs(np.array(mixed, dtype=np.uint64), holdout).tolist(), strict=True))
    assert one == two


def test_seeds_differ_and_are_unbiased() -> None:
    keys = np.arange(10_000, dtype=np.uint64)
    one, two = (split_pairs(keys, Holdout(valid=1000, test=1000, seed=seed)) for seed in (1, 2))
    assert 150 < np.sum((one > 0) & (two > 0)) < 650  # 400 expected of independent draws
    assert abs(np.flatnonzero(one).mean() - 5000) < 300
    assert np.array_equal(one, split_pairs(keys, Holdout(valid=1000, test=1000, seed=1)))


def test_test_split_does_not_depend_on_the_size_of_valid() -> None:
    keys = np.arange(1000, dtype=np.uint64)
    one, two = (split_pairs(keys, Holdout(valid=valid, test=50)) for valid in (0, 300))
    assert np.array_equal(one == 2, two == 2)


def test_more_asked_for_than_there_are() -> None:
    keys = np.array([1, 1, 2, 3], dtype=np.uint64)
    with pytest.raises(UserError, match=r"valid=2 and test=2 ask for 4 distinct target sentences.* has 3"):
        split_pairs(keys, Holdout(valid=2, test=2, side="target"))
    with pytest.raises(UserError, match="0 or more"):
        split_pairs(keys, Holdout(valid=-1))


def test_no_pairs_and_nothing_held_out() -> None:
    assert split_pairs(np.array([], dtype=np.uint64), Holdout()).tolist() == []
