"""All stages of frames, as commands: the gestures recipe, and a recipe of a user's own for files of his own."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import run as run_to_end
from tiny import weights, write_prepared

SMALL = ["--model.hidden=16", "--model.embedding=16", "--training.max_updates=4", "--training.batch_tokens=512"]
OWN_RECIPE = """
task: frames
prepare:
  train: {file: train.jsonl, target_field: text}
  valid: {file: valid.jsonl, target_field: text}
  text: {min_count: 1, lowercase: true}
model: {layers: 1, hidden: 16, embedding: 16, dropout: 0.0}
training:
  {max_epochs: 100, max_updates: 80, batch_tokens: 512, learning_rate: 0.02, warmup_updates: 5, validate_every: 80}
"""


def command(script: str, *arguments: str | Path):
    return run_to_end([sys.executable, f"scripts/{script}.py", *map(str, arguments)])


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A user's folder: videos of five features whose first frame tells what happens, in files of their own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "videos").mkdir()
    random = np.random.default_rng(1)
    for split, size in (("train", 60), ("valid", 8)):
        records = []
        for i in range(size):
            frames = random.standard_normal((int(random.integers(1, 9)), 5)) * 40 + 200
            frames[:, 0] = 100 if i % 2 else 300
            np.save(folder / "videos" / f"{split}{i}.npy", frames)
            records.append({"frames": f"videos/{split}{i}.npy", "text": "A dog runs." if i % 2 else "A cat sleeps."})
        if split == "train":
            records.insert(3, {"frames": "videos/lost.npy", "text": "Nothing."})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "own.yaml").write_text(OWN_RECIPE)
    ended = command("run", folder / "own.yaml", "--data", folder, "--out", folder / "run")
    assert ended.returncode == 0, ended.stderr
    (folder / "said").write_text(ended.stdout)
    return folder


def test_a_recipe_runs_on_files_of_the_users_own(own):
    said = (own / "said").read_text()
    assert "1 sequences left out, see train.left_out.txt: train.jsonl, line 4 (videos/lost.npy)" in " ".join(
        said.split()
    )
    assert "Training reached update 80" in said and not (own / "run" / "evaluation.json").exists()
    again = command("run", own / "own.yaml", "--data", own, "--out", own / "run")
    assert again.returncode == 0 and again.stdout.count("already") == 2
    before = weights(own / "run" / "model")
    other = command("run", own / "own.yaml", "--data", own, "--out", own / "run", "--model.hidden=17")
    assert other.returncode == 1 and "model.hidden was 16 and is 17" in other.stderr
    assert weights(own / "run" / "model") == before


def test_a_finished_model_is_used_on_new_files(own, tmp_path):
    model, videos = own / "run" / "model", own / "videos"
    files = [videos / "valid1.npy", own / "valid.jsonl", videos / "lost.npy", videos / "valid0.npy"]
    ended = command("translate_frames", "--model", model, *files)
    assert ended.returncode == 1  # one of them is missing
    assert ended.stdout.splitlines() == ["a dog runs.", *["a cat sleeps.", "a dog runs."] * 4, "", "a cat sleeps."]
    assert "lost.npy: cannot be read (No such file or directory)" in ended.stderr and "Traceback" not in ended.stderr
    best = command("translate_frames", "--model", model, files[0], "--n-best", "2", "--output", tmp_path / "out")
    assert best.returncode == 0, best.stderr
    rows = [line.split("\t") for line in (tmp_path / "out").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["1", "1"], ["1", "2"]] and rows[0][4] == "a dog runs."
    again = command("translate_frames", "--model", model, files[0], "--output", tmp_path / "out")
    assert again.returncode == 1 and "exists already" in again.stderr
    lines = own / "valid.jsonl"
    before = lines.read_bytes()
    lost = command("translate_frames", "--model", model, lines, "--output", lines, "--overwrite")
    assert lost.returncode == 1 and "has another use" in lost.stderr and lines.read_bytes() == before
    np.save(tmp_path / "long.npy", np.full((1001, 5), 200.0))
    long = command("translate_frames", "--model", model, tmp_path / "long.npy", "--sample", "--seed=3")
    assert long.returncode == 0 and len(long.stdout.splitlines()) == 1
    assert "1,001 frames, more than any in training (1,000)" in long.stderr


def test_models_are_refused_where_they_read_something_else(own, tmp_path):
    model = own / "run" / "model"
    for script, arguments in (("translate", [own / "own.yaml"]), ("caption", [own / "videos"])):
        ended = command(script, "--model", model, *arguments)
        assert ended.returncode == 1 and "Traceback" not in ended.stderr
        assert "this model reads frames: use it with scripts/translate_frames.py" in ended.stderr
    data = write_prepared(tmp_path)
    text = command("train_translation", "--data", data, "--out", tmp_path / "run", *SMALL)
    assert text.returncode == 0, text.stderr
    ended = command("translate_frames", "--model", tmp_path / "run" / "model", own / "valid.jsonl")
    assert ended.returncode == 1 and "this model reads text: use it with the translate command" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--field", "nothing"], 1, "no field 'nothing'. There are: frames, text. Set frames_field"),
        (["--temperature", "0", "--sample"], 2, "temperature"),
        (["--beam", "3", "--sample"], 2, "--beam works only without --sample"),
    ],
)
def test_wrong_words_are_one_line(own, arguments, code, message):
    ended = command("translate_frames", "--model", own / "run" / "model", own / "valid.jsonl", *arguments)
    assert ended.returncode == code and message in ended.stderr and ended.stderr.count("\n") == 1


def test_the_gestures_recipe_ends_with_its_metrics(tmp_path):
    out = tmp_path / "run"
    sizes = ["--gestures.train=60", "--gestures.valid=4", "--gestures.test=7"]
    ended = command("run", "gestures", "--out", out, *sizes, *SMALL)
    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    found = json.loads((out / "evaluation.json").read_text())
    assert metrics == {"exact": found["exact"] / 100, "sequences": 7, "groups": {}}
    assert found["buckets"] == [] and found["decoding"]["source_unknown_rate"] is None
    lines = (out / "test.translations.txt").read_text().splitlines()
    references = (out / "data" / "test.reference").read_text().splitlines()
    assert metrics["exact"] == sum(a == b for a, b in zip(lines, references, strict=True)) / 7
    for name in ("model/MANIFEST", "data/train.npy", "curves.png", "corpus/test.jsonl"):
        assert (out / name).is_file(), name
    shown = command("translate_frames", "--model", out / "model", out / "corpus" / "test.jsonl", "--beam", "1")
    assert shown.returncode == 0 and shown.stdout.splitlines() == lines
    assert command("run", "gestures", "--out", out, *sizes, *SMALL).stdout.count("already") == 3
