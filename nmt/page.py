"""A page to look at, in one HTML file that opens anywhere: it holds its pictures and its style, and no script.

Its policy forbids it to load anything.
"""

import base64
import contextlib
import html
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

from data.errors import UserError

P = TypeVar("P", bound="Page")  # not typing.Self: see nmt/search.py


class Page:
    """Writes a page part by part: `with Page(path, title="...") as page: page.write(html)`.

    The file appears when the block ends well, and is left as it was otherwise. Memory holds one part.
    """

    def __init__(self, path: Path, *, title: str, note: str = "", style: str = "", overwrite: bool = False) -> None:
        """Plan a page.

        Args:
            path: The file.
            title: Its heading.
            note: A line under the heading, such as the model and how it searched.
            style: CSS of what is written, beside that of every page.
            overwrite: Whether a file that is there already may be replaced.

        Raises:
            UserError: Something is there that may not be replaced.
        """
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no file: give the page another name")
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists already: choose another place, or allow it with --overwrite")
        self._path = path
        self._temporary = path.with_name(f".unfinished-{path.name}")
        self._head = _HEAD.format(title=escaped(title), note=escaped(note), style=_STYLE + style)
        self._file: BinaryIO | None = None

    def __enter__(self: P) -> P:
        with self._explained():
            self._file = self._temporary.open("wb")
        self.write(self._head)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if kind is None:
                self.write(_FOOT.format(summary=escaped(self.summary())))
                with self._explained():
                    self._file.close()
                    self._temporary.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def summary(self) -> str:
        """A line that is known only when all is written, and shown above it."""
        return ""

    def write(self, text: str) -> None:
        """Write the next part; raises UserError if that fails."""
        assert self._file is not None
        with self._explained():
            self._file.write(text.encode())

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written ({error.strerror or error})") from error


def data_uri(kind: str, data: bytes) -> str:
    """A picture as an address that holds it; `kind` is such as jpeg or png."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts; all columns but the first are aligned as numbers."""
    heads = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def chips(facts: Mapping[str, str]) -> str:
    """Named values in a row."""
    spans = "".join(f"<span>{escaped(name)} <b>{escaped(value)}</b></span>" for name, value in facts.items())
    return f'<p class="scores">{spans}</p>'


def number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")  # a minus sign is as wide as the digits


def escaped(text: str) -> str:
    """Text as HTML that shows it, in an attribute too."""
    return html.escape(printable(text))


def printable(name: str) -> str:
    r"""A name on one line, for people to read: control characters as \n or \x1b, bytes that are no UTF-8 as \xff."""
    return "".join(map(_printable_character, name))


def _printable_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    hidden = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape").decode() if hidden else character


_STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #1c1b19; --soft: #6a675f; --line: #dedbd3;
  --bad: #a3281c; --heat: #f2a03d; }
@media (prefers-color-scheme: dark) { :root { --page: #161618; --card: #222225; --ink: #ececea; --soft: #a3a19b;
  --line: #37373b; --bad: #ff9184; --heat: #a8560c; } }
* { box-sizing: border-box; margin: 0; }
body { display: flex; flex-direction: column; max-width: 120rem; margin: auto;
  padding: 1.5rem clamp(.75rem, 3vw, 3rem) 3rem;
  background: var(--page); color: var(--ink); font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; }
h2 { color: var(--soft); font-size: .75rem; font-weight: 500; text-align: start; }
.note, .summary, .name { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
/* known only when the last part is written, and shown above the first */
h1, .note, .summary { order: -1; }
.summary { margin-bottom: 1.25rem; }
.scores { display: flex; flex-wrap: wrap; gap: .4rem; font-size: .8rem; color: var(--soft); }
.scores span { padding: .1rem .5rem; border: 1px solid var(--line); border-radius: 1rem; }
.scores b { color: var(--ink); font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-size: .75rem; font-weight: 500; text-align: start; }
.figures td, .figures th { padding: .15rem 1.2rem .15rem 0; text-align: end; vertical-align: baseline; }
.figures td:first-child, .figures th:first-child, .figures td:nth-child(3):last-child,
.figures th:nth-child(3):last-child { text-align: start; }
.figures td:nth-child(3):last-child { color: var(--soft); }
.figures tbody tr { border-top: 1px solid var(--line); }
.scroll { overflow-x: auto; }
section { display: grid; grid-template-columns: minmax(0, 1fr); gap: .5rem; padding: .9rem 1.1rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow-wrap: anywhere; }
"""
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="note">{note}</p>
<main>
"""
_FOOT = """</main>
<p class="summary">{summary}</p>
</body>
</html>
"""
