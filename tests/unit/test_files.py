import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data import files
from data.errors import UserError
from data.files import atomic_directory, remove_unfinished, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str, *, overwrite: bool = False) -> None:
    with atomic_directory(path, overwrite=overwrite) as folder:
        assert folder.parent == path.parent
        assert names(folder) == []
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)


def test_a_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with atomic_directory(out) as folder:
        (folder / "file").write_text("one")
        assert not out.exists()
    assert (out / "file").read_text() == "one"
    assert names(out.parent) == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755


def test_an_empty_directory_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "one")
    assert (tmp_path / "out" / "sub" / "file").read_text() == "one"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_there_is_not_replaced_unasked(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        write(out, "mine")
    with pytest.raises(UserError, match="exists already: choose another place, or allow it with --overwrite"):
        write(out, "two")
    assert (out if kind == "file" else out / "sub" / "file").read_text() == "mine"
    assert names(tmp_path) == ["out"]


def test_overwriting_replaces_all_of_it(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")
    (tmp_path / "out" / "old").touch()
    write(tmp_path / "out", "two", overwrite=True)
    assert (tmp_path / "out" / "sub" / "file").read_text() == "two"
    assert names(tmp_path / "out") == ["sub"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [UserError("bad"), KeyboardInterrupt(), ValueError("bug")])
def test_an_error_inside_leaves_everything_as_it_was(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "out", "one")
    for path in (tmp_path / "out", tmp_path / "other"):
        with pytest.raises(type(error)), atomic_directory(path, overwrite=True) as folder:
            (folder / "file").touch()
            raise error
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "sub" / "file").read_text() == "one"


def test_the_old_directory_is_put_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", "one")
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name.startswith(".unfinished-out-"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(UserError, match="out: cannot be written \\(Input/output error\\)"):
        write(tmp_path / "out", "two", overwrite=True)
    assert (tmp_path / "out" / "sub" / "file").read_text() == "one"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path: Path, code: int) -> None:
    with pytest.raises(UserError, match="out: the disk is full: free some space"), atomic_directory(tmp_path / "out"):
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="out: cannot be written"):
        write(tmp_path / "file" / "out", "one")
    with pytest.raises(UserError, match="out: cannot be written"):
        write_text(tmp_path / "file" / "out", "one")


def test_everything_is_flushed_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    write(tmp_path / "out", "one")
    assert {"file", "sub", tmp_path.name} <= set(flushed)
    assert flushed[-1] == tmp_path.name
    flushed.clear()
    write_text(tmp_path / "text", "one")
    assert flushed


def test_writing_a_text_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    write_text(path, "é\n")
    write_text(path, "ü\n")
    assert path.read_bytes() == "ü\n".encode()

    def fail(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="file: the disk is full"):
        write_text(path, "new")
    assert path.read_bytes() == "ü\n".encode()
    assert names(path.parent) == ["file"]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-out-abc").mkdir()
    (tmp_path / ".unfinished-out-abc" / "file").touch()
    (tmp_path / ".unfinished-file").touch()
    (tmp_path / "mine").touch()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize("replaced", [True, False])
def test_a_directory_that_was_being_replaced_is_put_back(tmp_path: Path, replaced: bool) -> None:
    write(tmp_path / ".unfinished-old-abc" / "out", "one")
    if replaced:
        write(tmp_path / "out", "two")
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "sub" / "file").read_text() == ("two" if replaced else "one")


KILLED = """
import sys, time
from pathlib import Path
from data.files import atomic_directory

steps = 0
rename = Path.rename


def slow(self, target):
    global steps
    if steps == int(sys.argv[2]):
        print("now", flush=True)
        time.sleep(60)
    steps += 1
    return rename(self, target)


Path.rename = slow
with atomic_directory(Path(sys.argv[1]), overwrite=True) as folder:
    (folder / "new").touch()
"""


@pytest.mark.parametrize("step", [0, 1])
def test_a_kill_at_any_moment_costs_nothing(tmp_path: Path, step: int) -> None:
    write(tmp_path / "out", "one")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "out"), str(step)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "sub" / "file").read_text() == "one"
