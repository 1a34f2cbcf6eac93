import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from nmt.rescoring import Candidate, add_score, judge, read_candidates, read_phrases, rerank
from nmt.scoring import PairScore

LISTS = [
    [Candidate(-1.0, -0.5, "a dog"), Candidate(-2.0, -1.0, "the dog runs")],
    [Candidate(-1.0, -0.5, "a big cat sleeps here"), Candidate(-3.0, -1.0, "a cat sleeps here now")],
]
SCORES = [[PairScore(-9.0, 3, 0), PairScore(-2.0, 4, 0)], [PairScore(-2.0, 6, 0), PairScore(-4.0, 6, 0)]]


def best(lists):
    return [each[0].text for each in lists]


def test_the_weight_decides_whose_order_holds():
    assert best(rerank(LISTS, SCORES, 0.0, 0.0)) == ["a dog", "a big cat sleeps here"]
    assert best(rerank(LISTS, SCORES, 1.0, 0.0)) == ["the dog runs", "a big cat sleeps here"]
    [first, _] = rerank(LISTS, SCORES, 0.5, 1.0)
    assert [one.score for one in first] == [pytest.approx(-2.0 / 4), pytest.approx(-5.0 / 3)]
    assert [one.log_prob for one in first] == [-2.0, -1.0]  # the list's own stays


def test_the_length_penalty_is_the_exponent():
    lists = [[Candidate(-3.0, 0.0, "short"), Candidate(-4.0, 0.0, "long")]]
    scores = [[PairScore(-3.0, 2, 0), PairScore(-4.0, 4, 0)]]
    assert best(rerank(lists, scores, 0.5, 0.0)) == ["short"]
    assert best(rerank(lists, scores, 0.5, 1.0)) == ["long"]


def test_a_list_that_cannot_be_scored_keeps_its_order():
    assert rerank(LISTS, [[None, None], SCORES[1]], 1.0, 1.0)[0] == LISTS[0]


def test_the_best_weight_the_oracle_and_the_correlations_are_found():
    references = [["the dog runs", "a big cat sleeps here"]]
    judged = judge(LISTS, SCORES, references, 0.0, lowercase=False)
    assert judged.best.bleu == judged.oracle == pytest.approx(100)
    assert judged.choices[0].bleu < 100 and judged.choices[-1].bleu == pytest.approx(100)
    assert 0 < judged.best.weight < 1  # the smallest that is good enough
    assert judged.second == pytest.approx(1.0) and judged.own == pytest.approx(0.0)
    shouted = judge(LISTS, SCORES, [[line.upper() for line in references[0]]], 0.0, lowercase=True)
    assert shouted.best.bleu == pytest.approx(100)


def test_lists_without_an_order_have_no_correlation():
    same = [[Candidate(-1.0, 0.0, "a"), Candidate(-1.0, 0.0, "a")]]
    judged = judge(same, [[PairScore(-1.0, 2, 0)] * 2], [["b"]], 1.0, lowercase=False)
    assert math.isnan(judged.own) and math.isnan(judged.second)


def test_candidates_are_read_as_translate_writes_them(tmp_path):
    path = tmp_path / "list"
    path.write_text("1\t1\t-0.5\t-1\ta dog\n1\t2\t-1\t-2\t\n2\t1\t-1\t-2\tb\n")
    assert read_candidates(path) == [
        [Candidate(-1.0, -0.5, "a dog"), Candidate(-2.0, -1.0, "")],
        [Candidate(-2.0, -1.0, "b")],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a dog\n", "line 1: not the five columns"),
        ("1\t1\t-0.5\t-1\ta\n3\t1\t-1\t-2\tb\n", "line 2: line 3, rank 1 is out of order"),
        ("1\t1\t-0.5\t-1\ta\n1\t3\t-1\t-2\tb\n", "line 2: line 1, rank 3 is out of order"),
        ("1\t2\t-0.5\t-1\ta\n", "line 1: line 1, rank 2 is out of order"),
    ],
)
def test_what_is_no_list_is_told(tmp_path, text, message):
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_candidates(path)


WORDS = st.text("abc .", max_size=8)


@given(WORDS.filter(str.strip), WORDS, st.lists(WORDS, max_size=2))
def test_a_phrase_gets_one_more_score_and_keeps_the_rest(source, target, more):
    line = " ||| ".join([source, target, "0.5 0.25", *more])
    [phrase] = read_phrases([line], Path("table"))
    assert (phrase.source, phrase.target) == (source, target)
    scored = add_score(line, PairScore(math.log(0.125), 2, 0))
    assert scored.split(" ||| ") == [source, target, "0.5 0.25 0.125", *more]


@pytest.mark.parametrize("line", ["ein hund", "ein hund ||| a dog", " ||| a dog ||| 0.5"])
def test_what_is_no_phrase_is_told(line, tmp_path):
    with pytest.raises(UserError, match="line 2: no entry of a phrase table"):
        read_phrases(["a ||| b ||| 1", line], tmp_path / "table")
