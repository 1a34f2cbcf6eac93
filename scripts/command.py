"""What every command shares: options from typed dataclasses, short error messages, exit codes."""

import argparse
import ctypes
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import jsonargparse

from data.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from nmt.trainer import TrainingResult

# Before torch is imported: its threads then sleep instead of spinning while they wait for each other. Beside another
# busy process, spinning made training of the demo model 50 times slower; on an idle machine sleeping cost between
# nothing and a quarter of the speed (docs/results.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's names in malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free for the next ones, up to 1 GiB; where it is not glibc nothing is done.

    By itself it gives large tensors back to the system at once, which then has to clear each page for the next one.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the largest that it accepts
        library.mallopt(_TRIM_THRESHOLD, 2**30)
    except (AttributeError, OSError, TypeError):
        return


class Parser(jsonargparse.ArgumentParser):
    """jsonargparse, with one line for an error instead of the whole usage, and the nearest match for a wrong key."""

    def __init__(self, name: str, description: str, example: str, defaults: Sequence[str] = ()) -> None:
        """Args: defaults: YAML files whose values stand where the command line gives none."""
        usage = f"{example} [--section.key value ...]"
        super().__init__(prog=name, description=description, usage=usage, default_config_files=list(defaults))
        self.add_argument("--config", action="config", help="Read options from a YAML file.")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        first = re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", " ".join(str(message).split()))
        wrong = re.search(r"unrecognized arguments: -*([^\s=]+)|does not accept option '([^']+)'", first)
        hint = ""
        if wrong:
            group = re.search(r"Group '([^']+)'", first)
            key = wrong.group(1) or f"{group.group(1)}.{wrong.group(2)}" if group else wrong.group(1) or wrong.group(2)
            known = [option.removeprefix("--") for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f" Did you mean --{near[0]}?" if near else ""
        print(f"{self.prog}: error: {first}.{hint} See {self.prog} --help.", file=sys.stderr)
        raise SystemExit(2)

    def read(self, arguments: list[str] | None = None) -> Any:
        """Parse and build the dataclasses; a value that a dataclass refuses is an error like any other."""
        parsed = self.parse_args(arguments)
        try:
            return self.instantiate(parsed)
        except ValueError as error:
            return self.error(str(error))


class Help(jsonargparse.DefaultHelpFormatter):
    """Keeps the description's paragraphs, and names a default only where there is one to name."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(super(Help, self)._fill_text(paragraph, width, indent) for paragraph in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str:
        named = action.default not in (None, "", False, argparse.SUPPRESS)
        return f"{action.help} (default: {action.default})" if named else action.help or ""


def say_trained(result: "TrainingResult", console: "Console") -> int:
    """Tell how a training ended; returns the exit code."""
    if result.model is None:
        text, code = f"Training {result.reason}: go on with --resume", 130
    else:
        text, code = f"Training {result.reason}. The best model is in {result.model}", 0
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    return code


def run(name: str, main: Callable[[], int | None]) -> NoReturn:
    """Run a command: what a user can cause is one line on standard error and exit code 1."""
    keep_freed_memory()
    try:
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # whoever read our output has seen enough; Python would complain once more while it closes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise SystemExit(code)
