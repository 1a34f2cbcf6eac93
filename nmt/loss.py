"""The loss of a model: from what the decoder's output layer reads to cross-entropy and its gradient, in one pass."""

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from data.tokenizer import BOS_ID, PAD_ID

_TOKENS_AT_ONCE = 512  # their scores still lie in a processor's cache when they are read again
WIDTH = 16  # vocabularies of other than a multiple of this are multiplied up to a third slower


@dataclass(frozen=True)
class Loss:
    """Sums over the target tokens of a batch, in nats.

    smoothed: what training lowers; equal to nll without label smoothing
    nll: negative log-likelihood of the labels, which perplexity is made of
    """

    smoothed: Float[Tensor, ""]
    nll: Float[Tensor, ""]


def cross_entropy(
    outputs: Float[Tensor, "tokens features"],
    layer: nn.Linear,
    labels: Int[Tensor, " tokens"],
    smoothing: float,
    weights: Float[Tensor, " tokens"] | None = None,
) -> Loss:
    """Cross-entropy summed over tokens, with uniform label smoothing (Szegedy et al. 2016, section 7).

    With `weights` each token's loss counts so much, nothing is smoothed, and what search never writes has no
    probability (see captioning/self_critical.py).

    Args:
        outputs: What the output layer reads.
        layer: The output layer, from features to scores of the vocabulary.
    """
    smoothing = smoothing if weights is None else 0.0
    learns = torch.is_grad_enabled()  # inside of the function it never is
    return Loss(*_ProjectedCrossEntropy.apply(outputs, layer.weight, layer.bias, labels, smoothing, weights, learns))


def sampled_cross_entropy(
    outputs: Float[Tensor, "tokens features"], layer: nn.Linear, labels: Int[Tensor, " tokens"], count: int
) -> Loss:
    """An estimate of `cross_entropy` whose products do not grow with the vocabulary (Jean et al. 2015, section 3).

    The words of the batch compete with `count` others, drawn anew each time. Each of these stands for as many as were
    not drawn, so that the sum that probabilities are divided by is right on average (Bengio and Senecal 2008).
    """
    words, places = torch.unique(labels, return_inverse=True)
    left = torch.ones(layer.out_features, dtype=torch.bool, device=labels.device).index_fill(0, words, False)
    others = left.nonzero()[:, 0]
    drawn = others[torch.randperm(len(others), device=labels.device)[:count]]
    rows = torch.cat([words, drawn])
    stand_for = torch.zeros(len(rows), device=labels.device)
    stand_for[len(words) :] = math.log(len(others) / max(1, len(drawn))) if len(others) else 0.0
    weight, bias = layer.weight.index_select(0, rows), layer.bias.index_select(0, rows) + stand_for
    return Loss(*_ProjectedCrossEntropy.apply(outputs, weight, bias, places, 0.0, None, torch.is_grad_enabled()))


class _ProjectedCrossEntropy(torch.autograd.Function):
    """The output layer, log-softmax and selection, forward and back, some hundred tokens at a time.

    The scores of a batch (tokens x vocabulary) never exist whole, and their gradient is taken while they are still at
    hand, so that going back has only to scale what is there. It can be gone back through only once; only the smoothed
    loss has a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        smoothing: float,
        weights: Tensor | None,
        learns: bool,
    ) -> tuple[Tensor, Tensor]:
        device, vocabulary = outputs.device.type, len(weight)
        mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        precision = torch.get_autocast_dtype(device) if mixed else outputs.dtype
        exact = torch.promote_types(precision, torch.float32)
        extra = -vocabulary % WIDTH
        wide = F.pad(weight.to(precision), (0, 0, 0, extra))
        shift = F.pad(bias, (0, extra), value=-torch.inf).to(precision)  # no probability for what is no word
        if weights is not None:
            shift = shift.index_fill(0, torch.tensor([PAD_ID, BOS_ID], device=shift.device), -torch.inf)
        smoothed, nll = (torch.zeros((), dtype=exact, device=outputs.device) for _ in range(2))
        by_outputs = torch.empty_like(outputs)
        by_weight, by_bias = wide.new_zeros(wide.shape, dtype=exact), shift.new_zeros(shift.shape, dtype=exact)
        with torch.autocast(device, enabled=False) if mixed else contextlib.nullcontext():
            # large results are written over one another: memory that is new costs more than a pass over it
            room, product = wide.new_empty(min(_TOKENS_AT_ONCE, len(outputs)), len(wide)), torch.empty_like(wide)
            for start in range(0, len(outputs), _TOKENS_AT_ONCE):
                part = slice(start, start + _TOKENS_AT_ONCE)
                rows, wanted = outputs[part].to(precision), labels[part, None]
                scores = torch.addmm(shift, rows, wide.T, out=room[: len(rows)])
                log_probs = torch.log_softmax(scores, -1, dtype=exact)
                each = -log_probs.gather(1, wanted)[:, 0]
                nll += each.sum()
                smoothed += (1 - smoothing) * each.sum() if weights is None else (each * weights[part]).sum()
                if smoothing:
                    smoothed -= smoothing * log_probs[:, :vocabulary].sum() / vocabulary
                if learns:
                    gradient = log_probs.exp_()  # in place: nobody reads it again
                    gradient[:, :vocabulary] -= smoothing / vocabulary
                    gradient.scatter_add_(1, wanted, gradient.new_full((len(rows), 1), smoothing - 1.0))
                    if weights is not None:
                        gradient *= weights[part, None]
                    by_bias += gradient.sum(0)
                    by_scores = gradient if precision == exact else scores.copy_(gradient)
                    by_outputs[part] = by_scores @ wide
                    by_weight += torch.mm(by_scores.T, rows, out=product)
        ctx.save_for_backward(by_outputs, by_weight[:vocabulary], by_bias[:vocabulary])
        ctx.mark_non_differentiable(nll)
        return smoothed, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        by_outputs, by_weight, by_bias = ctx.saved_tensors
        return by_outputs * scale, by_weight * scale, by_bias * scale, None, None, None, None
