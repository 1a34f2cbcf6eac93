"""scripts/compare.py: recipes of both kinds, gone on with, and what is written wrong."""

import json
import sys

import pytest

from scripts.command import Parser
from scripts.compare import main, read_varied

TINY = [
    "--generate.train=40", "--generate.valid=4", "--generate.test=12", "--generate.lags=[2,30]", "--prepare.workers=1",
    "--model.hidden=8", "--model.embedding=8", "--training.max_updates=3", "--threads=1",
]  # fmt: skip


@pytest.fixture
def compare(monkeypatch, capsys):
    """Calls the command in this process; returns what it wrote to standard output."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return call


def test_runs_are_compared_and_not_run_again(compare, tmp_path):
    out = tmp_path / "out"
    start = ["long_lag", "--out", out, *TINY, "--vary"]
    said = compare(*start, "training.metric=exact,cider")
    good, broken = json.loads((out / "comparison.json").read_text())["runs"]
    assert broken["name"] == "metric=cider" and "training.metric is cider" in broken["failure"]
    assert good["name"] == "metric=exact" and good["failure"] is None
    assert good["updates"] == 3 and good["minutes"] > 0 and set(good["groups"]) == {"2", "30"}
    metrics = json.loads((out / good["name"] / "metrics.json").read_text())
    assert metrics["exact"] == good["scores"]["exact"] and metrics["sequences"] == 12
    assert sum(group["sequences"] for group in metrics["groups"].values()) == 12
    assert said.count("Generated") == 1 and said.count("Prepared already") == 3
    weights = out / good["name"] / "model" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    said = compare(*start, "training.metric=exact")
    assert "Trained already" in said and "Evaluated already" in said
    assert weights.stat().st_mtime_ns == made


def test_captioning_recipes_are_compared_too(compare, tmp_path, monkeypatch):
    """Their own stages, which test_run_captioning.py runs, are called with their own settings."""
    called = []

    def prepare(recipe, out, base, console):
        called.append(("prepare", out.name, base))
        (out / "data").mkdir(exist_ok=True)

    def run_all(recipe, out, *, base, resume, console):
        called.append((recipe.model.cell, out.name, resume))
        assert (out / "data").is_dir()
        (out / "evaluation.json").write_text(json.dumps({"cider": 1.25, "bleu4": 0.5}))

    monkeypatch.setattr("captioning.recipe.CaptionRecipe.prepare_data", prepare)
    monkeypatch.setattr("nmt.variants.run_recipe", run_all)
    said = compare("demo_scenes", "--out", tmp_path / "out", "--data", tmp_path, "--vary", "model.cell=gru,lstm")
    shared = ("prepare", "all", tmp_path)
    assert called == [shared, ("gru", "cell=gru", True), shared, ("lstm", "cell=lstm", True)]
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [one["scores"] for one in found["runs"]] == [{"CIDEr": 1.25, "BLEU-4": 0.5}] * 2
    assert "CIDEr" in said and "1.250" in said and (tmp_path / "out" / "comparison.png").stat().st_size > 1000


def test_values_are_tested_in_pairs(compare, tmp_path, monkeypatch):
    """On translations that stand in for those of real runs."""
    lines = [f"{number} dogs sleep in the {number * 7} houses" for number in range(40)]

    def run_all(recipe, out, *, base, resume, console):
        wrong = [line.replace("dogs sleep", "cats run") for line in lines]
        (out / "data").mkdir()
        for file, text in (("data/test.reference", lines), ("test.translations.txt", wrong[:9] + lines[9:])):
            (out / file).write_text("".join(f"{line}\n" for line in (lines if "gru" in out.name else text)))
        scores = {"bleu": {"score": 1.0}, "chrf": {"score": 1.0}, "lowercase": False}
        (out / "evaluation.json").write_text(json.dumps(scores))

    monkeypatch.setattr("nmt.translation_recipe.TranslationRecipe.prepare_data", lambda *_: None)
    monkeypatch.setattr("nmt.variants.run_recipe", run_all)
    start = ["demo", "--out", tmp_path / "out", "--vary", "model.cell=rnn,gru", "--vary", "training.seed=1,2"]
    said = compare(*start, "--paired", "model.cell")
    pairs = json.loads((tmp_path / "out" / "comparison.json").read_text())["pairs"]
    assert [(one["metric"], one["value"], one["other"]) for one in pairs] == [
        ("BLEU", "gru", "rnn"),
        ("chrF", "gru", "rnn"),
    ]
    assert all(one["together"]["difference"] > 0 and list(one["seeds"]) == ["1", "2"] for one in pairs)
    assert "BLEU: paired bootstrap over model.cell" in said and "gru - rnn" in said


def test_captions_are_not_tested_in_pairs(compare, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        compare("demo_scenes", "--out", tmp_path / "out", "--vary", "model.cell=gru,lstm", "--paired", "model.cell")
    assert "only translations are tested" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare"),
        (["--vary", "model.cell"], "write it as section.key=value,value"),
        (["--vary", "model.cell=rnn,rnn"], "a value stands there twice"),
        (["--vary", "model.cell=rnn", "--vary", "model.cell=gru"], "model.cell is given twice"),
        (["--vary", "model.sell=rnn,gru"], "Did you mean --model.cell?"),
        (["--vary", "model.layers=1,0"], "model.layers is 0"),
        (
            ["--vary", "model.cell=rnn,gru", "--paired", "model.layers"],
            "must be one of the settings to vary, model.cell",
        ),
    ],
)
def test_what_is_written_wrong_is_one_line_before_anything_runs(tmp_path, arguments, message, compare, capsys):
    with pytest.raises(SystemExit, match="2"):
        compare("long_lag", "--out", tmp_path / "out", *arguments)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_values_may_be_lists():
    assert read_varied(Parser("x", "", ""), ["generate.lags=[1,2],[3]", "model.layers=1"]) == [
        {"generate.lags": "[1,2]", "model.layers": "1"},
        {"generate.lags": "[3]", "model.layers": "1"},
    ]
