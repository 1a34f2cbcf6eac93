"""Why a model wrote what it wrote: what it attended to at each step, and what else it could have written."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float

from data.batching import make_batch, plan_in_order
from data.pool import Pool
from data.source import Column, Ragged, Source
from data.tokenizer import EOS_ID, Tokenizer
from nmt.model import SequenceModel
from nmt.search import Hypothesis

ALTERNATIVES = 5


@dataclass(frozen=True)
class Candidate:
    """A token that might come next, and the probability that the model gives to it."""

    token: str
    probability: float


@dataclass(frozen=True)
class Step:
    """What was written, and what the model held likeliest, likeliest first; the two differ where search or a prefix
    decided otherwise."""

    written: Candidate
    likeliest: list[Candidate]


@dataclass(frozen=True)
class Explanation:
    """The steps of one hypothesis, the end token's among them where the model ended it.

    Args:
        source: The tokens of the source in the order in which they were typed; none of an image.
        weights: How much of each position, in that order, was read at each step: rows sum to one. None without
            attention.
    """

    source: list[str]
    steps: list[Step]
    weights: Float[np.ndarray, "steps positions"] | None


@torch.no_grad()
def explain(
    models: Sequence[SequenceModel],
    sources: Column,
    written: Sequence[Hypothesis],
    target: Tokenizer,
    labels: Sequence[Sequence[str]] | None = None,
) -> list[Explanation]:
    """Follow the decoder, teacher-forced, over hypotheses that search has found.

    Args:
        models: One, or an ensemble, of which probabilities and weights are the means; of the weights, over the models
            with attention.
        sources: Of the hypotheses.
        target: The models' tokenizer of what they write.
        labels: What the positions of each source are called, as typed.
    """
    reverse = models[0].config.reverse_source
    labels = labels or [()] * len(written)
    # one at a time: nothing is padded, and a page of them takes a second
    return [
        _explain(models, sources.collate(np.array([i]), reverse=reverse), reverse, one, target, list(label))
        for i, (one, label) in enumerate(zip(written, labels, strict=True))
    ]


@torch.no_grad()
def attention_weights(
    models: Sequence[SequenceModel],
    sources: Sequence[Sequence[int]],
    written: Sequence[Sequence[Hypothesis]],
    *,
    batch_tokens: int = 4096,
) -> list[list[Float[np.ndarray, "steps positions"]]]:
    """What `explain` says of the weights alone, for texts, in batches.

    Args:
        models: At least one with attention.
        sources: Texts, each with the hypotheses that are its in `written`.
        batch_tokens: The most cells of a batch: hypotheses times the longest length in it.
    """
    reverse, device = models[0].config.reverse_source, next(models[0].parameters()).device
    flat = [one for its in written for one in its]
    column = Ragged.of([ids for ids, its in zip(sources, written, strict=True) for _ in its])
    pool = Pool(column, Ragged.of([one.tokens for one in flat]), np.arange(len(flat)))
    found: dict[int, Float[np.ndarray, "steps positions"]] = {}
    for plan in plan_in_order([pool] if flat else [], batch_tokens=batch_tokens):
        batch = plan.collate(reverse_source=reverse).to(device)
        nowhere = batch.positions[:0]  # no probabilities are wanted, which take most of the time
        forced = [model.decoder.forced(model.encode(batch.source), batch.target, nowhere) for model in models]
        mean = torch.stack([one.weights for one in forced if one.weights is not None]).mean(0).cpu().numpy()
        for i, weights in zip(plan.rows.tolist(), mean, strict=True):
            real = weights[: len(flat[i].tokens) + flat[i].finished, : int(column.lengths[i])]
            found[i] = real[:, ::-1] if reverse else real
    in_order = (found[i] for i in range(len(flat)))
    return [list(islice(in_order, len(its))) for its in written]


def _explain(
    models: Sequence[SequenceModel],
    source: Source,
    reverse: bool,
    written: Hypothesis,
    target: Tokenizer,
    label: list[str],
) -> Explanation:
    device = next(models[0].parameters()).device
    batch = make_batch(source, Ragged.of([written.tokens]), np.arange(1)).to(device)
    forced = [model.decoder.forced(model.encode(batch.source), batch.target, batch.positions) for model in models]
    ids = [*written.tokens, EOS_ID][: len(written.tokens) + written.finished]
    scores = [model.decoder.output(one.outputs) for model, one in zip(models, forced, strict=True)]
    probabilities = torch.stack([each.float().softmax(-1) for each in scores]).mean(0)[: len(ids)].cpu()
    steps = []
    for row, token in zip(probabilities, ids, strict=True):
        candidates = [token, *row.topk(min(ALTERNATIVES, len(row))).indices.tolist()]
        names = target.shown(target.tokens(candidates))
        first, *likeliest = map(Candidate, names, row[candidates].tolist())
        steps.append(Step(first, likeliest))
    attended = [one.weights[0] for one in forced if one.weights is not None]
    if not attended:
        return Explanation(label, steps, None)
    weights = torch.stack(attended).mean(0)[: len(ids)]
    # a grid has more positions than its length of 1, and no order that could be turned round
    if reverse and weights.shape[1] == int(source.lengths[0]):
        weights = weights.flip(1)
    return Explanation(label, steps, weights.cpu().numpy())
