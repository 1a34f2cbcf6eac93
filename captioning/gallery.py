"""One page to look at: images with their captions, in a file that needs nothing else.

The page holds its thumbnails and its style, no script, and a policy that forbids it to load anything.
"""

import base64
import contextlib
import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from captioning.inputs import printable
from captioning.outputs import Hypothesis
from data.errors import UserError

# the image library is imported when the first thumbnail is made

_SIDE = 400  # most pixels of a thumbnail's side: sharp on a card of 260 points on a fine screen, 10 to 30 kB
_QUALITY = 80


@dataclass(frozen=True)
class GalleryEntry:
    """A card of the page.

    Args:
        image: File to make the thumbnail of.
        caption: What the model writes, "" if nothing.
        hypotheses: Captions with their log-probabilities, best first; one is enough to show that of the caption.
        references: What people wrote, where it is known.
        scores: By name, such as {"CIDEr": 0.93}, where they are known.
        error: Why there is no caption.
        name: What the image is called; by default its path.
    """

    image: Path
    caption: str
    hypotheses: Sequence[Hypothesis] = ()
    references: Sequence[str] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    name: str | None = None


class Gallery:
    """Writes a page card by card: `with Gallery(path) as gallery: gallery.add(entry)`.

    The file appears when the block ends well, and is left as it was otherwise. Memory holds one card.
    """

    def __init__(self, path: Path, *, title: str = "Captions", note: str = "", overwrite: bool = False) -> None:
        """Plan a page.

        Args:
            path: The file.
            title: Its heading.
            note: A line under the heading, such as the model and how it searched.
            overwrite: Whether a file that is there already may be replaced.

        Raises:
            UserError: Something is there that may not be replaced.
        """
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no file: give the gallery another name")
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists already: choose another place, or allow it with --overwrite")
        self._path = path
        self._temporary = path.with_name(f".unfinished-{path.name}")
        self._head = _HEAD.format(title=_escaped(title), note=_escaped(note), style=_STYLE)
        self._cards = self._failed = 0
        self._scores: dict[str, list[float]] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Gallery":
        with self._explained():
            self._file = self._temporary.open("wb")
        self._write(self._head)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if kind is None:
                self._write(self._foot())
                with self._explained():
                    self._file.close()
                    self._temporary.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def add(self, entry: GalleryEntry) -> None:
        """Write the next card.

        Raises:
            UserError: The page cannot be written.
        """
        self._cards += 1
        self._failed += entry.error is not None
        for name, value in entry.scores.items():
            self._scores.setdefault(name, []).append(value)
        self._write(card(entry))

    def _foot(self) -> str:
        counts = [f"{self._cards:,} image{'' if self._cards == 1 else 's'}"]
        if self._failed:
            counts.append(f"{self._failed:,} without caption")
        counts += [f"mean {name} {math.fsum(values) / len(values):.3f}" for name, values in self._scores.items()]
        return f'</main>\n<p class="summary">{_escaped(" · ".join(counts))}</p>\n</body>\n</html>\n'

    def _write(self, text: str) -> None:
        assert self._file is not None
        with self._explained():
            self._file.write(text.encode())

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written ({error.strerror or error})") from error


