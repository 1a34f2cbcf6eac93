"""Training on frames, and using what was trained: `train_frames`, the checkpoint and the `FrameTranslator`."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny import MODEL, TRAINING, train, weights, write_prepared, write_prepared_frames

from data.errors import UserError
from data.prepare_frames import read_sequences
from nmt.checkpoint import load_model
from nmt.frame_translator import FrameTranslator
from nmt.search_options import SearchOptions
from nmt.train_frames import train_frames
from nmt.trainer import TrainingResult
from nmt.translator import Translator

ATTENTIVE = dataclasses.replace(MODEL, cell="gru", bidirectional=True, attention="general", source_every_step=True)
SAMPLES = SearchOptions(sample=True, n_best=2)


def train_on(data: Path, out: Path, *, model=MODEL, resume: bool = False, **changes) -> TrainingResult:
    training = dataclasses.replace(TRAINING, **{"batch_tokens": 512, **changes})
    return train_frames(data, out, model, training, resume=resume, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_prepared_frames(tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    return train_on(data, tmp_path_factory.mktemp("run") / "run", model=ATTENTIVE).model


def test_a_saved_model_reads_raw_frames_as_it_did_in_training(data, trained):
    model = load_model(trained, reads="frames")
    assert model.source is None and model.config["reads"] == "frames" and model.max_length == 1000
    mean, deviation = np.load(data / "standard.npy")
    assert torch.equal(model.model.encoder.mean, torch.tensor(mean, dtype=torch.float32))
    assert torch.equal(model.model.encoder.deviation, torch.tensor(deviation, dtype=torch.float32))
    sequences = read_sequences(data, "test")
    found = FrameTranslator.load(trained).translate(sequences, SearchOptions(beam=3, n_best=3))
    for one, alone in zip(found, sequences, strict=True):
        assert one.error is None and one.frames == len(alone) and 1 <= len(one.hypotheses) <= 3
        (again,) = FrameTranslator.load(trained).translate([alone.tolist()], SearchOptions(beam=3, n_best=3))
        assert [each.text for each in again.hypotheses] == [each.text for each in one.hypotheses]
        assert again.hypotheses[0].log_prob == pytest.approx(one.hypotheses[0].log_prob, abs=1e-4)


@pytest.mark.parametrize("model", [MODEL, ATTENTIVE])
def test_a_resumed_run_ends_in_the_same_weights(data, tmp_path, model):
    whole = train_on(data, tmp_path / "whole", model=model, max_updates=6, validate_every=3)
    train_on(data, tmp_path / "parts", model=model, max_updates=3, validate_every=3)
    parts = train_on(data, tmp_path / "parts", model=model, max_updates=6, validate_every=3, resume=True)
    assert weights(whole.model) == weights(parts.model)
    assert whole.best.scores.keys() == {"bleu", "exact", "rouge_l"}


def test_what_cannot_be_used_has_an_error_and_the_rest_goes_on(data, trained):
    translator = FrameTranslator.load(trained)
    good = read_sequences(data, "test")[0]
    bad = [np.zeros((0, 4)), np.zeros((4, 3)), np.zeros(4), [[1.0, float("nan")]], None]
    found = translator.translate([*bad, good, *bad])
    assert [bool(one.error) for one in found] == [True] * 5 + [False] + [True] * 5
    assert found[5].text == translator.translate([good])[0].text
    assert "it has 3 features in a frame, not 4" in found[1].error
    assert translator.translate([]) == [] and translator.translate(bad)[0].text == ""


def test_samples_depend_on_the_number_of_a_sequence_and_not_on_its_batch(data, trained):
    translator, sequences = FrameTranslator.load(trained), read_sequences(data, "test")
    together = [[each.text for each in one.hypotheses] for one in translator.translate(sequences, SAMPLES)]
    for i, sequence in enumerate(sequences):
        (alone,) = translator.translate([sequence], SAMPLES, first=i)
        assert [each.text for each in alone.hypotheses] == together[i]


def test_an_ensemble_averages_and_must_fit_together(data, trained, tmp_path):
    other = train_on(data, tmp_path / "other", seed=2)
    sequence = read_sequences(data, "test")[0]
    single, both = (FrameTranslator.load(each).translate([sequence])[0] for each in (trained, [trained, other.model]))
    assert both.hypotheses[0].log_prob != single.hypotheses[0].log_prob
    turned = train_on(data, tmp_path / "t", model=dataclasses.replace(MODEL, reverse_source=False))
    with pytest.raises(UserError, match="one of them reads the source backwards"):
        FrameTranslator.load([trained, turned.model])
    narrow = load_model(trained, reads="frames")
    narrow.config["frames"] = {"features": 5}
    with pytest.raises(UserError, match="their frames have other features"):
        FrameTranslator([load_model(trained, reads="frames"), narrow])


def test_a_model_is_used_on_what_it_reads_only(trained, tmp_path):
    with pytest.raises(UserError, match=r"this model reads frames: use it with scripts/translate_frames\.py"):
        Translator.load(trained)
    text = train(write_prepared(tmp_path), tmp_path / "text", max_updates=1).model
    with pytest.raises(UserError, match="this model reads text: use it with the translate command"):
        FrameTranslator.load(text)


def test_settings_that_contradict_frames_are_told(data, tmp_path):
    with pytest.raises(UserError, match=r"model\.tied all needs one shared vocabulary, but the source has 0 entries"):
        train_on(data, tmp_path / "run", model=dataclasses.replace(MODEL, tied="all"))
    with pytest.raises(UserError, match="no prepared data here"):
        train_on(tmp_path / "nothing", tmp_path / "run")
