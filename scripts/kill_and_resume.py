"""Experiment: is a training that was killed and resumed the same, bit for bit, as one that was left alone?"""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.command import Parser, run

_UPDATES = 60
_TRAINING = (
    "--threads=1", "--model.hidden=64", "--model.embedding=64", f"--training.max_updates={_UPDATES}",
    "--training.checkpoint_every=5", "--training.validate_every=20", "--training.valid_sentences=20",
    "--training.batch_tokens=1024", "--training.precision=float32",
)  # fmt: skip


def kill_and_resume() -> int:
    from jsonargparse.typing import PositiveInt
    from rich.console import Console
    from rich.table import Table

    from data.errors import UserError
    from nmt.run_directory import RunDirectory

    parser = Parser(
        "kill_and_resume.py",
        f"Train a small model for {_UPDATES} updates, then again and again: each time killed at a random update, "
        "resumed, and compared with the first by the bits of its weights.",
        "kill_and_resume.py --data DIR --out DIR",
    )
    parser.add_argument("--data", type=Path, required=True, help="Directory that prepare_translation.py wrote.")
    parser.add_argument("--out", type=Path, required=True, help="Directory to write the runs to.")
    parser.add_argument("--kills", type=PositiveInt, default=10, help="How many runs are killed, once each.")
    parser.add_argument("--seed", type=int, default=1, help="Decides the moments.")
    options = parser.read()

    def command(out: Path, *more: str) -> list[str]:
        script = str(Path(__file__).with_name("train_translation.py"))
        return [sys.executable, script, "--data", str(options.data), "--out", str(out), *_TRAINING, *more]

    def finish(out: Path, *more: str) -> bytes:
        done = subprocess.run(command(out, *more), capture_output=True, text=True)
        if done.returncode:
            raise UserError(done.stderr.strip())
        return (out / "model" / "model.safetensors").read_bytes()

    draw = random.Random(options.seed)
    expected = finish(options.out / "whole")
    table = Table("run", "killed after", "resumed at", "weights")
    same = 0
    for number in range(1, options.kills + 1):
        out, update, delay = options.out / f"killed-{number}", draw.randrange(5, _UPDATES - 5), draw.uniform(0, 0.5)
        kill_at(command(out), out, update, delay)
        while RunDirectory(out).model.exists():  # it was done before the signal came: earlier
            shutil.rmtree(out)
            update = max(5, update - 10)
            kill_at(command(out), out, update, delay)
        resumed = RunDirectory(out).newest_update()
        equal = finish(out, "--resume") == expected
        same += equal
        when = f"the checkpoint at or after update {update}, and {1000 * delay:.0f} ms"
        table.add_row(str(number), when, f"update {resumed}", "bit-identical" if equal else "different")
    console = Console()
    console.print(table)
    console.print(f"bit-identical: {same} of {options.kills}", highlight=False)
    return 0 if same == options.kills else 1


def kill_at(command: list[str], out: Path, update: int, delay: float) -> None:
    """Start a training and send it SIGKILL `delay` seconds after it has a checkpoint of `update` or later."""
    from data.errors import UserError
    from nmt.run_directory import RunDirectory

    runs = RunDirectory(out)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while runs.newest_update() < update:
            if process.poll() is not None:
                raise UserError(f"{out}: the training ended too early: {process.communicate()[1].strip()}")
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    run("kill_and_resume.py", kill_and_resume)
