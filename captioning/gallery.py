"""One page to look at: images with their captions, thumbnails included."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.outputs import Hypothesis
from nmt.page import Page, data_uri, escaped, number

if TYPE_CHECKING:
    from PIL.Image import Image

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


class Gallery(Page):
    """A page of cards: `with Gallery(path) as gallery: gallery.add(entry)`. Memory holds one."""

    def __init__(self, path: Path, *, title: str = "Captions", note: str = "", overwrite: bool = False) -> None:
        """Plan a page; arguments and errors are those of `Page`."""
        super().__init__(path, title=title, note=note, style=STYLE, overwrite=overwrite)
        self._cards = self._failed = 0
        self._scores: dict[str, list[float]] = {}

    def add(self, entry: GalleryEntry) -> None:
        """Write the next card.

        Raises:
            UserError: The page cannot be written.
        """
        self._cards += 1
        self._failed += entry.error is not None
        for name, value in entry.scores.items():
            self._scores.setdefault(name, []).append(value)
        self.write(card(entry))

    def summary(self) -> str:
        counts = [f"{self._cards:,} image{'' if self._cards == 1 else 's'}"]
        if self._failed:
            counts.append(f"{self._failed:,} without caption")
        counts += [f"mean {name} {math.fsum(values) / len(values):.3f}" for name, values in self._scores.items()]
        return " · ".join(counts)


def card(entry: GalleryEntry) -> str:
    """The HTML of one entry."""
    name = escaped(entry.name if entry.name is not None else str(entry.image))
    said = escaped(entry.caption)
    parts = [_picture(entry), "<figcaption>"]
    if entry.error is None:
        parts.append(f'<p class="caption" dir="auto">{said or "(empty caption)"}</p>')
    else:
        parts.append(f'<p class="error">Not captioned: {escaped(entry.error)}</p>')
    scores = [f"{escaped(score)} <b>{value:.3f}</b>" for score, value in entry.scores.items()]
    if len(entry.hypotheses) == 1:
        scores.insert(0, f"log-probability <b>{number(entry.hypotheses[0].log_prob)}</b>")
    if scores:
        parts.append(f'<p class="scores">{"".join(f"<span>{score}</span>" for score in scores)}</p>')
    if len(entry.hypotheses) > 1:
        rows = "".join(
            f'<tr><td>{number(one.log_prob)}</td><td dir="auto">{escaped(one.text)}</td></tr>'
            for one in entry.hypotheses
        )
        parts.append(f"<table><thead><tr><th>log-prob.</th><th>captions</th></tr></thead><tbody>{rows}</tbody></table>")
    if entry.references:
        references = "".join(f'<li dir="auto">{escaped(one)}</li>' for one in entry.references)
        parts.append(f"<h2>People wrote</h2><ul>{references}</ul>")
    parts.append(f'<p class="name"><bdi>{name}</bdi></p></figcaption>')
    return f"<figure{' class=failed' if entry.error else ''}>{''.join(parts)}</figure>\n"


def thumbnail(source: "Path | Image") -> tuple[str, int, int]:
    """A small JPEG of an image file, or an image, as a data URI, with its width and height in pixels.

    Raises:
        captioning.images.ImageError: The image cannot be read.
    """
    from captioning.images import open_image

    image = open_image(source)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return data_uri("jpeg", buffer.getvalue()), image.width, image.height


def _picture(entry: GalleryEntry) -> str:
    from captioning.images import ImageError

    reason = entry.error
    if reason is None:
        try:
            source, width, height = thumbnail(entry.image)
        except ImageError as error:  # gone since it was captioned
            reason = str(error)
        else:
            alt = escaped(entry.caption) or "image with an empty caption"
            return f'<img src="{source}" width="{width}" height="{height}" alt="{alt}" loading="lazy">'
    return '<div class="none" aria-hidden="true">no picture</div>'


STYLE = """
main, .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); gap: 1rem; }
figure { display: flex; flex-direction: column; overflow: hidden; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; break-inside: avoid; }
figure img, .none { width: 100%; height: auto; aspect-ratio: 4 / 3; object-fit: contain; background: var(--page); }
.none { display: grid; place-items: center; color: var(--soft); font-size: .85rem; }
figcaption { display: flex; flex: 1; flex-direction: column; gap: .6rem; padding: .8rem 1rem; overflow-wrap: anywhere; }
.caption { font-size: 1.1rem; font-weight: 600; line-height: 1.3; }
.error { color: var(--bad); font-weight: 600; }
.failed { border-color: var(--bad); }
figure table { align-self: start; }
figure td { padding: .15rem 0; vertical-align: top; }
figure td:first-child, figure th:first-child { padding-inline-end: .7rem; text-align: end; white-space: nowrap;
  color: var(--soft); }
figure ul { margin-top: -.4rem; padding-inline-start: 1.1rem; font-size: .85rem; }
.name { margin-top: auto; }
"""
