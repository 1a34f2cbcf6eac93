"""Image files as people have them, opened as plain RGB, or refused with a short reason."""

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

# A quarter of a gigabyte in RGB, and where Pillow itself begins to warn; more is refused before it is decoded.
MOST_PIXELS = 89_478_485
# What cameras, phones and the web write. EPS would run Ghostscript, and TGA takes nearly any bytes for an image.
_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_GREY_16_BITS = 65535

# Refused below instead; a warning would be printed once for a whole folder, without the name of the file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(Exception):
    """An image that cannot be used; the message is the reason in a few words, without the name of the file."""


def open_image(source: Path | Image.Image) -> Image.Image:
    """Open an image as RGB, 8 bits a channel, upright as its EXIF orientation says.

    Of an animation this is the first frame. What is transparent becomes white, 16-bit grey is scaled to 8 bits, and
    CMYK and the other colour spaces of Pillow are converted without a colour profile. A `source` that is open already
    is left as it is.

    Raises:
        ImageError: not a file, not an image, truncated, damaged, or of more than `MOST_PIXELS` pixels.
    """
    if isinstance(source, Image.Image):
        return _decode(source)
    _check_file(source)
    try:
        with Image.open(source, formats=_FORMATS) as image:
            return _decode(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image of a known format") from error
    except Exception as error:
        raise _reason(error) from error


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise ImageError("is a folder")
        if not path.exists():
            raise ImageError("no such file")
        if not path.is_file():  # opening a pipe would wait for ever
            raise ImageError("not a regular file")
        if path.stat().st_size == 0:
            raise ImageError("empty file")
    except OSError as error:
        raise _reason(error) from error


def _decode(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ImageError(f"too large: {width} x {height} pixels, more than {MOST_PIXELS / 1e6:.0f} million")
    if width * height == 0:
        raise ImageError("no pixels")
    try:
        image.load()
        return _rgb(_upright(image))
    except Exception as error:  # Pillow's decoders raise errors of a dozen unrelated kinds on damaged files
        raise _reason(error) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata; the pixels are there
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode == "La":  # Pillow converts grey with premultiplied alpha to nothing else
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deep grey as 8 bits: of 16 bits the upper half; other ranges (32 bits, fractions) stretched to fill 8 bits."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    low, high = values.min(), values.max()
    if image.mode != "F" and low >= 0 and high <= _GREY_16_BITS:
        low, high = 0, _GREY_16_BITS
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0, 1
    scaled = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(scaled.round().astype(np.uint8))


def _reason(error: Exception) -> ImageError:
    text = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(f"too large: more than {MOST_PIXELS / 1e6:.0f} million pixels")
    if isinstance(error, MemoryError):
        return ImageError("too large for the memory that is free")
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return ImageError("truncated")
    if isinstance(error, OSError) and error.strerror:
        return ImageError(f"cannot be read: {error.strerror}")
    return ImageError(f"damaged: {text[:80] or type(error).__name__}")
