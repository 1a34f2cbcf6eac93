"""Self-critical sequence training: the reward of a sampled caption is by how much it beats the greedy one.

Rennie, Marcheret, Mroueh, Ross and Goel (2017), sections 3 and 4: the gradient is that of the sample's log-probability,
weighted by CIDEr-D(sample) - CIDEr-D(greedy). The end token is a word of every caption, in reward and loss, or the
model would learn to stop too early.

Most samples are worse than the greedy caption, so most weights are negative. That is no harm as long as the model that
learns from a sample is the one that it was drawn from: the gradient of a sample's log-probability is then zero on
average, whatever constant it is weighted with. Where the two differ, negative weights drive them apart without end. So
there is no dropout, samples may hold the unknown token, which no reference does, or be empty, and the loss gives no
probability to what search never writes. (Samples are drawn in float32; where training is in bfloat16, the two differ by
its rounding.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from captioning.cider import CiderD
from captioning.columns import FeatureColumn, PixelColumn
from data.batching import Batch, Plan, make_batch
from data.source import Ragged
from data.tokenizer import EOS_ID, UNK_ID
from nmt.model import SequenceModel
from nmt.search import Hypothesis, search
from nmt.search_options import SearchOptions
from nmt.stepper import Stepper

_NO_WORD = -1  # equals no token


@dataclass(frozen=True)
class SelfCritical:
    """Puts a model's own samples in the place of the captions of a batch, weighted by their advantage.

    Args:
        model: Its dropout is switched off for good.
        reward: Counts the same references.
        references: The captions of each image, by its row in the feature cache; see `reference`.
        longest: The most tokens of a sample.
    """

    model: SequenceModel
    reward: CiderD
    references: dict[int, list[list[int]]]
    longest: int

    def __post_init__(self) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def __call__(self, batch: Batch, plan: Plan, seed: int) -> Batch:
        """One sample for each caption of the batch; `seed` decides which."""
        column = plan.pool.source
        assert isinstance(column, FeatureColumn | PixelColumn)
        references = [self.references[row] for row in column.images[plan.rows].tolist()]
        samples, greedy = self._decode(batch, seed)
        captions = [one.tokens + [EOS_ID] * (not one.cut_off) for one in [*samples, *greedy]]
        rewards = np.subtract(*np.split(self.reward.scores(captions, references * 2), 2))
        made = make_batch(batch.source, Ragged.of([one.tokens for one in samples]), np.arange(len(samples)))
        weights = torch.repeat_interleave(torch.from_numpy(rewards).float(), _lengths(samples))
        # a sample that was cut off did not choose to end
        unfinished = torch.tensor([one.cut_off for one in samples])
        weights[(_lengths(samples).cumsum(0) - 1)[unfinished]] = 0.0
        return replace(made, weights=weights).to(batch.target.device)

    @torch.no_grad()
    def _decode(self, batch: Batch, seed: int) -> tuple[list[Hypothesis], list[Hypothesis]]:
        self.model.eval()
        rows, device = len(batch.source.lengths), batch.target.device
        shortest = torch.zeros(rows, dtype=torch.long, device=device)
        stepper = Stepper(self.model)
        state = stepper.start(batch.source)
        both = []
        for options in (SearchOptions(sample=True, seed=seed, allow_unknown=True), SearchOptions(beam=1)):
            found = search(stepper.step, state, options, min_lengths=shortest, max_lengths=shortest + self.longest)
            both.append([hypotheses[0] for hypotheses in found])
        self.model.train()
        return both[0], both[1]


def reference(caption: list[int]) -> list[int]:
    """What samples are compared with: a caption's ids with the end token, and nothing where a word is unknown."""
    return [*(_NO_WORD if token == UNK_ID else token for token in caption), EOS_ID]


def _lengths(samples: Sequence[Hypothesis]) -> Tensor:
    return torch.tensor([len(one.tokens) + 1 for one in samples])
