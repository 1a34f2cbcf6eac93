"""GPU readiness without a GPU: the meta device refuses to be mixed with others and to be read back."""

from dataclasses import replace

import pytest
import torch
from tiny import WORDS, random_batch, random_source

from data.tokenizer import BOS_ID
from nmt.config import ModelConfig, TrainingConfig
from nmt.model import SequenceModel, text_model
from nmt.optimization import make_optimizer
from nmt.search import advance, init_beams, make_limits, never_written, settled
from nmt.search_options import SearchOptions
from nmt.stepper import Stepper

META = torch.device("meta")


ATTENTIVE = {"cell": "gru", "bidirectional": True, "attention": "additive", "source_every_step": True}


def make(**config) -> SequenceModel:
    with META:
        return text_model(ModelConfig(layers=2, hidden=8, embedding=8, residual=True, **config), WORDS, WORDS)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("config", [{}, {"tied": "all"}, ATTENTIVE])
def test_a_training_step(kind, config):
    model = make(**config).train()
    optimizer = make_optimizer(model, TrainingConfig(optimizer=kind))
    batch = random_batch(0, [(3, 5), (6, 2)]).to(META)
    loss = model(batch, 0.1)
    (loss.smoothed / 9).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    assert {loss.smoothed.device, loss.nll.device} == {META}
    assert all(parameter.grad.device == META for parameter in model.parameters())


@pytest.mark.parametrize("options", [SearchOptions(beam=3), SearchOptions(sample=True, n_best=3, top_k=5)])
@pytest.mark.parametrize("config", [{}, ATTENTIVE])
def test_search_steps_of_the_model(options, config):
    stepper, batch, beam, time = Stepper(make(**config).eval()), 2, 3, 6
    state = stepper.start(random_source(0, [3, 5]).to(META))
    limits = make_limits(options, torch.zeros(batch).long(), torch.full((batch,), time - 1), [[]] * batch, [1, 2])
    tensors = {name: value.to(META) for name, value in vars(limits).items() if isinstance(value, torch.Tensor)}
    limits = replace(limits, **tensors)
    beams = init_beams(batch, beam, time, META, width=beam)
    state = state.select(beams.parents.flatten() // beam)
    previous, never = torch.full((batch * beam,), BOS_ID, device=META), never_written(False, META)
    for length in range(time):
        log_probs, state = stepper.step(previous, state)
        beams = advance(beams, log_probs, length, limits, never, options)
        state = state.select(beams.parents.flatten())
        previous = beams.tokens[:, :, length].flatten()
    assert settled(beams, limits, options).device == META
    assert state.recurrent.hidden.shape == (2, batch * beam, 8)


def test_the_meta_device_would_notice():
    """What these tests rely on: a tensor on the wrong device and a value read back are errors."""
    model = make()
    with pytest.raises(RuntimeError, match="meta"):
        model.decoder.stack(torch.zeros(1, 2, 8))
    with pytest.raises(RuntimeError, match="meta"):
        model(random_batch(0, [(3, 5)]).to(META)).nll.item()
