"""The paired bootstrap over seeds is sacrebleu's for one seed, and tells what it draws from for several."""

import json

import numpy as np
import pytest
from rich.console import Console

from data.errors import UserError
from nmt.metrics import compare_systems, make_metrics
from nmt.outcome import Outcome, run_name
from nmt.significance import compare_pairs, paired_difference, render_pairs, statistics

KEY = "model.reverse_source"
WORDS = ["a", "dog", "cat", "sleeps", "runs", "in", "the", "house"]


def sentences(seed: int, count: int = 60) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(5, 12))) for _ in range(count)]


def worsened(lines: list[str], seed: int, share: float) -> list[str]:
    """The same lines with some words replaced."""
    random = np.random.default_rng(seed)
    return [" ".join("x" if random.random() < share else word for word in line.split()) for line in lines]


REFERENCE = sentences(1)
GOOD = [worsened(REFERENCE, seed, 0.1) for seed in (1, 2, 3)]
BAD = [worsened(REFERENCE, seed, 0.2) for seed in (4, 5, 6)]


@pytest.mark.parametrize("other", [BAD[0], GOOD[1]])
def test_one_seed_is_tested_as_sacrebleu_does(other):
    metrics = make_metrics([REFERENCE])
    expected = compare_systems(GOOD[0], other, metrics, lowercase=False)
    for name in ("bleu", "chrf"):
        found = paired_difference(
            metrics[name], [statistics(metrics[name], GOOD[0])], [statistics(metrics[name], other)]
        )
        assert found.p_value == expected[name].p_value
        assert found.difference == pytest.approx(expected[name].difference, abs=1e-4)
        assert found.low < found.difference < found.high


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_scores_over_seeds_are_those_of_the_outputs_one_behind_the_other(name):
    metric = make_metrics([REFERENCE])[name]
    whole = make_metrics([REFERENCE * 3])[name]
    found = paired_difference(
        metric, [statistics(metric, one) for one in GOOD], [statistics(metric, one) for one in BAD]
    )
    for score, runs in ((found.score, GOOD), (found.other, BAD)):
        lines = [line for run in runs for line in run]
        assert score == pytest.approx(float(whole.corpus_score(lines, None).score), abs=1e-3)
    assert found.p_value < 0.01 and found.low > 0


def test_a_run_that_is_repeated_is_no_further_evidence():
    metric = make_metrics([REFERENCE])["bleu"]
    one, other = statistics(metric, GOOD[0]), statistics(metric, GOOD[1])
    once, thrice = paired_difference(metric, [one], [other]), paired_difference(metric, [one] * 3, [other] * 3)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.p_value == pytest.approx(once.p_value, abs=0.01) and once.p_value > 0.01


def test_a_system_does_not_differ_from_itself():
    metric = make_metrics([REFERENCE])["bleu"]
    one = statistics(metric, GOOD[0])
    found = paired_difference(metric, [one], [one])
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def written(out, lines, value: str, attention: str, seed: int, reference=REFERENCE) -> Outcome:
    """A run that left these translations."""
    varied = {KEY: value, "model.attention": attention, "training.seed": str(seed)}
    name = run_name(varied, list(varied))
    (out / name / "data").mkdir(parents=True)
    for file, text in (("data/test.reference", reference), ("test.translations.txt", lines)):
        (out / name / file).write_text("".join(f"{line}\n" for line in text))
    (out / name / "evaluation.json").write_text(json.dumps({"lowercase": True}))
    return Outcome(name, varied, {"BLEU": 1.0}, {}, None, 1, 1.0, None)


def test_the_runs_of_one_setting_are_paired_by_seed(tmp_path):
    outcomes = [
        written(tmp_path, lines, value, attention, seed)
        for attention, runs in (("none", {"false": BAD, "true": GOOD}), ("dot", {"false": GOOD, "true": GOOD}))
        for value, each in runs.items()
        for seed, lines in enumerate(each, 1)
        if (attention, value, seed) != ("none", "false", 2)  # as if that run had failed
    ]
    pairs = compare_pairs(tmp_path, outcomes, KEY)
    assert [(pair.varied["model.attention"], pair.metric) for pair in pairs] == [
        ("none", "BLEU"), ("none", "chrF"), ("dot", "BLEU"), ("dot", "chrF")
    ]  # fmt: skip
    assert {(pair.key, pair.value, pair.other) for pair in pairs} == {(KEY, "true", "false")}
    assert list(pairs[0].seeds) == ["1", "3"] and list(pairs[2].seeds) == ["1", "2", "3"]
    assert pairs[0].together.difference > 0 and pairs[2].together.p_value == 1
    assert "case:lc" in pairs[0].signature and "bs:1000" in pairs[0].signature and "seed:12345" in pairs[0].signature
    console = Console(width=200, record=True, quiet=False)
    console.print(render_pairs(pairs, "BLEU"))
    shown = console.export_text()
    assert "chrF" not in shown and "true - false" in shown and f"{pairs[0].together.difference:+.2f}" in shown
    assert sum(" all " in line for line in shown.splitlines() if "│" in line) == 2


def test_runs_of_other_references_are_no_pairs(tmp_path):
    outcomes = [
        written(tmp_path, BAD[0], "false", "none", 1, sentences(9)),
        written(tmp_path, GOOD[0], "true", "none", 1),
    ]
    with pytest.raises(UserError, match="its references are not those of"):
        compare_pairs(tmp_path, outcomes, KEY)
