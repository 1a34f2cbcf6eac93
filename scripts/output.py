"""Opening what a command writes to, so that a write that fails, or writes only a part, never goes unseen."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from data.errors import UserError


def open_output(file: str | None, source: int | None, stack: contextlib.ExitStack) -> Callable[[str], None]:
    """What writes text, and has it written when it returns.

    Args:
        file: Where to; None is standard output.
        source: Descriptor of what is read meanwhile, which must not be written over.
        stack: Closes the file.

    Raises:
        UserError: The file cannot be written, now or by what is returned.
    """
    place = file or "standard output"
    try:
        exists = file is not None and Path(file).exists()
        if file and exists and source is not None and os.path.samestat(Path(file).stat(), os.fstat(source)):
            raise UserError(f"{file}: is the input, too: write to another file")
        stream: BinaryIO = sys.stdout.buffer
        if file:
            stream = stack.enter_context(Path(file).open("wb", buffering=0))  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror or error})") from error

    def write(text: str) -> None:
        try:
            # bytes of file names that are no UTF-8 are written as they were
            left = memoryview(text.encode(errors="surrogateescape"))
            while left:
                left = left[stream.write(left) :]
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(f"{place}: cannot be written ({error.strerror or error})") from error

    return write


def check_outputs(outputs: Iterable[Path | str | None], inputs: Iterable[Path | str | None], overwrite: bool) -> None:
    """Make sure that no file will be lost; what is no regular file, such as /dev/null, may be written to.

    Raises:
        UserError: an output file exists without `overwrite`, is a folder, or is also read or written twice.
    """
    taken = {Path(path).resolve() for path in inputs if path}
    for path in (Path(output) for output in outputs if output):
        if path.resolve() in taken:
            raise UserError(f"{path}: this file has another use in the same command: choose another to write to")
        taken.add(path.resolve())
        if path.is_dir():
            raise UserError(f"{path}: is a folder: give the name of a file to write")
        if path.is_file() and not overwrite:
            raise UserError(f"{path}: exists already: choose another place, or allow it with --overwrite")
