"""Directories that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data.errors import UserError

_TEMPORARY = ".unfinished-"
_OLD = f"{_TEMPORARY}old-"


@contextlib.contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty sibling directory that is flushed to disk and renamed to `path` when the block ends well.

    Whatever happens inside, `path` is afterwards either as it was before or complete.
    Raises UserError if `path` exists and may not be overwritten, cannot be written, or the disk is full.
    """
    temporary = None
    try:
        if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: exists already: choose another place, or allow it with --overwrite")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{path.name}-", dir=path.parent))
        temporary.chmod(0o755)
        yield temporary
        _flush(temporary)
        if path.exists():
            # two renames: a kill between them leaves the old directory where `remove_unfinished` finds it
            old = Path(tempfile.mkdtemp(prefix=_OLD, dir=path.parent)) / path.name
            try:
                path.rename(old)
                temporary.rename(path)
            finally:
                _put_back(old, path)
                shutil.rmtree(old.parent)
        else:
            temporary.rename(path)
        _flush_entry(path.parent)
    except OSError as error:
        raise UserError(_explain(path, error)) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace a small file by this text, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a small file whole or not at all; raises UserError as `atomic_directory` does.

    What is there and is no regular file, such as /dev/null, is written to and stays what it is.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        _flush_entry(temporary)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(_explain(path, error)) from error


def remove_unfinished(directory: Path) -> None:
    """Delete what a killed process left half written in `directory`, and put back what it was about to replace."""
    for leftover in directory.glob(f"{_TEMPORARY}*"):
        if leftover.name.startswith(_OLD):
            for old in list(leftover.iterdir()):
                _put_back(old, directory / old.name)
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()


def _put_back(old: Path, path: Path) -> None:
    if old.exists() and not path.exists():
        old.rename(path)


def _explain(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full: free some space and start again; what was there before is unharmed"
    return f"{path}: cannot be written ({error.strerror or error}): check the place and its permissions"


def _flush(directory: Path) -> None:
    for root, _, names in os.walk(directory):
        for name in names:
            _flush_entry(Path(root) / name)
        _flush_entry(Path(root))


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
