import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning import images
from captioning.images import MOST_PIXELS, ImageError, open_image

RED = (255, 0, 0)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((64, 48), Image.Resampling.BICUBIC)


JPEG = encoded(photo(), "JPEG")


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "image"
    path.write_bytes(data)
    return path


def reason(source: Path | Image.Image) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return str(caught.value)


def colour(path: Path, place: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = open_image(path)
    assert image.mode == "RGB"
    return image.getpixel(place)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"])
def test_every_common_kind_is_read_whatever_its_name(tmp_path, kind):
    image = open_image(saved(tmp_path, encoded(Image.new("RGB", (32, 32), RED), kind)))
    assert (image.mode, image.size) == ("RGB", (32, 32))
    assert np.abs(np.asarray(image).astype(int) - RED).max() <= 3


@pytest.mark.parametrize(
    ("mode", "fill", "kind", "seen"),
    [
        ("L", 100, "PNG", (100, 100, 100)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("P", 0, "PNG", (0, 0, 0)),
        ("RGBA", (255, 0, 0, 255), "PNG", RED),
        ("RGBA", (255, 0, 0, 0), "PNG", (255, 255, 255)),
        ("RGBA", (255, 0, 0, 128), "PNG", (255, 127, 127)),
        ("LA", (0, 0), "PNG", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "TIFF", RED),
        ("YCbCr", (255, 128, 128), "TIFF", (255, 255, 255)),
        ("I;16", 65535, "PNG", (255, 255, 255)),
        ("I;16", 25700, "PNG", (100, 100, 100)),
        ("I;16", 25700, "TIFF", (100, 100, 100)),
        ("I", 25700, "TIFF", (100, 100, 100)),
        ("F", 0.2, "TIFF", (51, 51, 51)),
    ],
)
def test_colours_of_every_mode(tmp_path, mode, fill, kind, seen):
    path = saved(tmp_path, encoded(Image.new(mode, (4, 4), fill), kind))
    assert np.abs(np.subtract(colour(path), seen)).max() <= 1


def test_cmyk_jpeg(tmp_path):
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(np.subtract(colour(saved(tmp_path, data)), RED)).max() <= 3


def test_negative_and_endless_values_are_stretched():
    values = np.array([[-np.inf, -2.0, 6.0, np.nan]], dtype=np.float32)
    values[0, 0] = -2
    assert open_image(Image.fromarray(values)).getpixel((2, 0)) == (255, 255, 255)
    assert open_image(Image.fromarray(np.full((2, 2), -7, dtype=np.int32))).getpixel((0, 0)) == (0, 0, 0)


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert colour(saved(tmp_path, encoded(image, "PNG"))) == RED
    assert colour(saved(tmp_path, encoded(image, "PNG", transparency=1))) == (255, 255, 255)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in (RED, (0, 255, 0), (0, 0, 255))]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert colour(saved(tmp_path, data)) == RED


def test_upright_as_exif_says(tmp_path):
    image = Image.new("RGB", (32, 16))
    image.paste(RED, (0, 0, 16, 16))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the top of the scene is on the left
    found = open_image(saved(tmp_path, encoded(image, "JPEG", exif=exif, quality=100)))
    assert found.size == (16, 32)
    assert found.getpixel((8, 4))[0] > 250
    assert found.getpixel((8, 28))[0] < 5


def test_damaged_metadata_does_not_hide_the_pixels(tmp_path):
    # an orientation whose value is said to lie far outside the file
    block = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x05\0\xff\xff\0\0\xff\xff\xff\x7f"
    data = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + JPEG[2:]
    assert open_image(saved(tmp_path, data)).size == (64, 48)


def test_what_is_no_image(tmp_path):
    assert reason(tmp_path) == "is a folder"
    assert reason(tmp_path / "nothing") == "no such file"
    assert reason(Path("a\0b")) == "no such file"
    assert reason(saved(tmp_path, b"")) == "empty file"
    assert reason(saved(tmp_path, b"%PDF-1.4 is no image")) == "not an image of a known format"
    assert (
        reason(saved(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"))
        == "not an image of a known format"
    )
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert reason(tmp_path / "pipe") == "not a regular file"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path, JPEG)
    monkeypatch.setattr(images.Image, "open", refuse)
    assert reason(path) == "cannot be read: Permission denied"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM"])
def test_truncated(tmp_path, kind):
    data = encoded(photo(), kind)
    assert reason(saved(tmp_path, data[: len(data) * 2 // 3])) == "truncated"


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    def png(width: int, height: int) -> bytes:
        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(bytes(100_000))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")

    for side in (9_460, 20_000, 2**31 - 1):
        assert side * side > MOST_PIXELS
        assert reason(saved(tmp_path, png(side, side))).startswith("too large: ")
    # a text that unpacks to more than it may
    text = b"\x89PNG\r\n\x1a\n" + png(8, 8)[8:33]
    packed = b"note\0\0" + zlib.compress(bytes(100_000_000))
    text += struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    assert reason(saved(tmp_path, text + png(8, 8)[33:]))


def test_an_open_image_is_left_as_it_is():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_image(image).getpixel((0, 0)) == (255, 255, 255)
    assert (image.mode, image.getpixel((0, 0))) == ("RGBA", (255, 0, 0, 0))
    assert reason(Image.new("RGB", (0, 4))) == "no pixels"


FILES = {kind: encoded(photo(), kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "ICO")}


@given(
    kind=st.sampled_from(["JPEG"] * 4 + sorted(FILES)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=8)), max_size=6),
    length=st.floats(0, 1),
)
def test_mangled_bytes_give_an_image_or_a_reason(tmp_path_factory, kind, changes, length):
    data = bytearray(FILES[kind])
    for place, new in changes:
        start = int(place * len(data))
        data[start : start + len(new)] = new
    path = saved(tmp_path_factory.getbasetemp(), bytes(data[: max(1, round(length * len(data)))]))
    try:
        image = open_image(path)
    except ImageError as error:
        assert 0 < len(str(error)) < 120
    else:
        assert image.mode == "RGB"


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_give_a_reason(tmp_path_factory, data):
    assert reason(saved(tmp_path_factory.getbasetemp(), data))
