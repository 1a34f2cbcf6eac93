"""The training loop: one process or many, resumable at any update to the same bits.

Nothing random is carried along: the order of the data is a function of (seed, epoch) and the dropout of an update
one of (seed, update), so that the weights, the optimizer's moments and a few counters are the whole state.
"""

import contextlib
import itertools
import math
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import send_to_device
from rich.console import Console
from torch import Tensor

from data.batching import Plan, plan_batches
from data.corpus import PreparedCorpus, StreamedCorpus
from data.errors import UserError
from data.files import remove_unfinished
from nmt.checkpoint import TranslationModel, check_manifest, load_state, load_weights, versions
from nmt.config import TrainingConfig
from nmt.model import Loss, SequenceModel
from nmt.optimization import learning_rate, make_optimizer
from nmt.run_directory import RunDirectory
from nmt.run_log import RunLog, draw_curves, duration
from nmt.validation import Validation, ValidationText, validate

_REPORT_EVERY = 20  # updates between reports, which are the only time a loss is read back from the device


@dataclass
class Position:
    """Where training stands; together with weights and optimizer all that a checkpoint holds.

    batch counts the batches of this epoch that are done; best holds (score, update), best first; a better score is
    always the larger.
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    pairs: int = 0
    seconds: float = 0.0
    best: list[tuple[float, int]] = field(default_factory=list)
    without_gain: int = 0
    halvings: int = 0
    validated: int = -1


@dataclass(frozen=True)
class TrainingData:
    """What is trained and validated on."""

    train: PreparedCorpus | StreamedCorpus
    valid: PreparedCorpus
    text: ValidationText


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: `reason` in words, the best checkpoint's scores, and where the model is."""

    reason: str
    updates: int
    seconds: float
    best: Validation | None
    model: Path | None


def bfloat16_computes(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 itself; elsewhere bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Accelerate's view of processes and devices, with the precision that `config` asks for."""
    bfloat16 = config.precision == "bfloat16"
    if config.precision == "auto":
        bfloat16 = bfloat16_computes(PartialState().device)
    # accelerate keeps the precision of a process's first run; a second run in it may want another
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision="bf16" if bfloat16 else "no")


