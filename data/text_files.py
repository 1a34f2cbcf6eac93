"""Text files as lines and as JSON records, in constant memory; what cannot be read raises a `UserError`."""

import difflib
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from data.errors import UserError
from data.fields import shorten

_BLOCK_BYTES = 1 << 20


def read_lines(path: Path) -> Iterator[str]:
    """Read the lines of a UTF-8 text file, unpacked if its name ends in `.gz`, in constant memory.

    Only LF and CR LF end a line: characters such as U+0085 and U+2028 stay inside it. A byte order mark at
    the start of the file is left out.

    Raises:
        UserError: while reading, if the file is missing, a folder, empty, damaged, not UTF-8 or not readable
    """
    return chain.from_iterable(_line_blocks(path))


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with the number of its line; raises UserError as `read_lines` does."""
    place = f"{path}, line"
    for number, line in enumerate(read_lines(path), 1):
        try:
            record = json.loads(line)
            if "\\ud" in line.lower():  # half a surrogate pair is valid JSON, but no text that could be written
                json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{place} {number}: not valid JSON ({error}): {shorten(line)}. Correct or delete the line. "
                'Each line must be a JSON object; to read a file that is one JSON array, set dataset to "json".'
            ) from error
        if not isinstance(record, dict):
            raise UserError(f"{place} {number}: not a JSON object: {shorten(line)}. Give it named fields.")
        yield number, record


def fingerprint(path: Path) -> str:
    """The SHA-256 of the bytes of a file, in hexadecimal.

    Raises:
        UserError: the file is missing, is a folder or may not be read
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fail_reading(path, error)


def resolve(name: str, base: Path | None) -> Path:
    return (base or Path()) / Path(name).expanduser()


def fail_reading(path: Path, error: Exception) -> NoReturn:
    what = f"cannot be read: {error}. Check the file and the disk it is on."
    if isinstance(error, FileNotFoundError):
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        found = f"the name nearest to it there is {near[0]!r}" if near else "no name there is like it"
        what = f"no such file. It was looked for in {path.parent.absolute()}; {found}. Correct the path."
    elif isinstance(error, IsADirectoryError):
        what = "is a folder, not a file. Name the files in it."
    elif isinstance(error, PermissionError):
        what = f"no permission to read it. Allow it with: chmod u+r {path}"
    elif isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
        what = f"damaged, truncated or not gzip: {error}. Download or compress it again."
    raise UserError(f"{path}: {what}") from error


def _line_blocks(path: Path) -> Iterator[list[str]]:
    # Decoding and splitting a block at a time is several times as fast as a line at a time.
    number = 0
    try:
        with cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            while data := file.read(_BLOCK_BYTES):
                data += file.readline()
                try:
                    block = data.decode()
                except UnicodeDecodeError as error:
                    _fail_decoding(path, data, number, error)
                if number == 0:
                    block = block.removeprefix("\ufeff")
                lines = block.replace("\r\n", "\n").split("\n")
                if not lines[-1]:
                    lines.pop()
                number += len(lines)
                yield lines
    except (OSError, EOFError, zlib.error) as error:
        fail_reading(path, error)
    if number == 0:
        raise UserError(f"{path}: the file is empty. Check that it was written or downloaded completely.")


def _fail_decoding(path: Path, data: bytes, lines_before: int, error: UnicodeDecodeError) -> NoReturn:
    number = lines_before + data.count(b"\n", 0, error.start) + 1
    offset = error.start - (data.rfind(b"\n", 0, error.start) + 1)
    encoding = "UTF-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "WINDOWS-1252"
    hint = f"If the file is in another encoding, convert it: iconv -f {encoding} -t UTF-8 {path} > NEW_FILE"
    if data.startswith(b"\x1f\x8b"):
        hint = "The file is compressed with gzip: rename it to end in .gz"
    raise UserError(
        f"{path}, line {number}: not valid UTF-8: byte 0x{data[error.start]:02x} at byte {offset} of the "
        f"line, counted from 0. {hint}."
    ) from error
