import math
from dataclasses import replace

import pytest
import torch

from nmt.search import EOS
from nmt.search_options import SearchOptions
from tests.table_model import TableModel, greedy

torch.set_num_threads(1)

INF = math.inf


def first_tokens(model: TableModel, options: SearchOptions, count: int) -> dict[int, float]:
    """How often each token is sampled first, over many sentences that are the same but for their seed."""
    found = model.run([0] * count, options, [0] * count, [1] * count, seeds=range(count))
    firsts = [each[0].tokens[0] if each[0].tokens else EOS for each in found]
    return {token: firsts.count(token) / count for token in sorted(set(firsts))}


def test_sampling_follows_the_distribution():
    model, count = TableModel(seed=2, sharpness=1.0), 4000
    log_probs = model.next(0, [])
    words = list(range(EOS, model.vocab))
    for temperature in (1.0, 0.5, 2.0):
        expected = (log_probs[words] / temperature).softmax(-1).tolist()
        seen = first_tokens(model, SearchOptions(sample=True, temperature=temperature), count)
        for word, probability in zip(words, expected, strict=True):
            error = math.sqrt(probability * (1 - probability) / count)
            assert abs(seen.get(word, 0) - probability) < 4 * error


def test_top_k_and_top_p_cut_the_tail():
    model, count = TableModel(seed=2, sharpness=1.0), 2000
    probabilities = model.next(0, [])[EOS:].softmax(-1)
    ranked = (probabilities.argsort(descending=True) + EOS).tolist()
    mass = probabilities.sort(descending=True).values.cumsum(0).tolist()
    for kept in (1, 2, 3):
        top_k = first_tokens(model, SearchOptions(sample=True, top_k=kept), count)
        assert set(top_k) == set(ranked[:kept])
        assert top_k[ranked[0]] == pytest.approx(mass[0] / mass[kept - 1], abs=0.05)
        # The nucleus is the fewest tokens that hold top_p: just under their mass takes them all, just over one more.
        under = first_tokens(model, SearchOptions(sample=True, top_p=mass[kept - 1] - 0.001), count)
        over = first_tokens(model, SearchOptions(sample=True, top_p=mass[kept - 1] + 0.001), count)
        assert (set(under), set(over)) == (set(ranked[:kept]), set(ranked[: kept + 1]))
    both = first_tokens(model, SearchOptions(sample=True, top_k=2, top_p=mass[0] / mass[1] - 0.001), count)
    assert set(both) == {ranked[0]}


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_narrow_sampling_is_greedy(narrow):
    model = TableModel(seed=4)
    found = model.run(range(6), SearchOptions(sample=True, n_best=3, **narrow), [0] * 6, [9] * 6)
    for sentence, hypotheses in enumerate(found):
        tokens, total = greedy(model, sentence, 0, 9)
        assert [each.tokens for each in hypotheses] == [tokens]  # three equal samples are one
        assert hypotheses[0].log_prob == pytest.approx(total, abs=1e-5)


def test_samples_count_the_model_s_own_log_probability():
    model = TableModel(seed=4)
    options = SearchOptions(sample=True, n_best=20, temperature=2.0, top_k=3, length_penalty=0.6)
    (found,) = model.run([1], options, [1], [6])
    assert len(found) > 5
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert len({tuple(each.tokens) for each in found}) == len(found)
    for each in found:
        ended = [*each.tokens, EOS]
        total = sum(model.next(1, ended[:i])[token].item() for i, token in enumerate(ended))
        assert each.finished
        assert (each.log_prob, each.score) == pytest.approx((total, total / len(ended) ** 0.6), abs=1e-5)


def test_seeds_make_samples():
    model = TableModel(seed=4, vocab=30, sharpness=0.5)
    options = SearchOptions(sample=True, n_best=4)
    arguments = [0, 0], options, [5, 5], [9, 9]
    one = model.run(*arguments)
    assert model.run(*arguments) == one
    assert one[0] != one[1]
    assert model.run(*arguments, seeds=[7, 7])[0] == model.run(*arguments, seeds=[7, 7])[1]
    assert model.run([0, 0], replace(options, seed=2), [5, 5], [9, 9])[0] not in one
    drawn = {tuple(each.tokens) for each in one[0]}
    assert drawn < {tuple(each.tokens) for each in model.run([0], replace(options, n_best=8), [5], [9])[0]}