class Trainer:
    def __init__(
        self,
        trained: TranslationModel,
        data: TrainingData,
        config: TrainingConfig,
        run: RunDirectory,
        accelerator: Accelerator,
        console: Console,
    ) -> None:
        self.trained, self.data, self.config, self.run, self.console = trained, data, config, run, console
        self.accelerator = accelerator
        self.position = Position()
        self.raw: SequenceModel = trained.model
        optimizer = make_optimizer(self.raw, config)
        self.model, self.optimizer = accelerator.prepare(self.raw, optimizer)
        self._stop_signal = 0
        self._validation: Validation | None = None
        # (update, first rows, loss, tokens) since the last report
        self._unread: list[tuple[int, list[int], Tensor, Tensor, int]] = []
        self._window = _Window()

    def train(self, *, resume: bool = False) -> TrainingResult:
        """Train to the end, from the start or from the newest checkpoint.

        Raises:
            UserError: there is nothing to resume, or too much; a loss is not a number; a checkpoint cannot be
                written. The last good checkpoint is there in each case.
        """
        if resume and self.run.newest():
            self._resume()
        elif self.accelerator.is_main_process:
            self.run.begin(again=resume)
        self.accelerator.wait_for_everyone()
        started = time.monotonic() - self.position.seconds
        with self._signals(), self._log() as self._logged:
            self._introduce()
            reason = self._epochs(started)
            if self._stop_signal:
                self._save()
                return self._result(f"stopped by a signal at update {self.position.update:,}", None)
            if self.position.validated != self.position.update:
                self._validate()
            self._save()
        best = self.position.best[0][1]
        if self.accelerator.is_main_process:
            self.run.finish(best)
            draw_curves(self.run.path)
        self.accelerator.wait_for_everyone()
        return self._result(reason, self.run.model)

    def _epochs(self, started: float) -> str:
        """Run updates until something ends training; says what."""
        config, position = self.config, self.position
        while True:
            if reason := self._finished():
                return reason
            group_size = config.accumulate * self.accelerator.num_processes
            plans = plan_batches(
                self.data.train,
                batch_tokens=config.batch_tokens,
                seed=config.seed,
                epoch=position.epoch,
                skip=position.batch,
            )
            for group in _groups(plans, group_size):
                self._update(group)
                position.seconds = time.monotonic() - started
                if position.update % _REPORT_EVERY == 0:
                    self._report()
                if config.validate_every and position.update % config.validate_every == 0:
                    self._validate()
                    self._save()
                elif config.checkpoint_every and position.update % config.checkpoint_every == 0:
                    self._save()
                if reason := self._finished():
                    return reason
            position.epoch, position.batch, position.pairs = position.epoch + 1, 0, 0
            if not config.validate_every:
                self._validate()
                self._save()

    def _finished(self) -> str | None:
        config, position = self.config, self.position
        if self._stop_requested():
            return "signal"
        if config.max_updates and position.update >= config.max_updates:
            return f"reached update {position.update:,} (training.max_updates)"
        if position.epoch >= config.max_epochs:
            return f"went {position.epoch} times over the data (training.max_epochs)"
        if config.max_minutes and position.seconds >= 60 * config.max_minutes:
            return f"reached {config.max_minutes:g} minutes (training.max_minutes)"
        if config.patience and position.without_gain >= config.patience:
            return f"no gain in {position.without_gain} validations (training.patience)"
        return None

    def _update(self, group: list[Plan]) -> None:
        """One optimizer step on a group of batches, of which each process takes its share."""
        config, position, accelerator = self.config, self.position, self.accelerator
        self.model.train()
        rate = learning_rate(config, position.update, self._epochs_done(), self._share(), position.halvings)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        processes, rank = accelerator.num_processes, accelerator.process_index
        torch.manual_seed(_mix(config.seed, position.update, rank))
        tokens = sum(plan.target_tokens for plan in group)
        mine = group[rank::processes]
        smoothed = torch.zeros((), device=accelerator.device)
        nll = torch.zeros((), device=accelerator.device)
        # at the end of an epoch there may be fewer batches than processes: the others repeat one without weight
        for i, plan in enumerate(mine or group[:1]):
            batch = plan.collate(reverse_source=self.raw.config.reverse_source).to(accelerator.device)
            last = i + 1 >= len(mine)
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                loss: Loss = self.model(batch, config.label_smoothing)
                # gradients of processes are averaged: times their number, over the tokens of all of them
                weight = processes / tokens if mine else 0.0
                accelerator.backward(loss.smoothed * weight)
            if mine:
                smoothed += loss.smoothed.detach()
                nll += loss.nll.detach()
        if config.clip_norm:
            accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._window.add(group)
        self._unread.append((position.update, group[0].pool.rows[group[0].rows[:3]].tolist(), smoothed, nll, tokens))
        position.update += 1
        position.batch += len(group)
        position.pairs += sum(len(plan.rows) for plan in group)

    def _epochs_done(self) -> float:
        total = len(self.data.train) if isinstance(self.data.train, PreparedCorpus) else 0
        return self.position.epoch + (self.position.pairs / total if total else 0.0)

    def _share(self) -> float:
        """How much of the training is done, by its nearest limit that is known beforehand."""
        by_epochs = self._epochs_done() / self.config.max_epochs
        by_updates = self.position.update / self.config.max_updates if self.config.max_updates else 0.0
        return max(by_epochs, by_updates)

    def _report(self) -> None:
        """Read the losses since the last report back from the device, record them, and stop if one is no number."""
        if not self._unread:
            return
        sums = torch.stack([torch.stack([smoothed, nll]) for _, _, smoothed, nll, _ in self._unread])
        values = self.accelerator.reduce(sums, reduction="sum").tolist()
        for (update, rows, *_), (loss, _) in zip(self._unread, values, strict=True):
            if not math.isfinite(loss):
                good = self.run.newest()
                raise UserError(
                    f"the loss of update {update:,} is {loss} (epoch {self.position.epoch}, batch with training pairs "
                    f"{rows}...): {f'the last good checkpoint is {good}' if good else 'there is no checkpoint yet'}. "
                    "Lower training.learning_rate or training.clip_norm, or look at these pairs"
                )
        tokens = sum(tokens for *_, tokens in self._unread)
        record = {
            "update": self.position.update,
            "epoch": self._epochs_done(),
            "loss": sum(loss for loss, _ in values) / tokens,
            "perplexity": math.exp(min(sum(nll for _, nll in values) / tokens, 100.0)),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **self._window.read(),
        }
        self._unread.clear()
        self._logged.record("train", record)
        share = self._share()
        if self.config.max_minutes:
            share = max(share, self.position.seconds / 60 / self.config.max_minutes)
        self._logged.progress(share, self._epochs_done(), record, self.position.seconds)

    def _validate(self) -> None:
        """Score the model and note whether it is among the best."""
        self._report()
        config, position = self.config, self.position
        found = validate(
            self.trained,
            self.data.valid,
            self.data.text,
            beam=config.valid_beam,
            batch_tokens=config.batch_tokens,
            lowercase=self.trained.target.lowercase,
        )
        self._validation = found
        self._window.restart()
        score = found.bleu if config.metric == "bleu" else -found.perplexity
        better = not position.best or score > position.best[0][0]
        position.without_gain = 0 if better else position.without_gain + 1
        position.halvings += 0 if better or config.schedule != "plateau" else 1
        position.best = sorted([*position.best, (score, position.update)], reverse=True)[: config.keep_best]
        position.validated = position.update
        self._logged.record("valid", {"update": position.update, **asdict(found)})
        self._logged.say(
            f"update {position.update:,} (epoch {self._epochs_done():.1f}, {duration(position.seconds)}): "
            f"validation perplexity {found.perplexity:.2f}, BLEU {found.bleu:.2f}{' *' if better else ''}"
        )

    def _save(self) -> None:
        """Write a checkpoint of this very update."""
        self._report()
        if self.accelerator.is_main_process:
            state = {
                "position": asdict(self.position),
                "optimizer": self.optimizer.state_dict(),
                "training": asdict(self.config),
            }
            metrics = {"update": self.position.update, "versions": versions(), "seed": self.config.seed}
            if self._validation and self.position.validated == self.position.update:
                metrics["validation"] = asdict(self._validation)
            best = [update for _, update in self.position.best]
            self.run.save(self.position.update, self.trained, metrics, state, best)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        newest = self.run.newest()
        assert newest
        if self.accelerator.is_main_process:
            remove_unfinished(self.run.checkpoints)
        check_manifest(newest)
        state = load_state(newest)
        changed = _changed(state["training"], asdict(self.config))
        if changed:
            raise UserError(f"{newest}: was trained with other settings ({'; '.join(changed)}): resume with the same")
        import safetensors.torch

        load_weights(self.raw, safetensors.torch.load_file(newest / "model.safetensors"), newest)
        self.optimizer.load_state_dict(send_to_device(state["optimizer"], self.accelerator.device))
        self.position = Position(**state["position"])
        self.position.best = [(score, update) for score, update in self.position.best]
        if self.run.model.exists() and (reason := self._finished()):
            raise UserError(
                f"{self.run.path}: nothing left to train at update {self.position.update:,} of epoch "
                f"{self.position.epoch}: the run {reason}. Raise that limit to go on"
            )
        if self.run.model.exists() and self.accelerator.is_main_process:
            shutil.rmtree(self.run.model)

    def _introduce(self) -> None:
        parameters = sum(p.numel() for p in self.raw.parameters())
        softmax = sum(p.numel() for p in self.raw.decoder.output.parameters())
        device, processes = self.accelerator.device, self.accelerator.num_processes
        where = f"{processes} process(es) on {device}, {torch.get_num_threads()} thread(s) each"
        precision = "bfloat16 autocast" if self.accelerator.mixed_precision == "bf16" else "float32"
        size = f"{parameters / 1e6:.2f} M parameters, {softmax / parameters:.0%} of them in the softmax"
        self._logged.say(f"{size}; {where}; {precision}")
        if self.position.update:
            self._logged.say(f"resumed at update {self.position.update:,}, epoch {self._epochs_done():.1f}")

    def _log(self) -> contextlib.AbstractContextManager[Any]:
        if self.accelerator.is_main_process:
            return RunLog(self.run.path, update=self.position.update, console=self.console)
        return contextlib.nullcontext(_Silent())

    def _result(self, reason: str, model: Path | None) -> TrainingResult:
        return TrainingResult(reason, self.position.update, self.position.seconds, self._validation, model)

    def _stop_requested(self) -> bool:
        """Whether a signal asked to stop; processes must agree, or some would wait for the others for ever."""
        if self.accelerator.num_processes == 1:
            return bool(self._stop_signal)
        if self.position.update % _REPORT_EVERY:
            return False
        flag = torch.tensor(self._stop_signal, device=self.accelerator.device)
        self._stop_signal = int(self.accelerator.reduce(flag, reduction="sum").item())
        return bool(self._stop_signal)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) ends the update at hand, saves and returns; a second one interrupts."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop_signal = number
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Silent:
    """The log of the processes that do not speak."""

    def record(self, kind: str, values: dict[str, Any]) -> None: ...
    def progress(self, share: float, epoch: float, values: dict[str, float], seconds: float) -> None: ...
    def say(self, text: str) -> None: ...


