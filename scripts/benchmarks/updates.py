"""Updates of a translator outside the train stage: its model, precision and optimizer, and a clock on each part."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch
from accelerate import Accelerator
from torch import nn

from data.batching import Plan
from nmt.config import ModelConfig, TrainingConfig
from nmt.model import SequenceModel, text_model
from nmt.optimization import make_optimizer

_CONFIG = TrainingConfig()
_REST = "attention, output, loss and its gradient"  # of the forward pass


class Updates:
    """A model that learns, and where the seconds went; what is inside another part is not counted there."""

    def __init__(
        self, config: ModelConfig, source: int, target: int, accelerator: Accelerator, *, sampled: int = 0
    ) -> None:
        """
        Args:
            source, target: Entries of the vocabularies.
            sampled: Words that the softmax draws, instead of looking at all.
        """
        torch.manual_seed(1)
        raw: SequenceModel = text_model(config, source, target)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._reverse, self._accelerator, self._sampled = config.reverse_source, accelerator, sampled
        self._model, self._optimizer = accelerator.prepare(raw, make_optimizer(raw, _CONFIG))
        self._watch("encoder", raw.encoder)
        self._watch("decoder, recurrent", raw.decoder.stack)

    def run(self, plans: Iterable[Plan]) -> None:
        """One update for each batch."""
        self._model.train()
        waiting = iter(plans)
        while True:
            with self._timed("data"):
                plan = next(waiting, None)
                if plan is None:
                    return
                batch = plan.collate(reverse_source=self._reverse).to(self._accelerator.device)
            with self._timed(_REST):
                loss = self._model(batch, _CONFIG.label_smoothing, self._sampled)
            with self._timed("backward"):
                self._accelerator.backward(loss.smoothed / plan.target_tokens)
            with self._timed("optimizer"):
                self._accelerator.clip_grad_norm_(self._model.parameters(), _CONFIG.clip_norm)
                self._optimizer.step()
                self._optimizer.zero_grad()

    def shares(self, warm: Iterable[Plan], plans: Iterable[Plan]) -> dict[str, float]:
        """What part of the time of some updates went where, the largest first; `warm` come before and do not count."""
        self.run(warm)
        self.seconds.clear()
        self.run(plans)
        total = sum(self.seconds.values())
        return {part: self.seconds[part] / total for part in sorted(self.seconds, key=self.seconds.__getitem__)[::-1]}

    def _watch(self, part: str, module: nn.Module) -> None:
        """Take the time of a module from that of the forward pass around it."""
        began: list[float] = []

        def start(*_: object) -> None:
            began.append(time.perf_counter())

        def end(*_: object) -> None:
            took = time.perf_counter() - began.pop()
            self.seconds[part] += took
            self.seconds[_REST] -= took

        module.register_forward_pre_hook(start)
        module.register_forward_hook(end)

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began
