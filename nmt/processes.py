"""Processes, devices and signals of a training run, by way of accelerate."""

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from types import FrameType

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env

from data.errors import UserError
from nmt.config import TrainingConfig
from nmt.device import bfloat16_computes


def process_state(patience: timedelta | None = None) -> PartialState:
    """This process among the others, and its device.

    Args:
        patience: How long processes wait for each other, if they have not met yet; by default as torch sees fit.
    """
    # on its own, PartialState would not see that `accelerate launch` was told to use processors only
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    return PartialState(cpu=cpu, timeout=patience) if patience else PartialState(cpu=cpu)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Accelerate's view of processes and devices, with the precision and the determinism that `config` asks for.

    Raises:
        UserError: the processor does not compute in the precision that is asked for.
    """
    bfloat16 = config.precision == "bfloat16"
    if bfloat16 and process_state().device.type == "cpu" and not bfloat16_computes(process_state().device):
        raise UserError(
            "training.precision is bfloat16, but this processor does not compute in it, and torch's LSTM refuses it "
            "there: choose auto or float32"
        )
    # not use_deterministic_algorithms, which imports torch.compile's half of torch for seconds
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS wants it before its first use
    if config.precision == "auto":
        bfloat16 = bfloat16_computes(process_state().device)
    # accelerate keeps the precision of a process's first run; a second run in it may want another
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision="bf16" if bfloat16 else "no")


def agree(accelerator: Accelerator, wishes: list[bool]) -> list[bool]:
    """Each of the wishes if any process has it; all processes must call this together."""
    flags = torch.tensor(wishes, dtype=torch.float32, device=accelerator.device)
    return [count > 0 for count in accelerator.reduce(flags, reduction="sum").tolist()]


class StopSignal:
    """While entered, the first Ctrl-C (or SIGTERM) only sets `came`; a second one does what it always does."""

    def __init__(self) -> None:
        self.came = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def stop(number: int, frame: FrameType | None) -> None:
            self.came = True
            restore()

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            restore()
