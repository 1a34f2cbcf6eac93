"""What the machine can do at most: rates of the operations that the models are made of, at their own shapes."""

from dataclasses import dataclass
from functools import partial

import torch
from rich.table import Table
from torch import Tensor, nn

from nmt.device import bfloat16_computes
from scripts.benchmarks.timing import alternate, table


@dataclass(frozen=True)
class Shape:
    """The sizes of a translator and its batches: the recurrent layers of both sides and the softmax."""

    rows: int = 128
    time: int = 14
    embedding: int = 256
    hidden: int = 512
    layers: int = 2
    vocabulary: int = 5917


@dataclass(frozen=True)
class Limit:
    """The rate of one operation, in floating-point operations a second: two for each multiplication and addition."""

    operation: str
    precision: str
    gflops: float
    spread: float


def measure_limits(shape: Shape, rounds: int) -> list[Limit]:
    """The rates of a matrix product as in the softmax, and of a recurrent stack forward and back, as torch has them."""
    precisions = {"float32": torch.float32}
    if bfloat16_computes(torch.device("cpu")):
        precisions["bfloat16"] = torch.bfloat16
    tokens = shape.rows * shape.time
    found = []
    for name, precision in precisions.items():
        left = torch.randn(tokens, shape.hidden, dtype=precision)
        right = torch.randn(shape.hidden, shape.vocabulary, dtype=precision)
        stack = nn.LSTM(shape.embedding, shape.hidden, shape.layers, batch_first=True).to(precision)
        inputs = torch.randn(shape.rows, shape.time, shape.embedding, dtype=precision, requires_grad=True)

        timings = alternate(
            {
                "matrix product": partial(torch.matmul, left, right),
                "LSTM, forward and back": partial(_forward_and_back, stack, inputs),
            },
            rounds,
        )
        weights = sum(weight.numel() for weight in stack.parameters() if weight.dim() > 1)
        operations = {
            "matrix product": 2 * tokens * shape.hidden * shape.vocabulary,
            "LSTM, forward and back": 3 * 2 * tokens * weights,
        }
        found += [
            Limit(operation, name, count / timings[operation].seconds / 1e9, timings[operation].spread)
            for operation, count in operations.items()
        ]
    return found


def _forward_and_back(stack: nn.LSTM, inputs: Tensor) -> None:
    stack(inputs)[0].sum().backward()


def render(limits: list[Limit]) -> Table:
    rows = [
        {
            "operation": limit.operation,
            "precision": limit.precision,
            "GFLOP/s": f"{limit.gflops:.1f}",
            "spread of the rounds": f"{limit.spread:.0%}",
        }
        for limit in limits
    ]
    return table("What the machine computes", rows)
