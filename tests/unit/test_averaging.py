import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from tiny import MODEL, save_translator, train, weights, write_prepared
from torch import nn

import nmt.trainer
from data.errors import UserError
from nmt.averaging import MovingAverage, average_models
from nmt.checkpoint import FILES, load_model, write_manifest
from nmt.run_directory import RunDirectory
from nmt.translator import Translator


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A run with two checkpoints, and one of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_prepared(folder / "prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nmt.trainer, "draw_curves", lambda run: None)
        train(data, folder / "run", max_updates=4, validate_every=2)
        train(data, folder / "other", max_updates=1, seed=2)
        train(data, folder / "wide", max_updates=1, model=replace(MODEL, hidden=12))
        train(write_prepared(folder / "more", pairs=80), folder / "words", max_updates=1)
    return folder


def checkpoints(runs: Path) -> list[Path]:
    run = RunDirectory(runs / "run")
    return [run.at(update) for update in (2, 4)]


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(weights(folder))


def test_the_weights_are_the_mean(runs, tmp_path):
    one, two = checkpoints(runs)
    average_models([one, two], tmp_path / "mean")
    before, found = (loaded(one), loaded(two)), loaded(tmp_path / "mean")
    assert found.keys() == before[0].keys()
    for name, value in found.items():
        torch.testing.assert_close(value, (before[0][name] + before[1][name]) / 2)
    assert any(not torch.equal(value, before[0][name]) for name, value in found.items())
    assert json.loads((tmp_path / "mean" / "metrics.json").read_text())["average_of"] == [str(one), str(two)]
    assert not (tmp_path / "mean" / "state").exists()
    model = load_model(tmp_path / "mean")
    assert model.config == load_model(one).config
    assert Translator([model]).translate(["Ein Hund."])


def test_counts_stay_whole_numbers(tmp_path):
    for name, count in (("one", 3), ("two", 6)):
        save_translator(tmp_path / name, 1)
        content = loaded(tmp_path / name) | {"count": torch.tensor(count)}
        (tmp_path / name / "model.safetensors").write_bytes(safetensors.torch.save(content))
        write_manifest(tmp_path / name, (*FILES, "source.model"))
    average_models([tmp_path / "one", tmp_path / "two"], tmp_path / "mean")
    assert torch.equal(loaded(tmp_path / "mean")["count"], torch.tensor(4))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("other", "training.seed was 1 and is 2"),
        ("wide", "model.hidden was 8 and is 12"),
        ("words", "vocabularies differ"),
    ],
)
def test_models_that_do_not_fit_together_are_refused(runs, tmp_path, other, message):
    with pytest.raises(UserError, match=rf"have no meaningful average: .*{message}.*Give checkpoints of one run"):
        average_models([checkpoints(runs)[0], runs / other / "model"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_weights_of_other_shapes_are_refused(tmp_path):
    for name, layers in (("one", 1), ("two", 2)):
        save_translator(tmp_path / name, 1, layers=layers)
    settings = yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())
    settings["model"]["layers"] = 1
    (tmp_path / "two" / "config.yaml").write_text(yaml.safe_dump(settings))
    write_manifest(tmp_path / "two", (*FILES, "source.model"))
    with pytest.raises(UserError, match=r"is missing in .*one, but \(.*\) in .*two"):
        average_models([tmp_path / "one", tmp_path / "two"], tmp_path / "mean")


def test_one_model_or_a_damaged_one_is_refused(runs, tmp_path):
    one = checkpoints(runs)[0]
    for given in ([one], [one, one]):
        with pytest.raises(UserError, match="needs two or more models"):
            average_models(given, tmp_path / "mean")
    with pytest.raises(UserError, match="no model directory here"):
        average_models([one, tmp_path], tmp_path / "mean")
    save_translator(tmp_path / "damaged", 1)
    with (tmp_path / "damaged" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="cut off or changed"):
        average_models([one, tmp_path / "damaged"], tmp_path / "mean")


def test_the_command_and_what_it_overwrites(runs, tmp_path, monkeypatch, capsys):
    from scripts import average_checkpoints
    from scripts.command import run

    one, two = map(str, checkpoints(runs))

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["x", "--model", one, "--model", two, "--out", *arguments])
        with pytest.raises(SystemExit) as end:
            run(average_checkpoints.NAME, average_checkpoints.main)
        return end.value.code, "".join(capsys.readouterr())

    out = str(tmp_path / "mean")
    assert call(out) == (0, f"The average of 2 models is in {out}\n")
    code, said = call(out)
    assert code == 1 and "exists already" in said
    assert call(out, "--overwrite")[0] == 0
    (tmp_path / "mean" / "mine").touch()
    for place in (out, one):
        code, said = call(place, "--overwrite")
        assert code == 1 and "is not replaced" in said
    assert (tmp_path / "mean" / "mine").exists()


def test_a_moving_average_comes_and_goes():
    """By hand, with a frozen weight; what it holds goes in and out of the model to the same bits."""
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    bias = model.bias.item()
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = MovingAverage(model, 0.5)
    for n, value in ((1, 2.0), (100, 4.0)):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(n)
    expected = 0.5 * (2 / 11 * 1.0 + 9 / 11 * 2.0) + 0.5 * 4.0
    with pytest.raises(KeyError), average.in_place() as own:
        assert model.weight.item() == pytest.approx(expected)
        assert {name: weight.item() for name, weight in own.items()} == {"weight": 4.0}
        raise KeyError
    assert (model.weight.item(), model.bias.item()) == (4.0, bias)
