"""Going on with a run that was interrupted: the same bits, and never with other settings."""

import contextlib
import json
import os
import signal
from dataclasses import replace

import pytest
from accelerate import Accelerator
from tiny import MODEL, train, weights, write_prepared

import nmt.config
import nmt.trainer
from data.errors import UserError
from nmt.config import changed_settings
from nmt.recipe import refuse_changes
from nmt.run_directory import RunDirectory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without curves.png, which takes longer than the training."""
    monkeypatch.setattr(nmt.trainer, "draw_curves", lambda folder: None)


def test_resuming_gives_the_same_bits(data, tmp_path):
    options = {"validate_every": 4, "checkpoint_every": 3, "accumulate": 2, "optimizer": "adamw"}
    model = replace(MODEL, layers=2, tied="target", cell="gru", bidirectional=True, attention="additive")
    whole = train(data, tmp_path / "whole", model=model, max_updates=12, **options)
    for updates in (1, 5, 8, 12):
        parts = train(data, tmp_path / "parts", model=model, max_updates=updates, resume=updates > 1, **options)
    assert weights(parts.model) == weights(whole.model)
    newest = [RunDirectory(tmp_path / run).newest() for run in ("whole", "parts")]
    assert weights(newest[0]) == weights(newest[1])


def test_resuming_a_finished_run_names_both_numbers(data, tmp_path):
    train(data, tmp_path / "run")
    for limit in (6, 4):
        expected = rf"run: nothing is left to train: it reached update 6, and training\.max_updates is {limit}\. Raise"
        with pytest.raises(UserError, match=expected):
            train(data, tmp_path / "run", resume=True, max_updates=limit)
    assert (tmp_path / "run" / "model").exists()
    assert train(data, tmp_path / "run", resume=True, max_updates=8).updates == 8


def test_a_run_killed_before_it_was_finished_is_finished_on_resuming(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "finish", lambda self, best: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run")
    result = train(data, tmp_path / "run", resume=True)
    assert result.updates == 6
    assert json.loads((result.model / "metrics.json").read_text())["validation"] == result.best.record()


CHANGED = [
    ("training.learning_rate was 0.001 and is 0.01", {"learning_rate": 0.01}),
    ("training.accumulate was 1 and is 2", {"accumulate": 2}),
    ("training.seed was 1 and is 5", {"seed": 5}),
    ("training.schedule was 'constant' and is 'cosine'", {"schedule": "cosine"}),
    ("model.dropout was 0.2 and is 0.5", {"model": replace(MODEL, dropout=0.5)}),
    ("model.reverse_source was True and is False", {"model": replace(MODEL, reverse_source=False)}),
    ("model.hidden was 8 and is 9", {"model": replace(MODEL, hidden=9)}),
]


@pytest.mark.parametrize(("message", "changes"), CHANGED)
def test_changed_settings_are_refused_by_name(data, tmp_path, message, changes):
    train(data, tmp_path / "run")
    with pytest.raises(UserError) as caught:
        train(data, tmp_path / "run", **{"resume": True, "max_updates": 8, **changes})
    assert f"was trained with other settings ({message}): resume with the same" in str(caught.value)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_runs_with_options_that_are_no_more_go_on_where_these_did_nothing(tmp_path, decay):
    changed = [f"training.ema was {decay}, and is no option any more"] if decay else []
    assert changed_settings({"training": {"ema": decay, "seed": 1}}, {"training": {"seed": 1}}, {}) == changed
    noted = tmp_path / "recipe.yaml"
    noted.write_text(f"training:\n  ema: {decay}\n  seed: 1\n")
    with pytest.raises(UserError, match=r"training\.ema was 0\.9 and is 0\.0") if decay else contextlib.nullcontext():
        refuse_changes(noted, {"training": {"seed": 1}}, {})


def test_changed_data_are_refused(data, tmp_path):
    other = write_prepared(tmp_path / "other", pairs=65)
    train(data, tmp_path / "run")
    with pytest.raises(UserError, match=r"was trained with other settings \(fingerprints\.train was"):
        train(other, tmp_path / "run", resume=True, max_updates=8)


def test_limits_may_change_on_resuming(data, tmp_path):
    train(data, tmp_path / "run")
    free = {
        "max_epochs": 50, "max_updates": 8, "max_minutes": 60.0, "patience": 3, "keep_best": 1, "checkpoint_every": 1,
        "valid_beam": 2, "valid_sentences": 2,
    }  # fmt: skip
    assert free.keys() == nmt.config.FREE_TO_CHANGE
    assert train(data, tmp_path / "run", resume=True, **free).updates == 8


def test_another_number_of_processes_is_refused(data, tmp_path, monkeypatch):
    train(data, tmp_path / "run")
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    monkeypatch.setattr(Accelerator, "wait_for_everyone", lambda self: None)
    with pytest.raises(UserError, match="processes was 1 and is 2"):
        train(data, tmp_path / "run", resume=True)
