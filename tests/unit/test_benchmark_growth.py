"""What the benchmark says of how costs grow; how large they are, no test asks."""

import dataclasses
import json
import sys

import pytest

from data.errors import UserError
from scripts.benchmark import main
from scripts.benchmarks import growth
from scripts.benchmarks.growth_figure import draw_growth

PNG = b"\x89PNG"
AXES = growth.Axes(
    base=growth.Setting(width=8, vocabulary=20, length=4, batch=4, beam=2),
    length=(2, 4), vocabulary=(20, 40), beam=(1, 3), batch=(2, 4), width=(8, 16), pairs=(60,), updates=20,
    corpus_width=8,
)  # fmt: skip


def test_growth_has_a_cost_for_every_value_a_table_and_a_figure(tmp_path):
    costs = growth.measure_growth(AXES, 1)
    both = {(axis, way) for axis in ("length", "vocabulary", "batch", "width") for way in ("training", "decoding")}
    corpora = {("pairs", way) for way in ("preparing", "reading", "train stage")}
    assert {(cost.axis, cost.way) for cost in costs} == both | corpora | {
        ("beam", "decoding"),
        ("vocabulary", "training, sampled"),
    }
    for axis in ("length", "vocabulary", "batch", "width", "beam", "pairs"):
        assert {cost.value for cost in costs if cost.axis == axis} == set(getattr(AXES, axis))
    assert all(cost.microseconds > 0 for cost in costs)
    assert growth.render(costs).row_count == len(costs)
    draw_growth(tmp_path / "costs.png", costs, "here")
    assert (tmp_path / "costs.png").read_bytes()[:4] == PNG
    with pytest.raises(UserError, match="choose another --figure"):
        draw_growth(tmp_path, costs, "here")


def test_growth_is_written_and_drawn_where_it_is_told_to(monkeypatch, tmp_path):
    costs = [growth.Cost("beam", beam, "decoding", 2.0 * beam, 0.1) for beam in (1, 2)]
    monkeypatch.setattr(growth, "measure_growth", lambda *_: costs)
    out, figure = tmp_path / "out.json", tmp_path / "costs.png"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "growth", f"--json={out}", f"--figure={figure}"])
    assert main() == 0
    assert json.loads(out.read_text())["growth"] == [dataclasses.asdict(cost) for cost in costs]
    assert figure.read_bytes()[:4] == PNG
    with pytest.raises(UserError, match=r"out\.json"):
        main()  # what is there is not replaced
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--overwrite"])
    assert main() == 0


def test_longer_sentences_come_in_batches_of_as_many_words():
    base = growth.Setting(length=16, batch=32)
    found = [growth._setting(base, "length", length) for length in (8, 64)]
    assert [(one.length, one.batch) for one in found] == [(8, 64), (64, 8)]


@pytest.mark.parametrize("beam", [1, 3])
def test_untrained_models_write_as_many_words_as_they_are_given(beam):
    setting = dataclasses.replace(AXES.base, beam=beam, length=7)
    found = growth._decoding(setting, growth._plan(setting))()
    assert [len(one[0].tokens) for one in found] == [7] * setting.batch
