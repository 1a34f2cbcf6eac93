import itertools
import math

import numpy as np
import pytest
import torch

from data.length_ratio import LengthRatio
from data.source import Ragged
from data.tokenizer import EOS_ID, UNK_ID
from nmt.config import ModelConfig
from nmt.decoding import decode
from nmt.model import text_model
from nmt.scoring import score_pairs
from nmt.search_options import SearchOptions
from nmt.stepper import Stepper
from tests.tiny import WORDS, seeded

CONFIGS = [ModelConfig(hidden=8, embedding=8), ModelConfig(hidden=8, embedding=6, cell="gru", attention="general")]


def models(*configs: ModelConfig):
    made = [seeded(lambda c=config: text_model(c, WORDS, WORDS), seed).eval() for seed, config in enumerate(configs)]
    with torch.no_grad():
        for parameter in itertools.chain.from_iterable(model.parameters() for model in made):
            parameter.mul_(3)
    return made


@pytest.mark.parametrize("number", [1, 2])
def test_what_search_found_scores_as_search_says(number):
    network = models(*CONFIGS[:number])
    sources = Ragged.of([[5, 6, 7], [8], [9, 10, 11, 12, 13], [4, 4]])
    found = decode(
        [Stepper(one) for one in network],
        [sources] * number,
        SearchOptions(beam=3, n_best=3, allow_unknown=True),
        LengthRatio(0.2, 1.0, 3.0),
    )
    pairs = [(i, one) for i, each in enumerate(found) for one in each if one.finished]
    assert len(pairs) > 4
    rows = np.array([i for i, _ in pairs])
    repeated = Ragged.of([sources.values[sources.offsets[i] :][: sources.lengths[i]].tolist() for i in rows])
    scores = score_pairs(network, repeated, Ragged.of([one.tokens for _, one in pairs]), batch_tokens=16)
    for score, (_, one) in zip(scores, pairs, strict=True):
        assert score.log_prob == pytest.approx(one.log_prob, abs=1e-4)
        assert score.tokens == len(one.tokens) + 1 and score.unknown == one.tokens.count(UNK_ID)


@torch.no_grad()
def test_the_probabilities_of_all_translations_of_one_word_add_up():
    [network] = models(CONFIGS[0])
    targets: list[list[int]] = [[], *([word] for word in range(WORDS) if word != EOS_ID)]
    scores = score_pairs([network], Ragged.of([[5, 6]] * len(targets)), Ragged.of(targets))
    assert math.fsum(math.exp(one.log_prob) for one in scores) < 1
    # those of the first word, whatever follows, are one
    stepper = Stepper(network)
    start = stepper.start(Ragged.of([[5, 6]]).collate(np.array([0]), reverse=True))
    first = stepper.step(torch.tensor([2]), start)[0][0].exp()
    assert math.exp(scores[0].log_prob) == pytest.approx(float(first[EOS_ID]), rel=1e-4)


def test_nothing_scores_nothing():
    assert score_pairs(models(CONFIGS[0]), Ragged.of([]), Ragged.of([])) == []
