"""Where models compute unless they are told."""

import os

import torch


def default_device() -> torch.device:
    """The GPU if there is one, else the processor; always that where accelerate is told so."""
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")
    return torch.device("cuda" if torch.cuda.is_available() and not told else "cpu")
