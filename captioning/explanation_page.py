"""Explanations of captions as a page: for each word a picture of what was attended to."""

import io
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from captioning.captioner import Captioner, ImageCaption
from captioning.gallery import thumbnail
from captioning.images import ImageError, open_image
from nmt.explanation import Explanation
from nmt.explanation_page import ExplanationPage, likeliest, written
from nmt.page import data_uri, escaped

_CELL = 16  # pixels of a place's side: browsers blur the edges of what they enlarge
_DARKEST = 0.75  # of the shade over what was not attended to


def image_page(path: Path, *, note: str, overwrite: bool) -> ExplanationPage:
    """Plan a page; see `Page`."""
    legend = "Pictures are bright where the image was read, each from its darkest to its brightest place."
    return ExplanationPage(path, unit="images", legend=legend, style=_STYLE, note=note, overwrite=overwrite)


def add_captions(
    page: ExplanationPage, captioner: Captioner, paths: Sequence[Path], done: Sequence[ImageCaption]
) -> None:
    """The cards of the images that have a caption."""
    for path, one in zip(paths, done, strict=True):
        if one.error is None and page.takes():
            try:
                explanation, image = captioner.explain(path, one), open_image(path)
            except ImageError:  # gone since it was captioned
                continue
            seen = image.crop(captioner.network.preprocessing.seen(image))
            picture, width, height = thumbnail(seen)
            show = partial(_pictures, picture, f"{width} / {height}")
            page.add(str(path), "", one.hypotheses, [explanation], show)


def _pictures(picture: str, ratio: str, explanation: Explanation) -> str:
    """The image, and a smaller picture for each step. The image itself stands in the page once."""
    assert explanation.weights is not None
    parts = ['<div><div class="seen"></div></div>']
    for step, weights in zip(explanation.steps, explanation.weights, strict=True):
        token = escaped(step.written.token)
        shade = f'<img class="seen" alt="what was read for {token}" src="{_shade(weights)}">'
        parts.append(f"<div>{shade}<p><b><bdi>{token}</bdi></b>{written(step)}</p><p>{likeliest(step)}</p></div>")
    style = f"--image:url({picture});--ratio:{ratio}"
    return f'<div class="pictures" style="{style}">{"".join(parts)}</div>'


def _shade(weights: npt.NDArray[np.floating]) -> str:
    """A black picture of a square for each place of the grid, the less transparent the less it was read."""
    side = math.isqrt(len(weights))
    read = (weights - weights.min()) / max(float(np.ptp(weights)), 1e-12)
    alpha = np.round(255 * _DARKEST * (1 - read)).astype(np.uint8).reshape(side, side)
    buffer = io.BytesIO()
    mask = Image.fromarray(alpha.repeat(_CELL, 0).repeat(_CELL, 1))
    Image.merge("LA", [Image.new("L", mask.size), mask]).save(buffer, "PNG", optimize=True)
    return data_uri("png", buffer.getvalue())


_STYLE = """
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .9rem; }
.seen { display: block; width: 100%; aspect-ratio: var(--ratio); background: var(--image) 0 0 / 100% 100%; }
.pictures p { display: flex; flex-wrap: wrap; gap: 0 .6rem; align-items: baseline; }
.pictures p + p { font-size: .75rem; }
.pictures .p { min-width: 0; font-size: .85rem; }
.pictures .c { margin: 0; }
"""
