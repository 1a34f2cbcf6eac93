"""What the machine can do at most: rates of the operations that the models are made of, at their own shapes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from nmt.device import bfloat16_computes
from nmt.loss import WIDTH
from nmt.stepper import Int8Linear, by_column
from scripts.benchmarks.timing import alternate, table

Ways: TypeAlias = dict[str, tuple[Callable[[], object], int]]  # what to do, and its floating-point operations

_BEAM = 5  # rows of one sentence in search
_LEAST, _MOST = 2_000_000_000, 200  # operations that are timed together, but not more repetitions


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
    """The rates of matrix products as in training's softmax and in that of one sentence's beam, and of a recurrent
    stack forward and back, as torch has them and as they are laid out here."""
    precisions = {"float32": torch.float32}
    if bfloat16_computes(torch.device("cpu")):
        precisions["bfloat16"] = torch.bfloat16
    found = []
    for name, precision in precisions.items():
        found += _rates(name, _trained(shape, precision), rounds)
        found += _rates(name, _searched(shape, precision), rounds)
    with torch.no_grad():
        layer, few = nn.Linear(shape.hidden, _wide(shape.vocabulary)), torch.randn(_BEAM, shape.hidden)
        operations = 2 * few.numel() * layer.out_features
        return found + _rates("int8", {f"softmax, {_BEAM} rows": (partial(Int8Linear(layer), few), operations)}, rounds)


def _trained(shape: Shape, precision: torch.dtype) -> Ways:
    tokens = shape.rows * shape.time
    left = torch.randn(tokens, shape.hidden, dtype=precision)
    ways: Ways = {}
    for width in (shape.vocabulary, _wide(shape.vocabulary)):
        right = torch.randn(width, shape.hidden, dtype=precision)
        ways[f"softmax, {tokens:,} rows, {width:,} words"] = (partial(F.linear, left, right), 2 * left.numel() * width)
    stack = nn.LSTM(shape.embedding, shape.hidden, shape.layers, batch_first=True).to(precision)
    inputs = torch.randn(shape.rows, shape.time, shape.embedding, dtype=precision, requires_grad=True)
    weights = sum(weight.numel() for weight in stack.parameters() if weight.dim() > 1)
    ways["LSTM, forward and back"] = (partial(_forward_and_back, stack, inputs), 3 * 2 * tokens * weights)
    return ways


def _searched(shape: Shape, precision: torch.dtype) -> Ways:
    few, width = torch.randn(_BEAM, shape.hidden, dtype=precision), _wide(shape.vocabulary)
    right = torch.randn(width, shape.hidden, dtype=precision)
    operations = 2 * few.numel() * width
    return {
        f"softmax, {_BEAM} rows": (partial(F.linear, few, right), operations),
        f"softmax, {_BEAM} rows, by column": (partial(F.linear, few, by_column(right)), operations),
    }


def _rates(precision: str, ways: Ways, rounds: int) -> list[Limit]:
    times = {name: min(_MOST, max(1, _LEAST // operations)) for name, (_, operations) in ways.items()}
    repeated = {name: partial(_repeat, way, times[name]) for name, (way, _) in ways.items()}
    return [
        Limit(name, precision, ways[name][1] * times[name] / timing.seconds / 1e9, timing.spread)
        for name, timing in alternate(repeated, rounds).items()
    ]


def _repeat(way: Callable[[], object], times: int) -> None:
    for _ in range(times):
        way()


def _wide(vocabulary: int) -> int:
    return vocabulary + -vocabulary % WIDTH


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
