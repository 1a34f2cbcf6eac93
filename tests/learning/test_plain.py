"""The fast path learns what the plain tutorial loop learns: the same losses, update by update, and the same words."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data.batching import Plan
from data.length_ratio import LengthRatio
from data.pool import Pool
from data.source import Ragged
from data.tokenizer import BOS_ID, EOS_ID, PAD_ID
from nmt.config import ModelConfig
from nmt.decoding import decode
from nmt.model import SequenceModel, text_model
from nmt.search_options import SearchOptions
from nmt.stepper import Stepper
from scripts.benchmarks.plain import PlainTranslator

WORDS = 13
UPDATES = 150


def with_its_weights(plain: PlainTranslator, config: ModelConfig) -> SequenceModel:
    model = text_model(config, WORDS, WORDS)
    with torch.no_grad():
        encoder = (model.encoder, plain.source_embedding, plain.encoder)
        decoder = (model.decoder, plain.target_embedding, plain.decoder)
        for side, embedding, stack in (encoder, decoder):
            side.embedding.weight.copy_(embedding.weight)
            for layer, weights in zip(side.stack.layers, stack.all_weights, strict=True):
                for own, its in zip(layer.all_weights[0], weights, strict=True):
                    own.copy_(its)
        for own, its in zip(model.decoder.output.parameters(), plain.output.parameters(), strict=True):
            own.copy_(its)
    return model


def drawn(seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Sequences to copy, of one length for each side: without packing padding would change the plain loop's states."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(4, WORDS, (16, int(draw.integers(2, 4)))).tolist()
    return rows, rows


@pytest.mark.parametrize("layers", [1, 2])
def test_losses_and_words_are_those_of_the_plain_loop(layers):
    torch.manual_seed(0)
    config = ModelConfig(layers=layers, hidden=24, embedding=16, dropout=0.0)
    plain = PlainTranslator(WORDS, WORDS, 16, 24, layers, 0.0)
    model = with_its_weights(plain, config)
    both = [torch.optim.Adam(one.parameters(), 0.01) for one in (plain, model)]
    losses: list[list[float]] = [[], []]
    for update in range(UPDATES):
        sources, targets = drawn(update)
        inputs = torch.tensor([[BOS_ID, *target] for target in targets])
        labels = torch.tensor([[*target, EOS_ID] for target in targets])
        scores = plain(torch.tensor([source[::-1] for source in sources]), inputs)
        slow = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=PAD_ID)
        rows = np.arange(len(sources))
        plan = Plan(Pool(Ragged.of(sources), Ragged.of(targets), rows), rows)
        fast = model.train()(plan.collate(reverse_source=True)).smoothed / plan.target_tokens
        for loss, optimizer, found in zip((slow, fast), both, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
            optimizer.step()
            found.append(loss.item())
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert losses[1][-1] < losses[1][0] / 3
    sources, _ = drawn(UPDATES)
    options, ratio = SearchOptions(beam=1, allow_unknown=True), LengthRatio(1.0, 1.0, 1.0)
    found = decode([Stepper(model.eval())], [Ragged.of(sources)], options, ratio)
    written = [plain.eval().greedy(source[::-1], len(source) + 1) for source in sources]
    assert [one[0].tokens for one in found] == [words[: words.index(EOS_ID)] for words in written]
