"""Several processes that translate together: for a large file, on a machine with cores to spare."""

import concurrent.futures
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

import torch

from data.errors import UserError
from nmt.search_options import SearchOptions
from nmt.stepper import Precision
from nmt.translator import Translation, Translator

_PARTS = 4  # for each process: who is done early takes another
_LEAST_LINES = 32  # of a part: fewer would make small batches

_own: Translator  # of each process, set where it begins


class TranslatorPool:
    """Translates as `Translator.translate` does, in so many processes, each with the models of its own.

    Translations are the same but where they depend on what is decoded together: with a shortlist, and a
    little in int8 and bfloat16.

    To be used in a `with` statement, and not from code that runs when its module is imported.
    """

    def __init__(
        self,
        paths: Sequence[str],
        processes: int,
        *,
        precision: Precision,
        threads: int = 1,
        shortlist: str | None = None,
    ) -> None:
        """
        Args:
            paths: Model directories, of an ensemble if several.
            threads: Processor threads of each process.
            shortlist: As for `Translator.load`.
        """
        self.processes = processes
        # not forked: this process may run threads
        self._executor = concurrent.futures.ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _begin, (list(paths), precision, threads, shortlist)
        )

    def __enter__(self) -> "TranslatorPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    def translate(
        self,
        texts: Sequence[str],
        options: SearchOptions,
        *,
        prefixes: Sequence[str],
        first_line: int = 0,
        batch_tokens: int = 4096,
    ) -> list[Translation]:
        """Translate texts, in their order.

        Raises:
            UserError: as `Translator.translate`; or a process was killed.
        """
        size = max(_LEAST_LINES, -(-len(texts) // (self.processes * _PARTS)))
        try:
            waiting = [
                self._executor.submit(
                    _translate, texts[i : i + size], options, prefixes[i : i + size], first_line + i, batch_tokens
                )
                for i in range(0, len(texts), size)
            ]
            return [one for part in waiting for one in part.result()]
        except BrokenProcessPool as error:
            raise UserError(
                "a process that translated was killed, as happens where memory runs out: lower --processes or "
                "--batch-tokens"
            ) from error


def _begin(paths: list[str], precision: Precision, threads: int, shortlist: str | None) -> None:
    global _own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    torch.set_num_threads(threads)
    _own = Translator.load(paths, precision=precision, shortlist=shortlist)


def _translate(
    texts: Sequence[str], options: SearchOptions, prefixes: Sequence[str], first_line: int, batch_tokens: int
) -> list[Translation]:
    return _own.translate(texts, options, prefixes=prefixes, first_line=first_line, batch_tokens=batch_tokens)
