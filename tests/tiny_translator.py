"""The smallest thing that translates."""

import random
from collections import Counter

import torch

from data.length_ratio import LengthRatio
from data.tokenizer import Tokenizer, TokenizerConfig
from nmt.checkpoint import TrainedModel
from nmt.config import ModelConfig
from nmt.model import text_model
from nmt.search_options import SearchOptions

WORDS = ["a", "dog", "cat", "sleeps", "runs", "in", "the", "house", "and", "sees", ".", "!", ",", "?"]
LONGEST = 12
GREEDY = SearchOptions(beam=1)


def make_tokenizer(words=WORDS, **config) -> Tokenizer:
    return Tokenizer.train(Counter(dict.fromkeys(words, 9)), TokenizerConfig(**config))


def make_model(seed: int = 1, tokenizer: Tokenizer | None = None, **config) -> TrainedModel:
    tokenizer = tokenizer or make_tokenizer()
    torch.manual_seed(seed)
    model = text_model(ModelConfig(hidden=16, embedding=16, **config), len(tokenizer), len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # distributions with clear winners
    return TrainedModel(model, tokenizer, tokenizer, LengthRatio(0.5, 1.0, 2.0), LONGEST, {})


def random_sentences(count: int, longest: int = LONGEST, seed: int = 5) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS[:10], k=draw.randint(1, longest))) for _ in range(count)]
