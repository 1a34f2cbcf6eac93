"""Which images a command was given: files, folders, patterns and lists, as images in a definite order.

Whatever names a file in Python is text that the file system's bytes were decoded to; bytes that are no UTF-8 stand in
it as halves of surrogate pairs (PEP 383), so every name can be given back as it was.
"""

import glob
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# of files in folders; those that the image library cannot read are named in the result, instead of being left out
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
     ".avif", ".heic", ".heif", ".jp2"]
)  # fmt: skip
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ImageInput:
    """An image to caption, or what was given in place of one.

    Args:
        name: What it is called in the output: as it was given, or the folder as it was given and the way from there.
        path: Where it is.
        inside: The way to it from the folder that was given; of a file that was given, its own name.
        error: Why there is no image to be read, in a few words.
    """

    name: str
    path: Path
    inside: Path
    error: str | None = None


def expand(given: str) -> Iterator[ImageInput]:
    """The images that a path stands for, and never nothing.

    - A file is itself, whatever its name.
    - A folder is the images in it and in the folders in it, by suffix, each folder in the order of its names. Hidden
      files and folders, which begin with a dot, are left out. A link back to a folder around it is not followed.
    - What is neither may be a pattern with *, **, ? or [...]: it is what a shell makes of it, in sorted order.
    - Anything else is one input with an error, as are a folder that cannot be read and one without images.
    """
    try:
        status = os.stat(given)  # noqa: PTH116 - of an empty path, pathlib makes the current folder
    except (OSError, ValueError) as error:
        matches = _matches(given)
        for match in matches:
            yield from expand(match)
        if not matches:
            yield _broken(given, Path(Path(given).name), "no file matches" if _is_pattern(given) else _reason(error))
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _walk(given)
    else:
        yield _file(given, Path(Path(given).name), status)


def pools(paths: Sequence[str], lines: Iterable[Sequence[bytes]]) -> Iterator[Iterator[ImageInput]]:
    """The images of all paths, in order, in groups: what is in a group is there without waiting for more.

    Args:
        paths: "-" is a list of paths, one a line.
        lines: The lines of that list, without their line feeds, in blocks as they arrive. They are read once.
    """
    names = listed(lines)
    for is_list, group in itertools.groupby(paths, "-".__eq__):
        for given in names if is_list else [list(group)]:
            yield itertools.chain.from_iterable(map(expand, given))


def listed(blocks: Iterable[Sequence[bytes]]) -> Iterator[list[str]]:
    """The paths in blocks of lines; blank lines, a carriage return at the end and a byte order mark are none."""
    first = True
    for lines in blocks:
        names = []
        for line in lines:
            line = line.removeprefix(_BYTE_ORDER_MARK) if first else line
            first = False
            if line.strip():
                names.append(os.fsdecode(line.removesuffix(b"\r")))
        yield names


def batches(groups: Iterable[Iterator[ImageInput]], size: int) -> Iterator[list[ImageInput]]:
    """At most `size` images at a time; none waits for a group after its own."""
    for group in groups:
        while batch := list(itertools.islice(group, size)):
            yield batch


def _walk(folder: str) -> Iterator[ImageInput]:
    """The images in a folder; with a stack of its own, since folders may be nested deeper than calls."""
    found = False
    waiting: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(Path(), ())]
    while waiting:
        inside, around = waiting.pop()
        path = Path(folder) / inside
        name = os.path.join(folder, inside) if inside.parts else folder  # noqa: PTH118 - a path would lose "./"
        is_image = inside.suffix.lower() in SUFFIXES
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                this = (status.st_dev, status.st_ino)
                names = sorted(one.name for one in path.iterdir()) if this not in around else []
                waiting += ((inside / one, (*around, this)) for one in reversed(names) if not one.startswith("."))
            elif is_image:
                found = True
                yield _file(name, inside, status)
        except OSError as error:
            if is_image or not path.is_symlink():  # links to nothing matter where they would be images
                found = True
                yield _broken(name, inside, _reason(error))
    if not found:
        yield _broken(folder, Path(), "no images in this folder")


def _file(name: str, inside: Path, status: os.stat_result) -> ImageInput:
    if stat.S_ISREG(status.st_mode):
        return ImageInput(name, Path(name), inside)
    return _broken(name, inside, "not a file, but a pipe, a socket or a device")  # reading it might never end


def _broken(name: str, inside: Path, reason: str) -> ImageInput:
    return ImageInput(name, Path(name), inside, reason)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return "not the name of a file"  # it holds a null character


def _is_pattern(given: str) -> bool:
    return glob.escape(given) != given


def _matches(given: str) -> list[str]:
    """What a pattern matches, in sorted order; of ** only files, since those in its folders are among them."""
    if not _is_pattern(given) or "\0" in given or os.path.lexists(given):
        return []
    found = sorted(glob.glob(given, recursive=True))  # noqa: PTH207
    return [match for match in found if "**" not in given or not Path(match).is_dir()]