def card(entry: GalleryEntry) -> str:
    """The HTML of one entry."""
    name = _escaped(entry.name if entry.name is not None else str(entry.image))
    said = _escaped(entry.caption)
    parts = [_picture(entry), "<figcaption>"]
    if entry.error is None:
        parts.append(f'<p class="caption" dir="auto">{said or "(empty caption)"}</p>')
    else:
        parts.append(f'<p class="error">Not captioned: {_escaped(entry.error)}</p>')
    scores = [f"{_escaped(score)} <b>{value:.3f}</b>" for score, value in entry.scores.items()]
    if len(entry.hypotheses) == 1:
        scores.insert(0, f"log-probability <b>{_number(entry.hypotheses[0].log_prob)}</b>")
    if scores:
        parts.append(f'<p class="scores">{"".join(f"<span>{score}</span>" for score in scores)}</p>')
    if len(entry.hypotheses) > 1:
        rows = "".join(
            f'<tr><td>{_number(one.log_prob)}</td><td dir="auto">{_escaped(one.text)}</td></tr>'
            for one in entry.hypotheses
        )
        parts.append(f"<table><thead><tr><th>log-prob.</th><th>captions</th></tr></thead><tbody>{rows}</tbody></table>")
    if entry.references:
        references = "".join(f'<li dir="auto">{_escaped(one)}</li>' for one in entry.references)
        parts.append(f"<h2>People wrote</h2><ul>{references}</ul>")
    parts.append(f'<p class="name"><bdi>{name}</bdi></p></figcaption>')
    return f"<figure{' class=failed' if entry.error else ''}>{''.join(parts)}</figure>\n"


def thumbnail(path: Path) -> tuple[str, int, int]:
    """A small JPEG of an image as a data URI, with its width and height in pixels.

    Raises:
        captioning.images.ImageError: The image cannot be read.
    """
    from captioning.images import open_image

    image = open_image(path)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", image.width, image.height


def _picture(entry: GalleryEntry) -> str:
    from captioning.images import ImageError

    reason = entry.error
    if reason is None:
        try:
            source, width, height = thumbnail(entry.image)
        except ImageError as error:  # gone since it was captioned
            reason = str(error)
        else:
            alt = _escaped(entry.caption) or "image with an empty caption"
            return f'<img src="{source}" width="{width}" height="{height}" alt="{alt}" loading="lazy">'
    return '<div class="none" aria-hidden="true">no picture</div>'


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")  # a minus sign is as wide as the digits


def _escaped(text: str) -> str:
    return html.escape(printable(text))


_STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #1c1b19; --soft: #6a675f; --line: #dedbd3;
  --bad: #a3281c; }
@media (prefers-color-scheme: dark) { :root { --page: #161618; --card: #222225; --ink: #ececea; --soft: #a3a19b;
  --line: #37373b; --bad: #ff9184; } }
* { box-sizing: border-box; margin: 0; }
body { display: flex; flex-direction: column; max-width: 120rem; margin: auto;
  padding: 1.5rem clamp(.75rem, 3vw, 3rem) 3rem;
  background: var(--page); color: var(--ink); font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; }
.note, .summary, .name { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
/* known only when the last card is written, and shown above the first */
h1, .note, .summary { order: -1; }
.summary { margin-bottom: 1.25rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); gap: 1rem; }
figure { display: flex; flex-direction: column; overflow: hidden; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; break-inside: avoid; }
img, .none { width: 100%; height: auto; aspect-ratio: 4 / 3; object-fit: contain; background: var(--page); }
.none { display: grid; place-items: center; color: var(--soft); font-size: .85rem; }
figcaption { display: flex; flex: 1; flex-direction: column; gap: .6rem; padding: .8rem 1rem; overflow-wrap: anywhere; }
.caption { font-size: 1.1rem; font-weight: 600; line-height: 1.3; }
.error { color: var(--bad); font-weight: 600; }
.failed { border-color: var(--bad); }
.scores { display: flex; flex-wrap: wrap; gap: .4rem; font-size: .8rem; color: var(--soft); }
.scores span { padding: .1rem .5rem; border: 1px solid var(--line); border-radius: 1rem; }
.scores b { color: var(--ink); font-variant-numeric: tabular-nums; }
table { align-self: start; border-collapse: collapse; font-size: .85rem; }
th, h2 { color: var(--soft); font-size: .75rem; font-weight: 500; text-align: start; }
td { padding: .15rem 0; vertical-align: top; }
td:first-child, th:first-child { padding-inline-end: .7rem; text-align: end; white-space: nowrap;
  font-variant-numeric: tabular-nums; color: var(--soft); }
ul { margin-top: -.4rem; padding-inline-start: 1.1rem; font-size: .85rem; }
.name { margin-top: auto; }
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
