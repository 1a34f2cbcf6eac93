"""How probable given translations are: what rescoring and phrase tables need (Cho et al. 2014, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data.batching import plan_in_order
from data.pool import Pool
from data.source import Column, Ragged
from data.tokenizer import UNK_ID
from nmt.model import SequenceModel


@dataclass(frozen=True)
class PairScore:
    """What a model makes of a pair.

    log_prob: natural logarithm of the target's probability given the source, its end included
    tokens: of the target, its end included
    unknown: how many of them the model does not know; it can only say how probable some unknown word is
    """

    log_prob: float
    tokens: int
    unknown: int


@torch.no_grad()
def score_pairs(
    models: Sequence[SequenceModel], source: Column, target: Ragged, *, batch_tokens: int = 4096
) -> list[PairScore]:
    """The score of each pair, in the order given.

    Args:
        models: One in evaluation mode, or an ensemble, whose probabilities are averaged word by word as in search.
        source: None may be empty.
        target: Ids without start and end; an empty one asks for the probability of ending at once.
        batch_tokens: The most cells of a batch: sentences times the longest length in it.
    """
    if not len(target):
        return []
    device = next(models[0].parameters()).device
    sums = torch.zeros(len(target), dtype=torch.float64)  # in host memory: not every device has such numbers
    pool = Pool(source, target, np.arange(len(target)))
    for plan in plan_in_order([pool], batch_tokens=batch_tokens):
        batch = plan.collate(reverse_source=models[0].config.reverse_source).to(device)
        each = []
        for model in models:
            logits = model.decoder(model.encode(batch.source), batch.target, batch.positions)
            each.append(torch.log_softmax(logits.float(), -1).gather(1, batch.labels[:, None])[:, 0])
        mean = torch.stack(each).logsumexp(0) - np.log(len(each))
        rows = torch.from_numpy(plan.rows)[(batch.positions // batch.target.shape[1]).cpu()]
        sums.index_add_(0, rows, mean.cpu().double())
    ends = target.offsets + target.lengths
    return [
        PairScore(log_prob, int(end - start) + 1, int((target.values[start:end] == UNK_ID).sum()))
        for log_prob, start, end in zip(sums.tolist(), target.offsets, ends, strict=True)
    ]
