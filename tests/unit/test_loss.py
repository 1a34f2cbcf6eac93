"""The loss is torch's own cross-entropy, in value and gradient, and its parts never exist whole."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.tokenizer import BOS_ID, PAD_ID
from nmt import loss as module
from nmt.loss import cross_entropy, sampled_cross_entropy


def make(tokens: int, vocabulary: int, seed: int = 0, features: int = 6):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(features, vocabulary)
    for weight in layer.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    outputs = torch.randn(tokens, features, generator=generator, requires_grad=True)
    return outputs, layer, torch.randint(0, vocabulary, (tokens,), generator=generator)


def gradients(value, outputs, layer):
    return torch.autograd.grad(value, [outputs, layer.weight, layer.bias])


@pytest.mark.parametrize("at_once", [4, 512])
@given(st.integers(0, 30), st.integers(2, 50), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_cross_entropy_is_torchs(at_once, tokens, vocabulary, smoothing, seed):
    outputs, layer, labels = make(tokens, vocabulary, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TOKENS_AT_ONCE", at_once)
        loss = cross_entropy(outputs, layer, labels, smoothing)
    logits = layer(outputs)
    expected = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(loss.smoothed, expected)
    torch.testing.assert_close(loss.nll, F.cross_entropy(logits, labels, reduction="sum"))
    ours, theirs = (gradients(each * 0.3, outputs, layer) for each in (loss.smoothed, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_loss_of_words_by_weight_is_the_weighted_sum():
    outputs, layer, _ = make(3, 7)
    labels, weights = torch.tensor([4, 5, 6]), torch.tensor([0.7, -1.2, 0.1])
    loss = cross_entropy(outputs, layer, labels, 0.1, weights)
    written = layer(outputs).index_fill(1, torch.tensor([PAD_ID, BOS_ID]), -torch.inf)
    expected = (F.cross_entropy(written, labels, reduction="none") * weights).sum()
    torch.testing.assert_close(loss.smoothed, expected)
    pairs = zip(gradients(loss.smoothed, outputs, layer), gradients(expected, outputs, layer), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


def test_a_weighted_loss_is_of_what_search_may_write():
    outputs, layer, _ = make(1, 9)
    may = [token for token in range(9) if token not in (PAD_ID, BOS_ID)]
    losses = [cross_entropy(outputs, layer, torch.tensor([token]), 0.1, torch.ones(1)).nll for token in may]
    assert sum(torch.exp(-loss).item() for loss in losses) == pytest.approx(1)


@pytest.mark.parametrize("at_once", [512, 32])
def test_in_bfloat16_products_are_rounded_and_sums_are_not(at_once, monkeypatch):
    monkeypatch.setattr(module, "_TOKENS_AT_ONCE", at_once)
    outputs, layer, labels = make(100, 50)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = cross_entropy(outputs, layer, labels, 0.1)
    exact = cross_entropy(outputs, layer, labels, 0.1)
    assert rounded.smoothed.dtype == torch.float32
    assert rounded.smoothed != exact.smoothed
    torch.testing.assert_close(rounded.smoothed, exact.smoothed, rtol=0.01, atol=0)
    pairs = zip(*(gradients(each.smoothed, outputs, layer) for each in (rounded, exact)), strict=True)
    for one, other in pairs:
        assert one.dtype == torch.float32
        assert torch.linalg.vector_norm(one - other) < 0.02 * torch.linalg.vector_norm(other)


def test_validation_computes_no_gradient(monkeypatch):
    outputs, layer, labels = make(5, 9)
    products = []
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda *both: products.append(both))
    with torch.no_grad():
        assert cross_entropy(outputs, layer, labels, 0.1).smoothed > 0
    assert not products


@given(st.integers(0, 20), st.integers(2, 40), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_sample_of_all_words_is_no_estimate(tokens, vocabulary, seed):
    outputs, layer, labels = make(tokens, vocabulary, seed)
    sampled, whole = (
        sampled_cross_entropy(outputs, layer, labels, vocabulary),
        cross_entropy(outputs, layer, labels, 0.0),
    )
    torch.testing.assert_close(sampled.nll, whole.nll)
    pairs = zip(gradients(sampled.smoothed, outputs, layer), gradients(whole.smoothed, outputs, layer), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_sample_is_right_on_average():
    outputs, layer, labels = make(20, 400)
    layer.weight.data *= 0.3
    expected = cross_entropy(outputs, layer, labels, 0.0)
    torch.manual_seed(0)
    found = [sampled_cross_entropy(outputs, layer, labels, 60) for _ in range(200)]
    losses = torch.stack([each.smoothed for each in found]).detach()
    assert losses.std() > 0
    assert losses.mean() == pytest.approx(expected.smoothed.item(), rel=0.01)
    exact = gradients(expected.smoothed, outputs, layer)
    drawn = zip(*(gradients(each.smoothed, outputs, layer) for each in found), strict=True)
    for one, other in zip(drawn, exact, strict=True):
        assert torch.linalg.vector_norm(torch.stack(one).mean(0) - other) < 0.1 * torch.linalg.vector_norm(other)


def test_words_that_were_not_drawn_learn_nothing():
    outputs, layer, labels = make(5, 50)
    _, by_weight, _ = gradients(sampled_cross_entropy(outputs, layer, labels, 8).smoothed, outputs, layer)
    learnt = by_weight.abs().sum(1) > 0
    assert learnt.sum() == len(set(labels.tolist())) + 8 and learnt[labels].all()
