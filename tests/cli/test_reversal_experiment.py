"""scripts/reversal_experiment.py: a small experiment, stopped and gone on with, and what is written wrong."""

import json
import statistics
import sys

import pytest

import nmt.variants
from data.errors import UserError
from data.scene_sentences import write_parallel
from scripts.reversal_experiment import main

SETTINGS = [
    f"reverse_source={reverse},attention={attention}"
    for reverse in ("false", "true")
    for attention in ("none", "general")
]
TINY = [
    "--model.hidden=8", "--model.embedding=8", "--training.max_updates=2", "--training.valid_sentences=2",
    "--prepare.source.min_count=1", "--prepare.target.min_count=1", "--prepare.workers=1", "--threads=1",
    "--search.beam=1",
]  # fmt: skip


@pytest.fixture
def experiment(monkeypatch, capsys):
    """Calls the command in this process; returns what it wrote to standard output."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["reversal_experiment.py", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return call


def test_an_experiment_is_stopped_gone_on_with_and_drawn_again(experiment, tmp_path, monkeypatch):
    write_parallel(tmp_path / "text", {"train": 60, "val": 4, "test_2016_flickr": 12}, seed=1)
    out, run_recipe, ran = tmp_path / "out", nmt.variants.run_recipe, []
    # what each run shows of itself, which test_run.py looks at, would take most of the time
    monkeypatch.setattr("nmt.trainer.draw_curves", lambda _: None)
    monkeypatch.setattr("nmt.translation_recipe.TranslationRecipe._show_examples", lambda *_: None)

    def stopping(recipe, folder, **rest):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(folder.name)
        run_recipe(recipe, folder, **rest)

    start = ["--data", tmp_path / "text", "--out", out, *TINY, "--seeds", "1,2"]
    monkeypatch.setattr("nmt.variants.run_recipe", stopping)
    with pytest.raises(KeyboardInterrupt):
        experiment(*start)
    monkeypatch.setattr("nmt.variants.run_recipe", run_recipe)
    assert len(ran) == 3 and not (out / "comparison.json").exists()
    said = experiment(*start)
    assert said.count("Trained already") == said.count("Evaluated already") == 3
    assert [folder.name for folder in (out / "prepared").iterdir()] == ["all"]

    found = json.loads((out / "comparison.json").read_text())
    assert [one["name"] for one in found["over_seeds"]] == SETTINGS
    for one in found["over_seeds"]:
        runs = [out / f"{one['name']},seed={seed}" for seed in (1, 2)]
        scores = [json.loads((run / "evaluation.json").read_text()) for run in runs]
        valid = [json.loads((run / "model" / "metrics.json").read_text())["validation"] for run in runs]
        for spread, values in (
            (one["scores"]["BLEU"], [each["bleu_lowercase"]["score"] for each in scores]),
            (one["scores"]["chrF"], [each["chrf_lowercase"]["score"] for each in scores]),
            (one["perplexity"], [each["perplexity"] for each in valid]),
            *((length["bleu"], [each["buckets"][i]["bleu"] for each in scores]) for i, length in lengths(one, scores)),
        ):
            assert spread["mean"] == pytest.approx(statistics.mean(values))
            assert spread["deviation"] == pytest.approx(statistics.stdev(values))
            assert spread["runs"] == 2
        assert sum(length["sentences"] for length in one["lengths"]) == 12
        assert one["minutes"]["mean"] > 0
    assert [(pair["varied"], pair["metric"], list(pair["seeds"])) for pair in found["pairs"]] == [
        ({"model.attention": attention}, metric, ["1", "2"])
        for attention in ("none", "general")
        for metric in ("BLEU", "chrF")
    ]
    # how the tables show the numbers is what test_comparison.py looks at
    for title in ("Scores of the test part", "Mean ± standard deviation over seeds", "BLEU by words of the source",
                  "BLEU: paired bootstrap", "chrF: paired bootstrap"):  # fmt: skip
        assert title in said
    assert said.count("sentence_map.py --model") == 4 and f"{SETTINGS[0]},seed=1/model" in said
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")

    weights = {path: path.stat().st_mtime_ns for path in out.glob("*/model/model.safetensors")}
    (out / "comparison.png").unlink()
    said = experiment(*start)
    assert len(weights) == said.count("Trained already") == 8
    assert weights == {path: path.stat().st_mtime_ns for path in weights}
    assert (out / "comparison.png").exists() and json.loads((out / "comparison.json").read_text()) == found

    changed = r"out: was made with other settings \(training.max_updates was 2 and is 4\): choose another --out"
    with pytest.raises(UserError, match=changed):
        experiment(*start, "--training.max_updates=4", "--seeds=1,2,3")
    assert len(list(out.glob("reverse*"))) == 8


def lengths(one, scores):
    """The lengths of a summary, with their places among the buckets of the runs."""
    words = [bucket["words"] for bucket in scores[0]["buckets"]]
    return [(words.index(length["words"]), length) for length in one["lengths"]]


@pytest.mark.parametrize("given", ["--model.attention=dot", "--training.seed=9", "--model.reverse_source=true"])
def test_what_is_varied_cannot_be_set(experiment, tmp_path, given, capsys):
    with pytest.raises(SystemExit, match="2"):
        experiment("--out", tmp_path / "out", given)
    assert f"{given.partition('=')[0]} is varied here: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["1,1", "1,x", "", "1,"])
def test_wrong_seeds_are_one_line_before_anything_runs(experiment, tmp_path, seeds, capsys):
    with pytest.raises(SystemExit, match="2"):
        experiment("--out", tmp_path / "out", f"--seeds={seeds}")
    said = capsys.readouterr().err
    assert "give different whole numbers" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
