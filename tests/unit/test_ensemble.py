import math

import torch

from nmt.ensemble import Ensembled, average
from nmt.search import BOS, search
from nmt.search_options import SearchOptions
from tests.table_model import TableModel

torch.set_num_threads(1)

INF = math.inf


def test_average_is_the_mean_of_probabilities():
    models = [TableModel(seed=seed) for seed in range(3)]
    models[0].table[:, 4] = -INF
    for model in models:
        model.table[:, 5] = -INF
    ensemble = average([model.step for model in models])
    state = Ensembled(tuple(model.start([0, 1, 2]) for model in models))
    log_probs, state = ensemble(torch.tensor([BOS] * 3), state)
    log_probs, state = ensemble(torch.tensor([4, 6]), state.select(torch.tensor([2, 0])))
    for row, (sentence, token) in zip(log_probs, [(2, 4), (0, 6)], strict=True):
        expected = torch.stack([model.next(sentence, [token]).exp() for model in models]).mean(0)
        torch.testing.assert_close(row.exp(), expected)
    assert (log_probs[:, 5] == -INF).all()


def test_search_with_an_ensemble_of_one_model_twice():
    model = TableModel(seed=6)
    options = SearchOptions(beam=4, n_best=4)
    lengths = {"min_lengths": torch.tensor([0, 0]), "max_lengths": torch.tensor([5, 3])}
    state = Ensembled((model.start([0, 1]), model.start([0, 1])))
    found = search(average([model.step, model.step]), state, options, **lengths)
    for twice, once in zip(found, model.run([0, 1], options, [0, 0], [5, 3]), strict=True):
        assert [each.tokens for each in twice] == [each.tokens for each in once]
