"""What the benchmark measures with; how fast anything is, no test asks."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.text import Text

from captioning.captioner import Captioner
from data.batching import Plan
from data.errors import UserError
from data.pool import Pool
from data.shortlist import Shortlist
from data.source import Ragged
from data.tokenizer import BOS_ID, Tokenizer
from nmt import device
from nmt.config import ModelConfig, TrainingConfig
from nmt.processes import make_accelerator
from scripts import benchmark
from scripts.benchmark import main
from scripts.benchmarks import captioning, decoding, preparing, starting, training
from scripts.benchmarks.commands import first_line, peak_memory
from scripts.benchmarks.corpora import RandomText
from scripts.benchmarks.limits import Shape, measure_limits
from scripts.benchmarks.plain import PlainCaptioner, PlainTranslator, train_plainly
from scripts.benchmarks.timing import Timing, alternate, write_json
from scripts.benchmarks.training import _operations
from scripts.benchmarks.updates import Updates
from tests.tiny import save_translator
from tests.tiny_captions import train_captions, write_prepared_captions


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
    assert [one.operation for one in found if one.precision == "float32"] == [
        "softmax, 6 rows, 8 words", "softmax, 6 rows, 16 words", "LSTM, forward and back", "softmax, 5 rows",
        "softmax, 5 rows, by column",
    ]  # fmt: skip
    assert {"float32", "int8"} <= {one.precision for one in found} and all(one.gflops > 0 for one in found)


def test_figures_go_to_a_file_or_it_is_said_why_not(tmp_path):
    write_json(tmp_path / "out.json", {"a": 1})
    assert json.loads((tmp_path / "out.json").read_text()).keys() == {"a", "hardware"}
    with pytest.raises(UserError, match="choose another --json"):
        write_json(tmp_path, {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["limits", "--threads=0"],
        ["limits", "--rounds=0"],
        ["every"],
        ["growth", "--figure=nowhere/costs.png"],
        ["all", "--json=nowhere/out.json"],
        ["all", "--count=0"],
        ["decode", "--captioner=model"],
    ],
)
def test_wrong_options_are_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and arguments[-1].split("=")[0].removeprefix("--") in said


def test_all_measures_what_its_options_allow_and_says_what_it_left_out(monkeypatch, capsys, tmp_path):
    def measure(what, options):
        if what == "growth":
            raise UserError("no memory")
        return {"figure": len(what)}, Text(f"table of {what}")

    monkeypatch.setattr(benchmark, "_measure", measure)
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "all", "--model=m", "--source=s", "--images=i", f"--json={out}"])
    assert main() == 1  # growth failed
    said = capsys.readouterr().out
    assert "table of decode" in said and "caption is left out: needs --captioner" in said
    found = json.loads(out.read_text())
    assert found["limits"] == {"figure": 6} and {"train", "decode", "hardware"} < found.keys()
    assert found["threads"] == 1
    left_out = {"prepare": "needs --data", "caption": "needs --captioner", "growth": "no memory"}
    assert found["left_out"] == left_out and not left_out.keys() & found.keys()


def test_all_is_well_where_options_are_lacking_only(monkeypatch):
    monkeypatch.setattr(benchmark, "_measure", lambda what, options: ({}, what))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "all"])
    assert main() == 0


def test_training_is_measured_and_its_time_divided():
    config = ModelConfig(layers=1, hidden=8, embedding=8)
    found = training.measure_training(1, 1, config, RandomText(200, 30, 30), updates=20)
    assert found.ours[0] > 0 and found.plain[0] > 0
    assert sum(found.parts.values()) == pytest.approx(1)
    Console(quiet=True).print(training.render(found))


def test_parts_of_an_update_are_told_apart_and_weights_learn():
    rows = np.arange(2)
    plan = Plan(Pool(Ragged.of([[4, 5], [5]]), Ragged.of([[6], [7, 6]]), rows), rows)
    updates = Updates(ModelConfig(layers=1, hidden=8, embedding=8), 8, 8, make_accelerator(TrainingConfig()))
    before = [weight.detach().clone() for weight in updates._model.parameters()]
    parts = updates.shares([plan], [plan, plan])
    assert parts.keys() == {
        "data", "encoder", "decoder, recurrent", "attention, output, loss and its gradient", "backward", "optimizer",
    }  # fmt: skip
    assert all(0 < share < 1 for share in parts.values()) and sum(parts.values()) == pytest.approx(1)
    assert not all(torch.equal(*pair) for pair in zip(before, updates._model.parameters(), strict=True))


def test_commands_are_timed_to_their_first_line_and_their_memory_is_their_own():
    echo = [sys.executable, "-c", "print(input())"]
    assert first_line(echo, "a line\n") > 0
    with pytest.raises(UserError, match="EOFError"):
        first_line(echo, "")
    held = np.zeros(40_000_000, np.uint8)  # what this process holds is not counted
    small, large = (peak_memory([sys.executable, "-c", f"x = b'1' * {size}"]) for size in (1, 30_000_000))
    assert small < large - 25_000_000 and small < held.nbytes
    with pytest.raises(UserError, match="no such thing"):
        peak_memory([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_preparing_is_measured_beside_the_plain_way(tmp_path):
    pytest.importorskip("psutil", reason="measuring memory needs psutil")
    (tmp_path / "fra.txt").write_text("".join(f"a dog {i}\tun chien {i}\n" for i in range(2500)))
    found = preparing.measure_prepare(3000, tmp_path / "fra.txt", 1, 1)
    assert all(seconds[0] > 0 and found.peak_mb[way][0] > 5 for way, seconds in found.seconds.items())
    assert preparing.render(found).row_count == 2
    with pytest.raises(UserError, match="no such file"):
        preparing.measure_prepare(3000, tmp_path / "missing.txt", 1, 1)


def test_decoding_is_measured_with_a_trained_model(monkeypatch, tmp_path):
    model, source = Path(save_translator(tmp_path / "model", 1)), tmp_path / "source.txt"
    source.write_text("ein hund\n\nzwei hunde\n")
    commands = []
    monkeypatch.setattr(starting, "first_line", lambda command, text: commands.append((command, text)) or 2.0)
    monkeypatch.setattr(starting, "peak_memory", lambda command: commands.append((command, None)) or 3_000_000)
    found = decoding.measure_decoding(model, source, 3, 2, 1)
    assert set(found.counts.values()) == {2} and all(rate > 0 for rate in found.rates.values())
    assert found.alike["float32"] == 1 and found.alone_ms.keys() >= {"float32", "int8"}
    assert found.start["translate"] == starting.Process([2.0, 2.0], [3.0, 3.0])
    assert len(commands) == 8 and commands[0][1] == "ein hund\n" and str(model) in commands[0][0]
    Console(quiet=True).print(decoding.render(found))
    sides = [Tokenizer.load(model / f"{side}.model") for side in ("source", "target")]
    size = len(sides[1])
    Shortlist(Ragged.of([[]] * size), np.arange(size)).save(tmp_path / "shortlist", *sides)
    listed = decoding.measure_decoding(model, source, 3, 1, 1, tmp_path / "shortlist")
    assert listed.rates.keys() - found.rates.keys() >= {
        f"{search}, {precision}, with shortlist" for search in ("greedy", "beam 5") for precision in ("float32", "int8")
    }
    assert listed.alike["float32, with shortlist"] == 1


def test_the_plain_captioner_writes_as_many_words_as_asked():
    model = PlainCaptioner(5, 9, 4, 6, 2).eval()
    assert len(model.greedy(torch.randn(1, 5), 3)) == 3


def test_captioning_is_measured_from_files_to_text(monkeypatch, tmp_path):
    data = write_prepared_captions(tmp_path, train=8)
    model = train_captions(data, tmp_path / "run", max_updates=1, valid_sentences=1).model
    cold = captioning.ColdMeasurement(2.0, 1.0, 1.0, 1.0, 1)
    monkeypatch.setattr(captioning, "measure_cold", lambda *_: cold)
    monkeypatch.setattr(device, "bfloat16_computes", lambda where: False)
    found = captioning.measure_captioning(model, tmp_path / "corpus" / "images", 3, 1, 1)
    assert found.captions.images == found.features.images == 3 and found.cold == cold
    assert found.features.largest_difference < 0.1 and all(rate > 0 for rate in found.captions.rates.values())
    Console(quiet=True).print(captioning.render(found))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="leave it out of --images"):
        captioning.measure_captions(Captioner.load(model), [tmp_path / "broken.jpg"], 1, 1)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="choose another --images"):
        captioning.measure_captioning(tmp_path / "model", tmp_path, 2, 1, 1)
