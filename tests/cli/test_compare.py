"""scripts/compare.py: recipes of both kinds, gone on with, and what is written wrong."""

import json
import sys

import pytest
from test_run_captioning import TINY_RECIPE
from tiny import ROOT, run

TINY = [
    "--generate.train=40", "--generate.valid=4", "--generate.test=12", "--generate.lags=[2,30]", "--prepare.workers=1",
    "--model.hidden=8", "--model.embedding=8", "--training.max_updates=3", "--threads=1",
]  # fmt: skip


def compare(*arguments):
    return run([sys.executable, str(ROOT / "scripts" / "compare.py"), *map(str, arguments)])


def test_runs_are_compared_and_not_run_again(tmp_path):
    start = ["long_lag", "--out", tmp_path / "out", *TINY, "--training.optimizer=sgd", "--training.clip_norm=0"]
    cells = ["--vary", "model.cell=rnn,lstm"]
    first = compare(*start, *cells, "--vary", "training.learning_rate=0.01,1e30")
    assert first.returncode == 0, first.stderr
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    good, broken = [
        {run["name"]: run for run in found["runs"] if bool(run["failure"]) is failed} for failed in (False, True)
    ]
    assert set(good) == {"cell=rnn,learning_rate=0.01", "cell=lstm,learning_rate=0.01"}
    assert set(broken) == {"cell=rnn,learning_rate=1e30", "cell=lstm,learning_rate=1e30"}
    assert all("training.learning_rate" in run["failure"] for run in broken.values())
    for name, one in good.items():
        assert one["updates"] == 3 and one["minutes"] > 0 and set(one["groups"]) == {"2", "30"}
        metrics = json.loads((tmp_path / "out" / name / "metrics.json").read_text())
        assert metrics["exact"] == one["scores"]["exact"] and metrics["sequences"] == 12
        assert sum(group["sequences"] for group in metrics["groups"].values()) == 12
    assert first.stdout.count("Prepared already") >= len(found["runs"]) and first.stdout.count("Generated") == 1
    weights = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*/model/model.safetensors"))]
    again = compare(*start, *cells, "--vary", "training.learning_rate=0.01")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("Trained already") == again.stdout.count("Evaluated already") == len(weights) == 2
    assert weights == [p.stat().st_mtime_ns for p in sorted((tmp_path / "out").glob("*/model/model.safetensors"))]


def test_captioning_recipes_are_compared_too(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE)
    small = ["--scenes.train=12", "--scenes.valid=2", "--scenes.test=3", "--training.max_updates=2", "--threads=1"]
    done = compare(tmp_path / "tiny.yaml", "--out", tmp_path / "out", "--vary", "model.cell=gru,lstm", *small)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [set(run["scores"]) for run in found["runs"]] == [{"CIDEr", "BLEU-4"}] * 2
    assert "CIDEr" in done.stdout and (tmp_path / "out" / "comparison.png").stat().st_size > 1000
    assert len(list((tmp_path / "out").glob("*/features"))) == 0
    assert [path.resolve().parent.name for path in (tmp_path / "out").glob("cell=*/data")] == ["all", "all"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare"),
        (["--vary", "model.cell"], "write it as section.key=value,value"),
        (["--vary", "model.cell=rnn,rnn"], "a value stands there twice"),
        (["--vary", "model.cell=rnn", "--vary", "model.cell=gru"], "model.cell is given twice"),
        (["--vary", "model.sell=rnn,gru"], "Did you mean --model.cell?"),
        (["--vary", "model.layers=1,0"], "model.layers is 0"),
    ],
)
def test_what_is_written_wrong_is_one_line_before_anything_runs(tmp_path, arguments, message):
    answer = compare("long_lag", "--out", tmp_path / "out", *arguments)
    assert answer.returncode == 2 and message in answer.stderr and answer.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_values_may_be_lists():
    from scripts.command import Parser
    from scripts.compare import read_varied

    parser = Parser("x", "", "")
    assert read_varied(parser, ["generate.lags=[1,2],[3]", "model.layers=1"]) == [
        {"generate.lags": "[1,2]", "model.layers": "1"},
        {"generate.lags": "[3]", "model.layers": "1"},
    ]
