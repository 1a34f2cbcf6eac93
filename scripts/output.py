"""Opening what a command writes to, so that a write that fails, or writes only a part, never goes unseen."""

import contextlib
import os
import sys
from collections.abc import Callable
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


def check_free(file: str | None, overwrite: bool) -> None:
    """Raises UserError if a file is there already; what is no regular file, such as /dev/null, may be written to."""
    if file and not overwrite and Path(file).is_file():
        raise UserError(f"{file}: exists already: choose another place, or allow it with --overwrite")
