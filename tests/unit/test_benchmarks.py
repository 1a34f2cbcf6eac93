"""What the benchmark measures with; how fast anything is, no test asks."""

import json
import sys

import pytest
import torch

from data.errors import UserError
from data.tokenizer import BOS_ID
from nmt.config import ModelConfig
from scripts.benchmark import main
from scripts.benchmarks.limits import Shape, measure_limits
from scripts.benchmarks.plain import PlainTranslator, train_plainly
from scripts.benchmarks.timing import Timing, alternate, write_json
from scripts.benchmarks.training import _operations


def test_ways_take_turns_after_a_warm_up():
    done = []
    found = alternate({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 2)
    assert done == ["a", "b"] * 3 and [len(found[name].elapsed) for name in "ab"] == [2, 2]


def test_a_timing_is_told_by_its_median():
    timing = Timing([1.0, 5.0, 2.0], [0.0, 0.0, 0.0])
    assert timing.seconds == 2.0 and timing.spread == 2.0


def test_operations_are_two_a_weight_and_three_times_that_to_learn():
    config = ModelConfig(layers=2, hidden=3, embedding=2)
    model = PlainTranslator(9, 11, config.embedding, config.hidden, config.layers, 0.0)
    matrices = {name: sum(p.numel() for p in part.parameters() if p.dim() > 1) for name, part in model.named_children()}
    assert matrices["encoder"] == matrices["decoder"]
    # two source words for every target word, the end token being one
    expected = 3 * 2 * (2 * matrices["encoder"] + matrices["decoder"] + matrices["output"])
    assert _operations(config, 11, [([4] * 6, [4] * 2)]) == expected


def test_the_plain_loop_learns_and_writes():
    torch.manual_seed(1)
    pairs = [([4, 5], [6, 7]), ([5, 4], [7, 6])] * 8
    model = PlainTranslator(8, 8, 8, 16, 1, 0.0)
    assert train_plainly(model, pairs, rows=4, updates=150, warm=1) > 0
    assert model.eval().greedy([5, 4], 2) == [6, 7] and BOS_ID not in model.greedy([4, 5], 2)


def test_limits_are_of_every_precision_that_the_processor_computes_in():
    found = measure_limits(Shape(rows=2, time=3, embedding=4, hidden=4, layers=1, vocabulary=8), rounds=1)
    assert {one.operation for one in found} == {"matrix product", "LSTM, forward and back"}
    assert "float32" in {one.precision for one in found} and all(one.gflops > 0 for one in found)


def test_figures_go_to_a_file_or_it_is_said_why_not(tmp_path):
    write_json(tmp_path / "out.json", {"a": 1})
    assert json.loads((tmp_path / "out.json").read_text()).keys() == {"a", "hardware"}
    with pytest.raises(UserError, match="choose another --json"):
        write_json(tmp_path, {})


@pytest.mark.parametrize("arguments", [["limits", "--threads=0"], ["limits", "--rounds=0"], ["all"]])
def test_wrong_options_are_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and arguments[-1].split("=")[0] in said
