"""The encoder as search runs it: what the encoder itself gives."""

import pytest
import torch
from tiny import WORDS, random_source, seeded

from nmt import stepper as module
from nmt.config import ModelConfig
from nmt.folded_encoder import FoldedEncoder
from nmt.model import SequenceModel, text_model
from nmt.stepper import Stepper

KINDS = [
    {},
    {"bidirectional": True},
    {"bidirectional": True, "layers": 3, "residual": True},
    {"cell": "gru", "bidirectional": True, "source_every_step": True},
    {"cell": "rnn", "layers": 2},
]
LENGTHS = [3, 1, 6, 6, 2]


def make(**config) -> SequenceModel:
    sizes = {"hidden": 32, "embedding": 16, "layers": 1} | config
    return seeded(lambda: text_model(ModelConfig(**sizes), WORDS, WORDS), 0).eval()


@pytest.mark.parametrize("lengths", [LENGTHS, [4], [5, 5]])
@pytest.mark.parametrize("config", KINDS)
@torch.no_grad()
def test_it_gives_what_the_encoder_gives(config, lengths):
    encoder, source = make(**config).encoder, random_source(0, lengths)
    folded, whole = FoldedEncoder(encoder)(source), encoder(source)
    torch.testing.assert_close(folded.memory, whole.memory)
    torch.testing.assert_close(folded.memory_mask, whole.memory_mask)
    torch.testing.assert_close(folded.state.hidden, whole.state.hidden)
    torch.testing.assert_close(folded.state.cell, whole.state.cell)
    torch.testing.assert_close(folded.vector, whole.vector)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("config", [{**config, "attention": "general"} for config in KINDS])
@torch.no_grad()
def test_many_sentences_are_read_by_it_in_the_precision_asked_for(config, precision, monkeypatch):
    monkeypatch.setattr(module, "bfloat16_computes", lambda device: True)
    model, source = make(**config), random_source(0, LENGTHS)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    exact = Stepper(model).start(source)
    monkeypatch.setattr(module, "_MANY", len(LENGTHS))
    asked, read = [], FoldedEncoder.read
    monkeypatch.setattr(
        FoldedEncoder, "read", lambda self, given: asked.append(len(given.lengths)) or read(self, given)
    )
    found = Stepper(model, precision).start(source)
    difference = (found.recurrent.hidden - exact.recurrent.hidden).abs().max()
    assert difference < {"float32": 1e-6, "bfloat16": 0.05, "int8": 0.05}[precision]
    assert asked == [len(LENGTHS)]
    torch.testing.assert_close(found.memory.values.float(), exact.memory.values, atol=0.05, rtol=0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@torch.no_grad()
def test_few_are_read_by_the_encoder_itself():
    model, source = make(), random_source(0, LENGTHS)
    assert torch.equal(Stepper(model).start(source).recurrent.hidden, model.encode(source).state.hidden)
