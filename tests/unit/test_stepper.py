"""Steps with weights laid out for search: the same as the decoder's own, or nearly so in fewer bits."""

import pytest
import torch
from tiny import WORDS, random_source, seeded

from data.errors import UserError
from nmt import folding
from nmt import stepper as module
from nmt.config import ModelConfig
from nmt.model import SequenceModel, text_model
from nmt.stepper import Stepper

KINDS = [
    {},
    {"tied": "all", "embedding": 16, "attention": "general", "layers": 2, "residual": True},
    {"cell": "gru", "attention": "additive", "source_every_step": True},
    {"cell": "gru"},
    {"cell": "rnn", "attention": "dot"},
    {"attention": "general", "layers_above": 2},
    {"repeat_vector": True},
]


def make(**config) -> SequenceModel:
    sizes = {"hidden": 32, "embedding": 32, "layers": 1} | config
    return seeded(lambda: text_model(ModelConfig(**sizes), WORDS, WORDS), 0).eval()


@torch.no_grad()
def steps(stepper: Stepper, count: int = 4) -> tuple[torch.Tensor, object]:
    state = stepper.start(random_source(0, [3, 5]))
    found = []
    for token in range(4, 4 + count):
        log_probs, state = stepper.step(torch.tensor([token, token + 1]), state)
        found.append(log_probs)
    return torch.stack(found), state


@pytest.mark.parametrize("config", KINDS)
def test_steps_give_log_probabilities(config):
    model = make(**config)
    log_probs, state = steps(Stepper(model), 1)
    assert (log_probs[..., WORDS:] == -torch.inf).all()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(1, 2))
    begun = model.decoder.start(model.encode(random_source(0, [3, 5])), 2)
    scores, expected = model.decoder.step(torch.tensor([4, 5]), begun)
    torch.testing.assert_close(log_probs[0, :, :WORDS], scores.log_softmax(-1))
    torch.testing.assert_close(state.recurrent.hidden, expected.recurrent.hidden)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("config", KINDS)
def test_8_bits_are_nearly_enough(config, half, monkeypatch):
    monkeypatch.setattr(module, "bfloat16_computes", lambda device: half)
    model = make(**config)
    exact, (rounded, state) = steps(Stepper(model))[0], steps(Stepper(model, "int8"))
    assert state.recurrent.hidden.dtype == torch.float32
    assert state.vector is None or state.vector.dtype == torch.float32
    assert state.memory is None or state.memory.values.dtype == state.memory.keys.dtype == torch.float32
    assert (rounded[..., WORDS:] == -torch.inf).all()
    difference = (exact - rounded)[..., :WORDS].abs()
    assert 0 < difference.max() < 0.05
    assert exact[..., :WORDS].std() > 5 * difference.mean()


@pytest.mark.parametrize("config", KINDS)
def test_bfloat16_is_nearly_enough(config, monkeypatch):
    monkeypatch.setattr(module, "bfloat16_computes", lambda device: True)  # it does anywhere, though slowly
    model = make(**config)
    exact, rounded = steps(Stepper(model))[0], steps(Stepper(model, "bfloat16"))[0]
    assert rounded.dtype == torch.float32
    difference = (exact - rounded)[..., :WORDS].abs()
    assert 0 < difference.max() < 0.05


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("config", KINDS)
@torch.no_grad()
def test_probabilities_of_some_words_are_normalised_over_them(config, precision, monkeypatch):
    monkeypatch.setattr(module, "bfloat16_computes", lambda device: True)
    full, words = Stepper(make(**config), precision), torch.tensor([0, 1, 2, 3, 7, 12, 19])
    some = full.restricted(words)
    states = [one.start(random_source(0, [3, 5])) for one in (full, some)]
    for place in (2, 5, 6, 4):
        expected, states[0] = full.step(words[[place, 4]], states[0])
        found, states[1] = some.step(torch.tensor([place, 4]), states[1])
        assert found.shape[1] % 64 == 0 and (found[:, len(words) :] == -torch.inf).all()
        torch.testing.assert_close(found[:, : len(words)], expected[:, words].log_softmax(-1))


def test_a_table_of_what_words_give_is_made_if_it_is_not_too_large(monkeypatch):
    model = make(tied="all")
    folded = Stepper(model)
    monkeypatch.setattr(folding, "_LARGEST", WORDS * 4 * 32 - 1)
    whole = Stepper(model)
    sizes = [one._decoder.embedding.weight.shape for one in (folded, whole)]
    assert sizes == [(WORDS, 4 * 32), (WORDS, 32)]
    torch.testing.assert_close(steps(folded)[0], steps(whole)[0])


def test_what_the_device_does_not_compute_in_is_refused(monkeypatch):
    monkeypatch.setattr(module, "bfloat16_computes", lambda device: False)
    with pytest.raises(UserError, match="precision bfloat16: this cpu does not compute in it: choose float32"):
        Stepper(make(), "bfloat16")
    with torch.device("meta"):
        model = text_model(ModelConfig(hidden=8, embedding=8), WORDS, WORDS)
    with pytest.raises(UserError, match="precision int8 is for processors, not for a meta: choose float32"):
        Stepper(model, "int8")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_model_is_left_as_it_was(precision):
    model = make(tied="all", attention="general")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    modules = [type(one) for one in model.modules()]
    steps(Stepper(model, precision))
    assert [type(one) for one in model.modules()] == modules
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) and weight.requires_grad
    assert model.decoder.output.weight is model.decoder.embedding.weight
