"""What a training run tells while it goes on: a live display, metrics.jsonl, TensorBoard, and curves.png."""

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from data.batching import Plan
from data.errors import UserError
from data.files import write_text


class RunLog:
    """A context manager; outside a terminal the display is a line at every report.

    Raises UserError where a file cannot be written.
    """

    def __init__(self, folder: Path, *, update: int, console: Console) -> None:
        """Args: update: Where training goes on; what metrics.jsonl says beyond it is forgotten."""
        self._path = folder / "metrics.jsonl"
        self._console = console
        records = [record for record in read_records(folder) if record["update"] <= update]
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in records))
        with _writing(folder):
            self._file = self._path.open("a", encoding="utf-8")
            self._board = Board(folder / "tensorboard", update=update)
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

    def __enter__(self) -> "RunLog":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        for file in (self._board, self._file):
            # on a full disk closing fails once more, after what failed first has been said
            with contextlib.suppress(OSError):
                file.close()

    def record(self, kind: str, values: dict[str, Any]) -> None:
        """Keep a record; `values` holds `update` and numbers."""
        with _writing(self._path):
            self._file.write(json.dumps({"kind": kind, **values}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            scalars = {f"{kind}/{name}": value for name, value in values.items() if name != "update"}
            self._board.write(values["update"], scalars)

    def progress(self, share: float, epoch: float, values: dict[str, Any], seconds: float) -> None:
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
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class SilentLog:
    """The log of the processes that do not speak."""

    def __enter__(self) -> "SilentLog":
        return self

    def __exit__(self, *error: object) -> None: ...
    def record(self, kind: str, values: dict[str, Any]) -> None: ...
    def progress(self, share: float, epoch: float, values: dict[str, Any], seconds: float) -> None: ...
    def say(self, text: str) -> None: ...


class Board:
    """TensorBoard's event file, written at once: its own writer does it in a thread, where a full disk goes unseen."""

    def __init__(self, folder: Path, *, update: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        # what an earlier process wrote beyond `update` is not shown
        began = SessionLog(status=SessionLog.START)
        for event in (Event(file_version="brain.Event:2"), Event(step=update + 1, session_log=began)):
            event.wall_time = time.time()
            self._records.write(event.SerializeToString())
        self._records.flush()

    def write(self, update: int, scalars: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items() if math.isfinite(value)]
        event = Event(wall_time=time.time(), step=update, summary=Summary(value=values))
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        self._file.close()


class Throughput:
    """Speed and padding since the last report."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._tokens = self._real = self._cells = 0
        self._started = time.monotonic()

    def add(self, plans: Iterable[Plan]) -> None:
        for plan in plans:
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


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}): free some space or look at the permissions, then "
            "go on with --resume"
        ) from error


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
    """Write curves.png: perplexity, BLEU and learning rate over updates."""
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
    scores = [name for name in (valid[-1] if valid else {}) if name not in ("kind", "update", "perplexity")]
    for name in scores:
        known = [r for r in valid if name in r]  # what an earlier version began may lack a score
        middle.plot([r["update"] for r in known], [r[name] for r in known], marker=".", label=name)
    middle.set(xlabel="updates", title="validation, of decoded text", ylim=(0, None))
    if scores:
        middle.legend()
    right.plot([r["update"] for r in train], [r["learning_rate"] for r in train], color="C3")
    right.set(xlabel="updates", title="learning rate", ylim=(0, None))
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    with _writing(folder / "curves.png"):
        figure.savefig(folder / "curves.png", dpi=110)
    plt.close(figure)
