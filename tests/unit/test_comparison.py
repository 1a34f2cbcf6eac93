"""A comparison runs every variant once, shares data, tells failures, and counts right."""

import json
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data.errors import UserError
from nmt.comparison import Spread, render_lengths, render_outcomes, render_summaries, summarize
from nmt.comparison_figure import draw_comparison
from nmt.config import ModelConfig, TrainingConfig
from nmt.metrics import Bucket
from nmt.outcome import Outcome, read_outcome, run_name
from nmt.task_metrics import write_metrics
from nmt.translation_recipe import GenerateConfig, TranslationRecipe
from nmt.variants import Variant, compare_variants

PNG = b"\x89PNG"


@dataclass
class Stages:
    """Stands in for the stages of a recipe, and remembers what was done."""

    prepared: list[Path] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    broken: str = ""

    def prepare_data(self, recipe, folder: Path, base: Path | None, console: Console) -> None:
        if not (folder / "data").exists():
            self.prepared.append(folder)
            (folder / "corpus").mkdir()
            (folder / "data").mkdir()
            (folder / "data" / "test.reference").write_text("A\nA\nB\nC\n")

    def run_recipe(self, recipe, folder: Path, *, base: Path | None, resume: bool, console: Console) -> None:
        if self.broken and self.broken in folder.name:
            raise UserError("the loss of update 3 is nan")
        assert resume and (folder / "data" / "test.reference").read_text()
        self.ran.append(folder.name)
        groups = {"10": {"exact": 0.5, "sequences": 2}, "2": {"exact": 1.0, "sequences": 2}}
        write_metrics(folder / "metrics.json", 0.75, 4, groups)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = Stages()
    monkeypatch.setattr(TranslationRecipe, "prepare_data", lambda recipe, *rest: made.prepare_data(recipe, *rest))
    monkeypatch.setattr("nmt.variants.run_recipe", made.run_recipe)
    return made


def cells(seed: int = 1) -> list[Variant]:
    made = GenerateConfig(task="long_lag", seed=seed)
    return [
        Variant({"model.cell": cell}, TranslationRecipe(generate=made, model=ModelConfig(cell=cell)))
        for cell in ("rnn", "lstm")
    ]


def compared(variants: list[Variant], out: Path) -> str:
    console = Console(width=200, record=True, quiet=False, file=(out.parent / "said.txt").open("w"))
    compare_variants("long_lag", variants, out, None, console)
    return console.export_text()


def test_data_that_are_the_same_are_made_once(stages, tmp_path):
    out = tmp_path / "out"
    text = compared(cells(), out)
    assert stages.prepared == [out / "prepared" / "all"] and stages.ran == ["cell=rnn", "cell=lstm"]
    found = json.loads((out / "comparison.json").read_text())
    assert found["recipe"] == "long_lag"
    assert [run["scores"]["exact"] for run in found["runs"]] == [0.75, 0.75]
    assert found["runs"][0]["groups"] == {"10": 0.5, "2": 1.0} and found["runs"][0]["commonest"] == 0.5
    assert "75.00%" in text and "Decoded exactly, by lag" in text and "Mean" not in text
    assert (out / "comparison.png").read_bytes().startswith(PNG)
    out.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "cell=rnn" / "data" / "test.reference").exists()


def test_data_that_differ_are_made_apart(stages, tmp_path):
    variants = [
        Variant(
            {"generate.length": str(n), "training.seed": str(seed)},
            TranslationRecipe(generate=GenerateConfig(length=n), training=TrainingConfig(seed=seed)),
        )
        for n in (1, 2)
        for seed in (1, 2)
    ]
    assert "Mean ± standard deviation over seeds" in compared(variants, tmp_path / "out")
    assert [folder.name for folder in stages.prepared] == ["length=1", "length=2"]
    assert stages.ran == [f"length={n},seed={seed}" for n in (1, 2) for seed in (1, 2)]
    pointed = {path.parent.name: path.resolve().parent.name for path in (tmp_path / "out").glob("length*/data")}
    assert pointed == {name: name.partition(",")[0] for name in stages.ran}


