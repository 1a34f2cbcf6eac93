import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data.tokenizer import Tokenizer

SCRIPTS = Path(__file__).parents[2] / "scripts"
SOURCE = ["The cat sat.", "The dog sat.", "A cat ran and ran and ran.", "", "A dog ran."]
TARGET = ["Le chat assis.", "Le chien assis.", "Un chat courait.", "Rien.", "Un chien courait."]


def run(base: Path, *options: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / "prepare_translation.py", *options],
        cwd=folder or base,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def failure(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("prepare_translation.py: error: ")
    return line


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, lines in (("train.en", SOURCE), ("train.fr", TARGET), ("valid.en", SOURCE[:2]), ("valid.fr", TARGET[:2])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tmp_path


FILES = ["--train.source=train.en", "--train.target=train.fr", "--valid.source=valid.en", "--valid.target=valid.fr"]


def test_options_reach_the_prepared_directory(base: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    result = run(
        base,
        *FILES,
        f"--data={base}",
        "--out=out",
        "--source.level=char",
        "--source.lowercase=true",
        "--source.min_count=1",
        "--target.language=fr",
        "--target.min_count=2",
        "--target.vocab_size=8",
        "--max_length=15",
        "--workers=1",
        folder=elsewhere,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    out = elsewhere / "out"
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["splits"]["train"]["dropped"] == {"blank": 1, "overlong": 1}
    for shown in ("1 blank, 1 overlong", "pairs/s", "softmax: 8 outputs", "written to out"):
        assert shown in result.stdout
    source, target = (Tokenizer.load(out / f"{side}.model") for side in ("source", "target"))
    assert (source.level, source.lowercase, len(target), target.language) == ("char", True, 8, "fr")


def test_a_file_of_settings_and_overwriting(base: Path) -> None:
    settings = {
        "train": {"source": "train.en", "target": ["train.fr"]},
        "holdout": {"valid": 1},
        "shared_vocabulary": True,
        "overlong": "truncate",
        "max_length": 3,
        "source": {"min_count": 1},
    }
    (base / "settings.yaml").write_text(yaml.safe_dump(settings))
    first = run(base, "--config=settings.yaml", "--out=out")
    assert first.returncode == 0, first.stderr
    assert (base / "out" / "valid.reference").is_file()
    assert json.loads((base / "out" / "report.json").read_text())["splits"]["train"]["truncated"] > 0
    assert "exists already" in failure(run(base, "--config=settings.yaml", "--out=out"))
    again = run(
        base, "--config=settings.yaml", "--out=out", "--overwrite", "--stream=true", *FILES[2:], "--holdout.valid=0"
    )
    assert again.returncode == 0, again.stderr
    assert not (base / "out" / "train").exists()


def test_what_a_user_can_get_wrong(base: Path) -> None:
    assert "no such file. It was looked for in" in failure(run(base, "--train.files=trian.tsv", "--out=out"))
    assert "no validation text" in failure(run(base, *FILES[:2], "--out=out"))
    assert "max_length 0: give 1 or more" in failure(run(base, *FILES, "--out=out", "--max_length=0"))
    assert "vocab_size 2 leaves no room" in failure(run(base, *FILES, "--out=out", "--source.vocab_size=2"))
    assert "Did you mean" in failure(run(base, *FILES, "--out=out", "--max_lenght=9"))
    (base / "train.fr").write_text("one line\n")
    assert "train.en has 5 lines but train.fr has 1: line 2 stands in one only" in failure(
        run(base, *FILES, "--out=out")
    )
    (base / "train.fr").write_bytes(b"ok\n\xff\n")
    assert "train.fr, line 2: not valid UTF-8: byte 0xff" in failure(run(base, *FILES, "--out=out"))
    assert not [path for path in base.iterdir() if path.is_dir()]
