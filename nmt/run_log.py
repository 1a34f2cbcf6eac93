"""What a training run tells while it goes on: a live display, metrics.jsonl, TensorBoard, and curves.png."""

import json
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from data.files import write_text


class RunLog:
    """A context manager; outside a terminal the display is a line at every report."""

    def __init__(self, folder: Path, *, update: int, console: Console) -> None:
        """Args: update: Where training goes on; what metrics.jsonl says beyond it is forgotten."""
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "metrics.jsonl"
        self._console = console
        records = [record for record in read_records(folder) if record["update"] <= update]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in records))
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=update + 1)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} % {task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=1.0, epoch=0, text="")
        self._told = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._board.close()
        self._file.close()

    def record(self, kind: str, values: dict[str, Any]) -> None:
        """Keep a record; `values` holds `update` and numbers."""
        self._file.write(json.dumps({"kind": kind, **values}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        for name, value in values.items():
            if name != "update" and math.isfinite(value):
                self._board.add_scalar(f"{kind}/{name}", value, values["update"])

    def progress(self, share: float, epoch: float, values: dict[str, float], seconds: float) -> None:
        """Show where training stands; `seconds` is the time spent so far."""
        left = seconds * (1 - share) / share if share else math.nan
        text = (
            f"loss {values['loss']:.3f} perplexity {values['perplexity']:.2f} "
            f"{values['target_tokens_per_second']:,.0f} tokens/s padding {values['padding']:.1%} "
            f"rate {values['learning_rate']:.2g}, at most {duration(left)} left"
        )
        self._progress.update(self._task, completed=share, epoch=f"{epoch:.1f}", text=text)
        if not self._console.is_terminal and time.monotonic() - self._told > 30:
            self._told = time.monotonic()
            self.say(f"epoch {epoch:.1f} {share:.0%} {text}")

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds, as people say them."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of a run so far; a last line that a kill cut off is left out."""
    path = folder / "metrics.jsonl"
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def draw_curves(folder: Path) -> None:
    """Write curves.png: loss, perplexity and BLEU, learning rate over updates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = read_records(folder)
    train = [r for r in records if r["kind"] == "train"]
    valid = [r for r in records if r["kind"] == "valid"]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    left.plot([r["update"] for r in train], [r["perplexity"] for r in train], label="train (dropout on)", lw=1)
    left.plot([r["update"] for r in valid], [r["perplexity"] for r in valid], label="validation", marker=".")
    left.set(yscale="log", xlabel="updates", title="perplexity")
    left.legend()
    middle.plot([r["update"] for r in valid], [r["bleu"] for r in valid], marker=".", color="C2")
    middle.set(xlabel="updates", title="BLEU on validation", ylim=(0, None))
    right.plot([r["update"] for r in train], [r["learning_rate"] for r in train], color="C3")
    right.set(xlabel="updates", title="learning rate", ylim=(0, None))
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=110)
    plt.close(figure)