def test_a_failure_is_told_and_the_rest_goes_on(stages, tmp_path):
    stages.broken = "rnn"
    text = compared(cells(), tmp_path / "out")
    assert stages.ran == ["cell=lstm"] and text.count("the loss of update 3 is nan") == 2
    runs = json.loads((tmp_path / "out" / "comparison.json").read_text())["runs"]
    assert [run["failure"] for run in runs] == ["the loss of update 3 is nan", None]
    assert runs[0]["scores"] == {}
    stages.broken = "="
    with pytest.raises(UserError, match="none of 2 runs succeeded; the first: the loss of update 3 is nan"):
        compared(cells(), tmp_path / "out")


def test_a_recipe_without_a_test_part_is_nothing_to_compare(stages, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.variants.run_recipe", lambda *_, **__: None)
    with pytest.raises(UserError, match="nothing to compare: the recipe's data have no test part"):
        compared(cells(), tmp_path / "out")


def test_shared_data_of_other_settings_are_refused(stages, tmp_path):
    compared(cells(), tmp_path / "out")
    for claim in ("out", "prepared.all"):
        with pytest.raises(UserError, match=rf"{claim}: was made with other settings \(generate.seed was 1 and is 2\)"):
            compared(cells(seed=2), tmp_path / "out")
        (tmp_path / "out" / "comparison.yaml").unlink()  # as in what an earlier version began


def test_runs_under_other_settings_are_not_put_beside_each_other(stages, tmp_path):
    """Not even those that a single run may change until it is finished."""

    def longer(more: int, key: str = "model.cell") -> list[Variant]:
        training = TrainingConfig(max_epochs=20 + more)
        return [replace(one, varied={key: one.varied["model.cell"]}, recipe=replace(one.recipe, training=training))
                for one in cells()]  # fmt: skip

    compared(longer(0)[:1], tmp_path / "out")
    with pytest.raises(UserError, match=r"out: was made with other settings \(training.max_epochs was 20 and is 21\)"):
        compared(longer(1), tmp_path / "out")
    with pytest.raises(UserError, match=r"training.max_epochs was 20 and is 'varied'"):
        compared(longer(0, "training.max_epochs"), tmp_path / "out")
    compared(longer(0)[1:], tmp_path / "out")
    assert stages.ran == ["cell=rnn", "cell=lstm"]


def test_settings_may_be_put_right_until_there_are_data(stages, tmp_path, monkeypatch):
    def missing(*_) -> None:
        raise UserError("no such folder")

    with monkeypatch.context() as patched:
        patched.setattr(stages, "prepare_data", missing)
        with pytest.raises(UserError, match="no such folder"):
            compared(cells(), tmp_path / "out")
    compared(cells(seed=2), tmp_path / "out")
    assert stages.ran == ["cell=rnn", "cell=lstm"]


def test_an_interruption_ends_all(stages, tmp_path, monkeypatch):
    def interrupt(*_, **__) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nmt.variants.run_recipe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compared(cells(), tmp_path / "out")


def test_names_are_short_where_they_can_be():
    assert (
        run_name({"model.cell": "rnn", "training.clip_norm": "0"}, ["model.cell", "training.clip_norm"])
        == "cell=rnn,clip_norm=0"
    )
    both = ["prepare.source.level", "prepare.target.level"]
    assert run_name(dict.fromkeys(both, "bpe"), both) == "prepare.source.level=bpe,prepare.target.level=bpe"
    assert run_name({"prepare.weights": "a/b"}, ["prepare.weights"]) == "weights=a_b"


def outcome(seed: int, score: float, cell: str = "rnn", failure: str | None = None) -> Outcome:
    varied = {"model.cell": cell, "training.seed": str(seed)}
    scores = {} if failure else {"exact": score}
    return Outcome(
        run_name(varied, list(varied)), varied, scores, {"5": score} if scores else {}, None, 10, 0.5, failure
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_means_and_deviations_over_seeds(values):
    other = [outcome(1, 0.25, "gru"), outcome(9, 0.0, failure="nan")]
    first, second = summarize([*(outcome(seed, value) for seed, value in enumerate(values)), *other])
    assert first.name == "cell=rnn" and first.varied == {"model.cell": "rnn"}
    assert first.scores["exact"].mean == pytest.approx(statistics.mean(values))
    assert first.scores["exact"].deviation == pytest.approx(statistics.stdev(values))
    assert first.scores["exact"].runs == first.groups["5"].runs == len(values)
    assert second.scores["exact"] == Spread(0.25, None, 1)


def test_tables_show_scores_deviations_and_failures():
    outcomes = [outcome(1, 0.5), outcome(2, 0.7), outcome(1, 0.0, "gru", failure="it is nan")]
    console = Console(width=200, record=True, file=None, quiet=False)
    console.print(render_outcomes(outcomes), render_summaries(summarize(outcomes)))
    text = console.export_text()
    for part in ("it is nan", "failed", "50.00%", "60.00% ± 14.14%", "0.5", "model.cell"):
        assert part in text


def test_scores_of_translations_and_captions(tmp_path):
    scores = {
        "bleu": {"score": 20.0},
        "bleu_lowercase": {"score": 30.0},
        "chrf": {"score": 1.0},
        "chrf_lowercase": {"score": 2.0},
    }
    for lowercase, expected in ((False, {"BLEU": 20.0, "chrF": 1.0}), (True, {"BLEU": 30.0, "chrF": 2.0})):
        (tmp_path / "evaluation.json").write_text(json.dumps(scores | {"lowercase": lowercase}))
        assert read_outcome(tmp_path, "a", {}, None).scores == expected
    (tmp_path / "evaluation.json").write_text(json.dumps({"cider": 0.5, "bleu4": 0.25, "bleu1": 0.75}))
    found = read_outcome(tmp_path, "a", {}, None)
    assert found.scores == {"CIDEr": 0.5, "BLEU-4": 0.25} and found.groups == {} and found.updates is None
    assert read_outcome(tmp_path, "a", {}, "nan").scores == {}


def test_perplexity_and_scores_by_length_are_read(tmp_path):
    scores = {name: {"score": 1.0} for name in ("bleu", "chrf")} | {"lowercase": False}
    buckets = [{"words": "1-5", "sentences": 3, "bleu": 20.0}, {"words": "6-10", "sentences": 0, "bleu": None}]
    (tmp_path / "evaluation.json").write_text(json.dumps(scores | {"buckets": buckets}))
    (tmp_path / "model").mkdir()
    for validation, expected in (({"perplexity": 4.5, "bleu": 2.0}, 4.5), (None, None)):
        (tmp_path / "model" / "metrics.json").write_text(json.dumps({"validation": validation}))
        found = read_outcome(tmp_path, "a", {}, None)
        assert found.perplexity == expected
    assert found.lengths == [Bucket("1-5", 3, 20.0), Bucket("6-10", 0, None)]


def translated(seed: int, value: str, bleu: float) -> Outcome:
    lengths = [Bucket("6-10", 7, bleu + 1), Bucket("11-15", 5, bleu - 1), Bucket("16-20", 0, None)]
    made = outcome(seed, bleu, value)
    return replace(made, scores={"BLEU": bleu, "chrF": 50.0}, groups={}, perplexity=bleu / 2, lengths=lengths)


def test_scores_by_length_over_seeds(tmp_path):
    found = summarize([translated(seed, cell, 20.0 + seed) for cell in ("rnn", "gru") for seed in (1, 3)])
    assert [(one.words, one.sentences, one.bleu.mean) for one in found[0].lengths] == [
        ("6-10", 7, 23),
        ("11-15", 5, 21),
    ]
    assert found[0].perplexity == Spread(11.0, statistics.stdev([10.5, 11.5]), 2)
    console = Console(width=200, record=True, quiet=False)
    console.print(render_lengths(found), render_summaries(found))
    text = console.export_text()
    for part in ("6-10 (7)", "23.00 ± 1.41", "validation perplexity", "11.00 ± 0.71", "0.5 ± 0.0"):
        assert part in text
    assert "16-20" not in text
    for number, drawn in enumerate((found, summarize([translated(1, "rnn", 20.0)]))):
        draw_comparison(tmp_path / f"{number}.png", "title", drawn, "group", None)
        assert (tmp_path / f"{number}.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("labels", [["10", "500"], ["1", "2"], ["1/1", "2/1"], []])
def test_every_kind_of_figure_can_be_drawn(tmp_path, labels):
    groups = dict.fromkeys(labels, 0.5)
    outcomes = [replace(outcome(seed, 0.5, cell), groups=groups) for seed in (1, 2) for cell in ("rnn", "gru")]
    draw_comparison(tmp_path / "x.png", "title", summarize(outcomes), "lag", 0.125)
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