class _Window:
    """Speed and padding since the last report."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._tokens = self._real = self._cells = 0
        self._started = time.monotonic()

    def add(self, group: list[Plan]) -> None:
        for plan in group:
            self._tokens += plan.target_tokens
            self._real += plan.real
            self._cells += plan.cells

    def read(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self._started, 1e-9)
        values = {
            "target_tokens_per_second": self._tokens / seconds,
            "padding": 1 - self._real / max(1, self._cells),
        }
        self.restart()
        return values


def _groups(plans: Iterator[Plan], size: int) -> Iterator[list[Plan]]:
    while group := list(itertools.islice(plans, size)):
        yield group


def _mix(seed: int, update: int, rank: int) -> int:
    """A seed of its own for every update and process (torch keeps 64 bits of it)."""
    return (seed * 0x9E3779B97F4A7C15 + update * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


_FREE_TO_CHANGE = {
    "max_epochs", "max_updates", "max_minutes", "patience", "keep_best", "checkpoint_every", "valid_beam",
    "valid_sentences",
}  # fmt: skip


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Settings that differ and that would make a resumed run another run."""
    return [
        f"training.{name} was {before.get(name)!r} and is {value!r}"
        for name, value in now.items()
        if name not in _FREE_TO_CHANGE and before.get(name) != value
    ]
