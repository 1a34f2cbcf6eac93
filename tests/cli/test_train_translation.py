"""The training command as a process of its own: killed, interrupted, out of space, and as two processes."""

import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sacrebleu
from tiny import MODEL, ROOT, command, environment, launch, poison_gradients, run, weights, write_prepared
from tiny import train as train_here

from data.batching import plan_batches
from data.corpus import PreparedCorpus
from data.text_files import read_lines
from nmt.checkpoint import load_checkpoint, load_model
from nmt.run_directory import RunDirectory
from nmt.run_log import read_records
from scripts.command import run as run_command
from scripts.train_translation import train

SECONDS = 300
LARGER = replace(MODEL, layers=2, hidden=24, embedding=24, tied="target")
# every 3 updates a checkpoint, every 20 a validation, and 90 updates in about twelve epochs
LONG = {
    "max_updates": 90, "checkpoint_every": 3, "validate_every": 20, "schedule": "plateau", "accumulate": 2,
    "warmup_updates": 30, "keep_best": 2, "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """The run that all others are compared with."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = run(command(data, out, model=LARGER, **LONG))
    assert done.returncode == 0, done.stderr
    assert f"The best model is in {out}/model" in done.stdout
    return out


def start(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    )


def wait_until(process: subprocess.Popen, happened) -> None:
    """Returns as soon as something has happened; fails if the process ends before."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def scores(folder: Path) -> list[tuple]:
    """All that metrics.jsonl says but for what hangs on the clock."""
    return [
        tuple(value for name, value in record.items() if name != "target_tokens_per_second")
        for record in read_records(folder)
    ]


def assert_same_run(out: Path, expected: Path) -> None:
    assert weights(out / "model") == weights(expected / "model")
    newest = [RunDirectory(path).newest() for path in (out, expected)]
    assert weights(newest[0]) == weights(newest[1])
    assert RunDirectory(out).updates() == RunDirectory(expected).updates()
    assert (out / "model" / "metrics.json").read_bytes() == (expected / "model" / "metrics.json").read_bytes()
    assert scores(out) == scores(expected)
    assert not list(out.rglob(".unfinished-*"))


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(data, uninterrupted, tmp_path):
    """SIGKILL strikes at random moments, and twice in the middle of writing a checkpoint."""
    out, draw = tmp_path / "run", random.Random(20)
    runs = RunDirectory(out)
    moments = [(draw.randrange(3, 20), False), (draw.randrange(20, 40), True), (draw.randrange(40, 60), False)]
    moments += [(draw.randrange(60, 80), True), (draw.randrange(80, 86), False)]
    for number, (update, writing) in enumerate(moments):
        process = start(command(data, out, *["--resume"] * (number > 0), model=LARGER, **LONG))
        wait_until(process, lambda update=update: runs.newest_update() >= update)
        if writing:
            wait_until(process, lambda: any(runs.checkpoints.glob(".unfinished-update-*/model.safetensors")))
        else:
            time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not runs.model.exists()
    done = run(command(data, out, "--resume", model=LARGER, **LONG))
    assert done.returncode == 0, done.stderr
    assert "resumed at update" in done.stdout
    assert_same_run(out, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_cleanly(data, uninterrupted, tmp_path, number):
    out = tmp_path / "run"
    process = start(command(data, out, model=LARGER, **LONG | {"checkpoint_every": 0}))
    wait_until(process, lambda: any(record["update"] >= 20 for record in read_records(out)))
    process.send_signal(number)
    said, complained = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert complained == ""
    newest = RunDirectory(out).newest_update()
    assert f"Training was stopped by a signal at update {newest}: go on with --resume" in said
    assert 20 <= newest < 90
    assert not (out / "model").exists()
    if number == signal.SIGTERM:
        return
    done = run(command(data, out, "--resume", model=LARGER, **LONG | {"checkpoint_every": 0}))
    assert done.returncode == 0, done.stderr
    assert weights(out / "model") == weights(uninterrupted / "model")


@pytest.fixture
def only_line(monkeypatch, capsys):
    """What a command, run in this process, says when a user's error ends it."""

    def refused(*arguments, **options) -> str:
        monkeypatch.setattr(sys, "argv", command(*arguments, **options)[1:])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            run_command("train_translation.py", train)
        assert caught.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("train_translation.py: error: ")
        return line

    return refused


def test_a_full_disk_leaves_the_last_good_checkpoint(data, tmp_path, only_line):
    out = tmp_path / "run"
    train_here(data, out, model=LARGER)
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), len(weights(out / "model"))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
        line = only_line(data, out, "--resume", model=LARGER, max_updates=9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "update-9: cannot be written (File too large)" in line
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["update-6"]
    load_model(out / "checkpoints" / "update-6")
    assert load_checkpoint(out / "checkpoints" / "update-6")[2]["position"]["update"] == 6
    assert train_here(data, out, model=LARGER, max_updates=9, resume=True).updates == 9


def test_users_errors_are_one_line(data, uninterrupted, tmp_path, only_line):
    """A taken directory, a finished run, changed settings, and a place that cannot be written."""
    same = {"model": LARGER, **LONG}
    line = only_line(data, uninterrupted, **same)
    assert f"{uninterrupted}: holds a run that has reached update 90: go on with it with --resume" in line
    line = only_line(data, uninterrupted, "--resume", **same | {"max_updates": 45})
    assert "nothing is left to train: it reached update 90, and training.max_updates is 45" in line
    line = only_line(data, uninterrupted, "--resume", **same | {"max_updates": 99, "clip_norm": 2.0})
    assert "was trained with other settings (training.clip_norm was 1.0 and is 2.0)" in line
    line = only_line(data, tmp_path / "nowhere", "--resume")
    assert "nowhere: no run to resume here: check the path, or start without --resume" in line
    (tmp_path / "file").touch()
    line = only_line(data, tmp_path / "file" / "run")
    assert "file/run: cannot be written (Not a directory): choose another --out" in line
    assert weights(uninterrupted / "model") == weights(RunDirectory(uninterrupted).at(90))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("started", [False, True])
def test_a_directory_without_permission_is_one_line(data, tmp_path, only_line, started):
    out = tmp_path / "run"
    if started:
        train_here(data, out)
    out.mkdir(exist_ok=True)
    closed = out / "checkpoints" if started else out
    closed.chmod(0o500)
    try:
        line = only_line(data, out, *["--resume"] * started, max_updates=9)
    finally:
        closed.chmod(0o700)
    assert "cannot be written (Permission denied)" in line
    if started:
        load_model(out / "checkpoints" / "update-6")


def test_a_run_that_diverges_names_the_batch_and_the_last_good_checkpoint(data, tmp_path, only_line, monkeypatch):
    out = tmp_path / "run"
    poison_gradients(monkeypatch, at=3)  # which rate of learning would do it depends on the processor
    line = only_line(data, out, checkpoint_every=1)
    assert "(epoch 0, batch " in line
    newest = RunDirectory(out).newest()
    assert f"the last good checkpoint is {newest}" in line
    load_model(newest)
    assert not (out / "model").exists()


def test_bleu_is_that_of_the_translate_command(data, uninterrupted):
    made = subprocess.run(
        [sys.executable, "-m", "scripts.translate", "--threads=1", "--model", str(uninterrupted / "model"),
         "--beam=1"],
        input="".join(f"{line}\n" for line in itertools.islice(read_lines(data / "valid.source"), 4)),
        capture_output=True, text=True, timeout=SECONDS, cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    references = list(itertools.islice(read_lines(data / "valid.reference"), 4))
    best = json.loads((uninterrupted / "model" / "metrics.json").read_text())["validation"]["bleu"]
    assert sacrebleu.corpus_bleu(made.stdout.splitlines(), [references]).score == pytest.approx(best, abs=1e-9)
    assert best > 1


def test_two_processes_are_one_with_twice_the_accumulation(data, tmp_path):
    """Losses and final weights, over epochs that end in a single batch and in fewer batches than a group has."""
    model = replace(MODEL, dropout=0.0, layers=2)
    settings = {"max_updates": 12, "checkpoint_every": 1, "learning_rate": 0.05, "model": model}
    batches = len(list(plan_batches(PreparedCorpus(data / "train"), batch_tokens=128, seed=1, epoch=0)))
    assert batches % 2 == 1
    one = run(command(data, tmp_path / "one", accumulate=2, **settings))
    two = run(launch(command(data, tmp_path / "two", **settings)))
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert "2 process(es) on cpu" in two.stdout
    assert two.stdout.count("The best model is in") == 1
    losses = []
    for name in ("one", "two"):
        records = [record for record in read_records(tmp_path / name) if record["kind"] == "train"]
        losses.append([record["loss"] for record in records])
        assert [record["update"] for record in records] == list(range(1, 13))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < 0.95 * losses[0][0]
    valid = [[r["perplexity"] for r in read_records(tmp_path / n) if r["kind"] == "valid"] for n in ("one", "two")]
    assert valid[0] == pytest.approx(valid[1], rel=1e-4)


def test_two_processes_stop_together(data, tmp_path):
    """At the clock's limit, which they do not reach at the same moment."""
    done = run(launch(command(data, tmp_path / "run", max_updates=0, max_minutes=1e-9)))
    assert done.returncode == 0, done.stderr
    assert RunDirectory(tmp_path / "run").newest_update() == 20
