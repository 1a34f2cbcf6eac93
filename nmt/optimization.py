"""Optimizers, and the learning rate as a pure function of where training stands."""

import math

import torch
from torch import nn

from data.errors import UserError
from nmt.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of `config` over all weights that learn; fused, which saves a tenth of a step on small models.

    Each group has a `scale`, which the learning rate is to be multiplied by: that of pretrained weights is their own
    rate's share of the rest's.
    """
    groups = []
    for pretrained in (False, True):
        chosen = [
            weight
            for name, weight in model.named_parameters()
            if name.startswith("encoder.pretrained.") is pretrained and weight.requires_grad
        ]
        if chosen:
            scale = config.pretrained_learning_rate / config.learning_rate if pretrained else 1.0
            groups.append({"params": chosen, "scale": scale})
    if config.pretrained_learning_rate and len(groups) == 1:
        raise UserError(
            f"training.pretrained_learning_rate is {config.pretrained_learning_rate}, but this model has no pretrained "
            "weights: leave it at 0"
        )
    rate, decay = config.learning_rate, config.weight_decay
    fused = next(model.parameters()).device.type != "meta"  # torch has no fused kernels for it
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, weight_decay=decay, fused=fused)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, rate, weight_decay=decay, fused=fused)


def learning_rate(config: TrainingConfig, update: int, epochs: float, share: float, halvings: int) -> float:
    """The rate of an update. Nothing is carried from step to step, so nothing can be lost on resuming.

    Args:
        update: Counted from 0.
        epochs: Passes over the data so far, with their fraction.
        share: How much of the whole training is done, 0 to 1.
        halvings: Validations without gain that have halved the rate (schedule plateau).
    """
    warm = min(1.0, (update + 1) / config.warmup_updates) if config.warmup_updates else 1.0
    rate = config.learning_rate * warm
    match config.schedule:
        case "inverse_sqrt":
            start = max(1, config.warmup_updates)
            return rate * math.sqrt(start / max(start, update + 1))
        case "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        case "plateau":
            return rate * 0.5**halvings
        case "halve":
            late = epochs - config.halve_after
            return rate * 0.5 ** (math.floor(2 * late) + 1) if late >= 0 else rate
        case "constant":
            return rate
