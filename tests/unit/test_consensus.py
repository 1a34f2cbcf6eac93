"""Consensus: similar sentences vote for each other."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from captioning.cider import CiderD
from nmt.consensus import by_consensus, similarities
from nmt.search import Hypothesis
from nmt.search_options import SearchOptions
from nmt.translator import Translator
from tests.tiny import SCENE_WORDS, save_translator

torch.set_num_threads(1)


def test_similar_is_what_cider_d_counts_alike_without_weights():
    draw = random.Random(1)
    sentences = [[draw.randint(4, 7) for _ in range(draw.randint(0, 12))] for _ in range(9)]
    metric = CiderD([[["a"]]])
    metric._weights, metric._rare = {}, 1.0  # every n-gram counts alike
    expected = np.stack([metric.scores(sentences, [[one]] * len(sentences)) for one in sentences], 1) / 10
    np.testing.assert_allclose(similarities(sentences), expected, atol=1e-9)


def test_the_middle_of_many_comes_before_the_most_probable_one():
    alone, *many = ([9, 8, 7, 6, 5, 4], [4, 5, 6, 7, 8], [4, 5, 6, 7, 9], [4, 5, 6, 7, 8, 9])
    found = [Hypothesis(tokens, -1.0 - rank / 10, -0.2, True) for rank, tokens in enumerate((alone, *many))]
    ordered = by_consensus(found, 10.0)
    assert ordered[-1].tokens == alone and ordered[0].tokens == [4, 5, 6, 7, 8]
    assert [one.score for one in ordered] == sorted((one.score for one in ordered), reverse=True)
    assert all(0 < one.score <= 1 for one in ordered)
    assert {one.log_prob for one in ordered} == {one.log_prob for one in found}
    # where only the most probable counts, it agrees with itself most
    assert by_consensus(found, 0.001)[0].tokens == alone
    assert by_consensus(found[:1], 3.0)[0].score == pytest.approx(1.0)


def test_the_beam_is_put_in_another_order(tmp_path):
    translator = Translator.load(save_translator(tmp_path / "model", 1))
    draw = random.Random(3)
    texts = [" ".join(draw.choices(SCENE_WORDS, k=draw.randint(2, 9))) for _ in range(20)]
    options = SearchOptions(beam=6, n_best=6)
    plain, agreed = (translator.translate(texts, replace(options, consensus=value)) for value in (0.0, 3.0))
    for one, other in zip(plain, agreed, strict=True):
        assert {each.text for each in one.hypotheses} == {each.text for each in other.hypotheses}
    best = [one.text for one in translator.translate(texts, replace(options, n_best=1, consensus=3.0))]
    assert best == [one.text for one in agreed] != [one.text for one in plain]
