"""The training loop: one process or many, resumable at any update to the same bits.

Nothing random is carried along: the order of the data is a function of (seed, epoch) and the dropout of an update
one of (seed, update), so that the weights, the optimizer's moments and a few
counters are the whole state.
"""

import contextlib
import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Sized
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, send_to_device
from rich.console import Console
from torch import Tensor

from data.batching import Batch, Plan, plan_batches
from data.corpus import StreamedCorpus
from data.errors import UserError
from data.pool import Corpus
from data.sampling import SubwordSampling
from nmt.checkpoint import Position, TrainedModel, load_checkpoint, load_weights, versions
from nmt.config import ModelConfig, TrainingConfig, changed_settings
from nmt.loss import Loss
from nmt.model import SequenceModel
from nmt.optimization import learning_rate, make_optimizer
from nmt.processes import StopSignal, agree
from nmt.run_directory import RunDirectory
from nmt.run_log import RunLog, SilentLog, Throughput, draw_curves, duration
from nmt.search import BrokenModelError
from nmt.validation import Validation, Validator

_REPORT_EVERY = 20  # updates between reports, which are the only time a loss is read back from the device


@dataclass(frozen=True)
class TrainingData:
    """What is trained on, and what scores the model.

    rewrite, if there is one, changes a batch before the model sees it (self-critical training puts the model's own
    samples there); it is given the batch, its plan, and a seed of this update.
    """

    train: Corpus
    validator: Validator
    rewrite: Callable[[Batch, Plan, int], Batch] | None = None


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: `reason` in words, and, unless a signal stopped it, the best scores and their model."""

    reason: str
    updates: int
    seconds: float
    best: Validation | None
    model: Path | None


@dataclass(frozen=True)
class _Unread:
    """An update whose losses are still on the device, and where its batches came from."""

    update: int
    epoch: int
    batch: int
    rows: list[int]
    smoothed: Tensor
    nll: Tensor
    words: int
    tokens: int


class Trainer:
    def __init__(
        self,
        trained: TrainedModel,
        data: TrainingData,
        config: TrainingConfig,
        run: RunDirectory,
        accelerator: Accelerator,
        console: Console,
    ) -> None:
        self.trained, self.data, self.config, self.run, self.console = trained, data, config, run, console
        self.accelerator = accelerator
        self._sampling = None
        if config.subword_sampling:
            self._sampling = SubwordSampling(trained.source, trained.target, config.subword_sampling)
        self.position = Position()
        self.raw: SequenceModel = trained.model
        optimizer = make_optimizer(self.raw, config)
        self.model, self.optimizer = accelerator.prepare(self.raw, optimizer)
        self._signal = StopSignal()
        self._stopped = False
        self._started = time.monotonic()
        self._validation: Validation | None = None
        self._unread: list[_Unread] = []
        self._last: _Unread | None = None
        self._throughput = Throughput()

    def train(self, *, resume: bool = False) -> TrainingResult:
        """Train to the end, from the start or from the newest checkpoint.

        Raises:
            UserError: there is nothing to resume, or too much; a loss is not a number; a file cannot be written. The
                last good checkpoint is there in each case.
        """
        main = self.accelerator.is_main_process
        metrics = ("perplexity", *self.data.validator.metrics)
        if self.config.metric not in metrics:
            raise UserError(
                f"training.metric is {self.config.metric}, but this task has only {', '.join(metrics)}: choose one of "
                "them"
            )
        if main and resume:
            self.run.recover()
        if main and not (resume and self.run.newest()):
            self.run.begin(again=resume)
        self.accelerator.wait_for_everyone()
        if newest := self.run.newest():
            self._resume(newest)
        self._started = time.monotonic() - self.position.seconds
        log = RunLog(self.run.path, update=self.position.update, console=self.console) if main else SilentLog()
        with self._signal.caught(), log as self._logged:
            self._introduce()
            reason = self._epochs()
            if not self._stopped and self.position.validated != self.position.update:
                self._validate()
            self._save()
        if self._stopped:
            return TrainingResult(reason, self.position.update, self.position.seconds, None, None)
        if main:
            self.run.finish(self.position.best[0][1])
            draw_curves(self.run.path)
        self.accelerator.wait_for_everyone()
        best = _validation_of(self.run.model)
        return TrainingResult(reason, self.position.update, self.position.seconds, best, self.run.model)

    def _epochs(self) -> str:
        """Run updates until something ends training; says what."""
        position, train = self.position, self.data.train
        while not (reason := self._finished()):
            if reason := self._epoch():
                return reason
            if isinstance(train, StreamedCorpus):
                self._logged.say(train.describe())
            position.epoch, position.batch, position.pairs = position.epoch + 1, 0, 0
            if not self.config.validate_every:
                self._validate()
                self._save()
        return reason

    def _epoch(self) -> str | None:
        """Run what is left of this epoch; says what ended training in the middle of it."""
        config, position = self.config, self.position
        plans = plan_batches(
            self.data.train,
            batch_tokens=config.batch_tokens,
            seed=config.seed,
            epoch=position.epoch,
            skip=position.batch,
            sampling=self._sampling,
        )
        while group := list(itertools.islice(plans, config.accumulate * self.accelerator.num_processes)):
            self._update(group)
            position.seconds = time.monotonic() - self._started
            if position.update % _REPORT_EVERY == 0:
                self._report()
            if config.validate_every and position.update % config.validate_every == 0:
                self._validate()
                self._save()
            elif config.checkpoint_every and position.update % config.checkpoint_every == 0:
                self._save()
            if reason := self._finished():
                return reason
        return None

    def _finished(self) -> str | None:
        """What ends training now, in words."""
        config, position = self.config, self.position
        late = bool(config.max_minutes) and position.seconds >= 60 * config.max_minutes
        wishes = [self._signal.came, late]
        if self.accelerator.num_processes > 1:
            # they must stop together, or some would wait for the others for ever; asked when losses are read as well
            asked = position.update % _REPORT_EVERY == 0
            wishes = agree(self.accelerator, wishes) if asked else [False, False]
        self._stopped, late = wishes
        if self._stopped:
            return f"was stopped by a signal at update {position.update:,}"
        if config.max_updates and position.update >= config.max_updates:
            return f"reached update {position.update:,}, and training.max_updates is {config.max_updates:,}"
        if position.epoch >= config.max_epochs:
            return f"went {position.epoch} times over the data, and training.max_epochs is {config.max_epochs}"
        if late:
            return f"took {duration(position.seconds)}, and training.max_minutes is {config.max_minutes:g}"
        if config.patience and position.without_gain >= config.patience:
            return f"had {position.without_gain} validations without gain, and training.patience is {config.patience}"
        return None

    def _update(self, group: list[Plan]) -> None:
        """One optimizer step on a group of batches, of which each process takes its share."""
        config, position, accelerator = self.config, self.position, self.accelerator
        self.model.train()
        rate = learning_rate(config, position.update, self._epochs_done(), self._share(), position.halvings)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate * parameters["scale"]
        processes, rank = accelerator.num_processes, accelerator.process_index
        seed = _mix(config.seed, position.update, rank)
        torch.manual_seed(seed)
        tokens = sum(plan.target_tokens for plan in group)
        mine = group[rank::processes]
        smoothed = torch.zeros((), device=accelerator.device)
        nll = torch.zeros((), device=accelerator.device)
        words = 0
        # at the end of an epoch there may be fewer batches than processes: the others repeat one without weight
        for i, plan in enumerate(mine or group[:1]):
            batch = plan.collate(reverse_source=self.raw.config.reverse_source).to(accelerator.device)
            if self.data.rewrite:
                try:
                    batch = self.data.rewrite(batch, plan, seed)
                except BrokenModelError as error:
                    raise self._broken(f"update {position.update:,} failed, {error}", self._last) from error
            last = i + 1 >= len(mine)
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                loss: Loss = self.model(batch, config.label_smoothing, config.sampled_softmax)
                # gradients of processes are averaged: times their number, over the tokens of all of them
                weight = processes / tokens if mine else 0.0
                accelerator.backward(loss.smoothed * weight)
            if mine:
                smoothed += loss.smoothed.detach()
                nll += loss.nll.detach()
                words += len(batch.labels)  # where captions are drawn anew, not those that `tokens` counts
        if config.clip_norm:
            accelerator.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._throughput.add(group)
        rows = group[0].pool.rows[group[0].rows[:3]].tolist()
        self._last = _Unread(position.update, position.epoch, position.batch, rows, smoothed, nll, words, tokens)
        self._unread.append(self._last)
        position.update += 1
        position.batch += len(group)
        position.pairs += sum(len(plan.rows) for plan in group)

    def _epochs_done(self) -> float:
        total = len(self.data.train) if isinstance(self.data.train, Sized) else 0  # a stream's is not known
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
        sums = torch.stack(
            [torch.stack([one.smoothed, one.nll, one.nll.new_tensor(one.words)]) for one in self._unread]
        )
        values = self.accelerator.reduce(sums, reduction="sum").tolist()
        for one, (loss, _, _) in zip(self._unread, values, strict=True):
            if not math.isfinite(loss):
                raise self._broken(f"the loss of update {one.update:,} is {loss}", one)
        # finite losses do not yet make finite gradients, and a checkpoint must never be written after those
        if not torch.stack([weight.detach().isfinite().all() for weight in self.raw.parameters()]).all().item():
            one = self._unread[-1]
            raise self._broken(f"weights are no longer finite after update {one.update:,}", one)
        tokens = sum(one.tokens for one in self._unread)
        record = {
            "update": self.position.update,
            "epoch": self._epochs_done(),
            "loss": sum(loss for loss, _, _ in values) / tokens,
            "perplexity": math.exp(min(sum(nll for _, nll, _ in values) / sum(words for _, _, words in values), 100.0)),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **self._throughput.read(),
        }
        self._unread.clear()
        self._logged.record("train", record)
        share = self._share()
        if self.config.max_minutes:
            share = max(share, self.position.seconds / 60 / self.config.max_minutes)
        self._logged.progress(share, self._epochs_done(), record, self.position.seconds)

    def _broken(self, what: str, last: _Unread | None) -> UserError:
        good = self.run.newest()
        kept = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
        where = f" (epoch {last.epoch}, batch {last.batch}, training pairs {last.rows}...)" if last else ""
        return UserError(
            f"{what}{where}: {kept}. Lower training.learning_rate or training.clip_norm, or look at these pairs"
        )

    def _validate(self) -> None:
        """Score the model and note whether it is among the best."""
        self._report()
        config, position = self.config, self.position
        try:
            found = self.data.validator()
        except BrokenModelError as error:
            raise self._broken(f"validation at update {position.update:,} failed, {error}", self._last) from error
        # every process has decoded, but on other hardware others may find other scores
        found = broadcast_object_list([found])[0]
        self._validation = found
        self._throughput.restart()
        score = found.value(config.metric)
        better = not position.best or score > position.best[0][0]
        position.without_gain = 0 if better else position.without_gain + 1
        position.halvings += 0 if better or config.schedule != "plateau" else 1
        position.best = sorted([*position.best, (score, position.update)], reverse=True)[: config.keep_best]
        position.validated = position.update
        self._logged.record("valid", {"update": position.update, **found.record()})
        self._logged.say(
            f"update {position.update:,} (epoch {self._epochs_done():.1f}, {duration(position.seconds)}): "
            f"validation {', '.join(f'{name} {value:.4g}' for name, value in found.record().items())}"
            f"{' *' if better else ''}"
        )

    def _save(self) -> None:
        """Write a checkpoint of this very update."""
        self._report()
        if self.accelerator.is_main_process:
            state = {
                "position": asdict(self.position),
                "optimizer": self.optimizer.state_dict(),
                "processes": self.accelerator.num_processes,
            }
            metrics = {"update": self.position.update, "versions": versions(), "seed": self.config.seed}
            if self._validation and self.position.validated == self.position.update:
                metrics["validation"] = self._validation.record()
            best = [update for _, update in self.position.best]
            self.run.save(self.position.update, self.trained, metrics, state, best)
        self.accelerator.wait_for_everyone()

    def _resume(self, newest: Path) -> None:
        config, _, state = load_checkpoint(newest)
        before = {**config, "processes": state.get("processes", 1)}
        now = {"model": asdict(self.raw.config), "processes": self.accelerator.num_processes, **self.trained.config}
        defaults = {"model": asdict(ModelConfig()), "training": asdict(TrainingConfig())}
        if changed := changed_settings(before, now, defaults):
            raise UserError(f"{newest}: was trained with other settings ({'; '.join(changed)}): resume with the same")
        load_weights(self.raw, newest)
        self.optimizer.load_state_dict(send_to_device(state["optimizer"], self.accelerator.device))
        self.position = Position(**state["position"])
        self.position.best = [(score, update) for score, update in self.position.best]
        self._validation = _validation_of(newest)
        if self.run.model.exists() and (reason := self._finished()):
            raise UserError(f"{self.run.path}: nothing is left to train: it {reason}. Raise that limit to go on")
        self.accelerator.wait_for_everyone()
        if self.run.model.exists() and self.accelerator.is_main_process:
            shutil.rmtree(self.run.model)

    def _introduce(self) -> None:
        parameters = sum(p.numel() for p in self.raw.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self.raw.parameters() if not p.requires_grad)
        softmax = sum(p.numel() for p in self.raw.decoder.output.parameters())
        device, processes = self.accelerator.device, self.accelerator.num_processes
        where = f"{processes} process(es) on {device}, {torch.get_num_threads()} thread(s) each"
        precision = "bfloat16 autocast" if self.accelerator.mixed_precision == "bf16" else "float32"
        size = f"{parameters / 1e6:.2f} M parameters, {softmax / parameters:.0%} of them in the softmax"
        size += f", and {frozen / 1e6:.2f} M frozen" if frozen else ""
        self._logged.say(f"{size}; {where}; {precision}")
        if self.position.update:
            self._logged.say(f"resumed at update {self.position.update:,}, epoch {self._epochs_done():.1f}")


def _mix(seed: int, update: int, rank: int) -> int:
    """A seed of its own for every update and process (torch keeps 64 bits of it)."""
    return (seed * 0x9E3779B97F4A7C15 + update * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


def _validation_of(model: Path) -> Validation | None:
    """The scores in a model directory, if it was saved right after a validation."""
    scores = json.loads((model / "metrics.json").read_text(encoding="utf-8")).get("validation")
    return Validation.of_record(scores) if scores else None
