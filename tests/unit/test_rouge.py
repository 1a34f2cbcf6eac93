"""ROUGE-L: by hand, against another way to compute it, and in the forms that papers and sacrebleu know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nmt.evaluation import SystemOutput, evaluate, render
from nmt.metrics import make_metrics, score_lines
from nmt.rouge import RougeL, rouge_l, rouge_words

WORDS = st.lists(st.sampled_from("abc"), max_size=7)


def score(lines: list[str], *references: list[str]) -> float:
    return RougeL(references).corpus_score(lines, None).score


def longest_by_brute_force(a: list[str], b: list[str]) -> int:
    """Of all choices of words of `a`, the longest whose words stand in `b` in this order."""
    best = 0
    for chosen in range(2 ** len(a)):
        words = [word for i, word in enumerate(a) if chosen >> i & 1]
        rest = iter(b)
        if all(word in rest for word in words):
            best = max(best, len(words))
    return best


@given(candidate=WORDS, reference=WORDS, beta=st.sampled_from([1.0, 1.2]))
def test_longest_common_subsequence_as_f_measure(candidate: list[str], reference: list[str], beta: float) -> None:
    common = longest_by_brute_force(candidate, reference)
    expected = 0.0
    if common:
        precision, recall = common / len(candidate), common / len(reference)
        expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert rouge_l(candidate, [reference], beta) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("line", "reference", "expected"),
    [
        # Lin 2004, section 3.1: police killed the gunman; its candidates with beta 1
        ("police kill the gunman", "police killed the gunman", 75),
        ("the gunman kill police", "police killed the gunman", 50),
        ("Police, killed the gunman!", "police KILLED the gun-man", 100 * 2 * 3 / (4 + 5)),
        ("snake_case is_not one", "snake case is", 100 * 2 * 3 / (5 + 3)),
        ("Über straße", "über Straße.", 100),
        ("", "something", 0),
        ("...", "...", 0),
        ("something", "", 0),
    ],
)
def test_by_hand(line: str, reference: str, expected: float) -> None:
    assert score([line], [reference]) == pytest.approx(expected)


def test_combining_marks_stay_in_their_words() -> None:
    assert rouge_words("हिन्दी में, 3 cafe\u0301!") == ["हिन्दी", "में", "3", "cafe\u0301"]


def test_the_best_reference_counts_and_texts_count_alike() -> None:
    # of each reference the F1 is 2/3; the best precision with the best recall, as in captioning, would be 1
    assert score(["a b"], ["a"], ["a b c d"]) == pytest.approx(100 * 2 / 3)
    assert rouge_l(["a", "b"], [["a"], ["a", "b", "c", "d"]], 1.0) == pytest.approx(1)
    assert score(["a b", "x"], ["a b", "y"]) == pytest.approx(50)


def test_the_signature_says_which_rouge_l_it_is() -> None:
    found = score_lines(["a dog", "b"], make_metrics([["a cat", "b"], ["a dog", None]]))["rouge_l"]
    assert found.score == 100
    fields = dict(field.split(":") for field in found.signature.split("|"))
    assert fields.pop("version")
    assert fields == {
        "nrefs": "var", "case": "lc", "tok": "letters+digits", "stem": "no", "f": "1", "refs": "best", "agg": "mean",
    }  # fmt: skip


def test_it_stands_in_the_evaluation_and_is_compared() -> None:
    lines, references = ["A dog runs", "two cats"], [["a dog sleeps", "two cats"]]
    found = evaluate(SystemOutput(lines), ["x", "y"], references, other=SystemOutput(["a", "b"]))
    assert found.scores["rouge_l"].score == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert found.compare is not None
    assert found.compare["rouge_l"].other == pytest.approx(100 * (0.5 + 0) / 2)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(render(found))
    row = next(line for line in shown.get().splitlines() if "ROUGE-L" in line and "83.33" in line)
    assert "-" in row
