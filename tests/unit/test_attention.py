import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import seeded

from data.errors import UserError
from nmt.attention import Attention
from nmt.config import Score

KINDS: list[Score] = ["dot", "general", "additive"]


def make(kind: Score, features: int = 6) -> Attention:
    return seeded(lambda: Attention(kind, 6, features))


@given(st.sampled_from(KINDS), st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_weights_sum_to_one_over_the_real_positions(kind, lengths, time):
    values = torch.randn(len(lengths), max(lengths) + 1, 6)
    mask = torch.arange(max(lengths) + 1) < torch.tensor(lengths)[:, None]
    attention = make(kind)
    found = attention(torch.randn(len(lengths), time, 6) * 5, attention.remember(values, mask))
    assert found.outputs.shape == (len(lengths), time, 6)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(len(lengths), time))
    assert not found.weights.transpose(1, 2)[~mask].any()


def test_scores_are_those_of_the_papers():
    """Luong et al. (2015), equations 7 and 8, and Bahdanau et al. (2014), section A.1.2, for one query."""
    query, values = torch.randn(6), torch.randn(4, 6)
    for kind in KINDS:
        attention = make(kind)
        if kind == "dot":
            scores = values @ query
        elif kind == "general":
            scores = values @ attention.key.weight.T @ query
        else:
            asked = attention.query.weight @ query + attention.query.bias
            scores = torch.tanh(asked + values @ attention.key.weight.T) @ attention.score.weight[0]
        weights = scores.softmax(0)
        expected = torch.tanh(attention.combine.weight @ torch.cat([weights @ values, query]))
        memory = attention.remember(values[None], torch.ones(1, 4, dtype=torch.bool))
        found = attention(query[None, None], memory)
        torch.testing.assert_close(found.weights[0, 0], weights)
        torch.testing.assert_close(found.outputs[0, 0], expected)


def test_a_position_that_answers_the_query_is_what_is_read():
    values = torch.eye(6)[None] * 20
    memory = make("dot").remember(values, torch.ones(1, 6, dtype=torch.bool))
    assert make("dot")(torch.eye(6)[None], memory).weights[0].argmax(-1).tolist() == list(range(6))


@pytest.mark.parametrize("kind", ["general", "additive"])
def test_a_memory_of_another_size(kind):
    attention = make(kind, features=9)
    memory = attention.remember(torch.randn(2, 3, 9), torch.ones(2, 3, dtype=torch.bool))
    assert attention(torch.randn(2, 1, 6), memory).outputs.shape == (2, 1, 6)
    with pytest.raises(UserError, match="decoder's have 6 numbers and the source's 9: choose general or additive"):
        make("dot", features=9)


def test_a_memory_selects_rows():
    memory = make("general").remember(torch.randn(3, 4, 6), torch.rand(3, 4) > 0.5)
    rows = torch.tensor([2, 0, 2])
    chosen = memory.select(rows)
    for name in ("keys", "values", "mask"):
        assert torch.equal(getattr(chosen, name), getattr(memory, name)[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_sum_to_one_in_mixed_precision(kind):
    attention = make(kind)
    values = torch.randn(2, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        memory = attention.remember(values, torch.tensor([[True] * 3, [True, False, True]]))
        found = attention(torch.randn(2, 4, 6), memory)
    assert found.weights.dtype == torch.float32
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, 4))
    plain = attention(torch.randn(2, 4, 6), attention.remember(values, memory.mask))
    assert found.outputs.shape == plain.outputs.shape
    found.outputs.float().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in attention.parameters())
