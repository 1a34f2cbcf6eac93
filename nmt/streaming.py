"""Reading lines as they come, whatever they hold, and telling the user what is odd about them.

Lines are gathered into pools, which are translated together, since sentences of like length share a batch. Of a
regular file a pool is some thousand lines. What comes through a pipe or from a terminal is translated as soon as it
pauses, so that a typed line is answered at once. Memory holds some pools, whatever the size of the input.

Only LF ends a line. CR before it is dropped, invalid UTF-8 becomes U+FFFD, and anything else stays in the line.
"""

import os
import queue
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from data.errors import UserError
from nmt.translator import Translation

POOL_LINES = 2000
POOL_BYTES = 1 << 19
_BLOCK_BYTES = 1 << 16
_QUEUED_BLOCKS = 16
_PAUSE_SECONDS = 0.05

_MESSAGES = 10  # of one kind; the rest are only counted
_JUDGED_TOKENS = 20  # fewer say nothing about the share of unknown words
_UNKNOWN_AT_ONCE, _UNKNOWN_AT_END = 0.5, 0.05


def read_pools(descriptor: int, name: str) -> Iterator[list[bytes]]:
    """Pools of lines, without their LF, from an open file: see the module.

    Raises:
        UserError: Reading fails; `name` is what the message calls the file.
    """
    try:
        blocks = read_blocks(partial(os.read, descriptor))
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        yield from gather(blocks if regular else arriving(blocks))
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error})") from error


def read_blocks(read: Callable[[int], bytes]) -> Iterator[list[bytes]]:
    """The whole lines that each `read` completes; a last line needs no LF."""
    begun: list[bytes] = []
    while block := read(_BLOCK_BYTES):
        *whole, rest = block.split(b"\n")
        if whole:
            whole[0] = b"".join([*begun, whole[0]])
            begun = []
            yield whole
        begun.append(rest)
    if last := b"".join(begun):
        yield [last]


def arriving(blocks: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    """The same blocks, read by a thread, and an empty block wherever they pause."""
    arrived: queue.Queue[list[bytes] | BaseException | None] = queue.Queue(_QUEUED_BLOCKS)

    def read() -> None:
        try:
            for block in blocks:
                arrived.put(block)
            arrived.put(None)
        except BaseException as error:  # raised where the blocks are used
            arrived.put(error)

    # A daemon, for a thread that waits for input cannot be told to stop.
    threading.Thread(target=read, daemon=True).start()
    due: float | None = None
    while True:
        try:
            block = arrived.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except queue.Empty:
            due = None
            yield []
            continue
        if block is None:
            return
        if isinstance(block, BaseException):
            raise block
        due = due or time.monotonic() + _PAUSE_SECONDS
        yield block


def gather(blocks: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """Pools of blocks: a pool ends when it is full, and at an empty block."""
    pool: list[bytes] = []
    size = 0
    for block in blocks:
        pool += block
        size += sum(map(len, block))
        if pool and (not block or len(pool) >= POOL_LINES or size >= POOL_BYTES):
            yield pool
            pool, size = [], 0
    if pool:
        yield pool


class Notes:
    """What the user is told about the lines of a stream: each kind at most ten times, and then how many more."""

    def __init__(self, warn: Callable[[str], None], *, replaces: bool = False) -> None:
        """Args: replaces: Whether unknown words are replaced, of which the user is told at the end."""
        self._warn, self._replaces = warn, replaces
        self._replaced = self._lines_replaced = 0
        self._told: Counter[str] = Counter()
        self._tokens = self._unknown = 0
        self._judged = False

    def add(self, number: int, kind: str, message: str) -> None:
        self._told[kind] += 1
        if self._told[kind] <= _MESSAGES:
            self._warn(f"line {number}: {message}")

    def count(self, number: int, translations: Sequence[Translation], longest: int) -> None:
        """Look at what became of the lines from `number` on."""
        for i, one in enumerate(translations, number):
            self._tokens += one.tokens
            self._unknown += one.unknown
            replaced = sum(hypothesis.replaced for hypothesis in one.hypotheses)
            self._replaced += replaced
            self._lines_replaced += replaced > 0
            if one.tokens > longest:
                what = f"{one.tokens:,} tokens, longer than any sentence in training ({longest:,})"
                how = f"translated in {one.pieces:,} pieces" if one.pieces > 1 else "truncated as in training"
                self.add(i, "longer than any sentence in training", f"{what}: {how}")
        if not self._judged and self._tokens >= _JUDGED_TOKENS:
            self._judged = True
            if self._unknown > _UNKNOWN_AT_ONCE * self._tokens:
                self._warn(f"so far {self._unknown_rate()}: is it in the language, script and casing of the training?")

    def finish(self) -> None:
        """Say what the whole stream adds up to."""
        for kind, times in self._told.items():
            if times > _MESSAGES:
                self._warn(f"and {times - _MESSAGES:,} more lines {kind}")
        if self._replaces:
            self._warn(
                f"unknown words replaced by words of the source: {self._replaced:,}, in the translations of "
                f"{self._lines_replaced:,} lines"
            )
        if self._unknown > _UNKNOWN_AT_END * self._tokens:
            self._warn(f"{self._unknown_rate()}: expect words to be missing or wrong in the translations")

    def _unknown_rate(self) -> str:
        share = f"{self._unknown / self._tokens:.0%} of the input's tokens"
        return f"{share} ({self._unknown:,} of {self._tokens:,}) are unknown to the model"


def decode_pools(pools: Iterable[list[bytes]], notes: Notes) -> Iterator[tuple[int, list[str]]]:
    """The lines of each pool as text, with the number of the first one, counted from 1."""
    number = 1
    for pool in pools:
        lines = []
        for i, raw in enumerate(pool, number):
            raw = raw.removesuffix(b"\r")
            if i == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # a byte order mark is no text
            try:
                lines.append(raw.decode())
            except UnicodeDecodeError as error:
                lines.append(raw.decode(errors="replace"))
                notes.add(i, "with invalid UTF-8", f"invalid UTF-8 at byte {error.start + 1}: replaced by U+FFFD")
        yield number, lines
        number += len(lines)
