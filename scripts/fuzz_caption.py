"""Experiment: does `caption` caption every good image in a folder, and report every bad one, whatever lies in it?"""

import io
import json
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.command import Parser, run

if TYPE_CHECKING:
    from PIL.Image import Image

# whether a file must be captioned (True), must be reported (False), or either will do (None)
Expected = bool | None


def fuzz() -> int:
    from jsonargparse.typing import PositiveInt

    parser = Parser(
        "fuzz_caption.py",
        "Put files of every kind among good images, caption the folder, and look at what became of each.",
        "fuzz_caption.py --model DIR",
    )
    parser.add_argument("--model", type=Path, required=True, help="Model directory.")
    parser.add_argument("--hostile", type=PositiveInt, default=200, help="How many odd files.")
    parser.add_argument("--good", type=PositiveInt, default=100, help="How many ordinary images among them.")
    parser.add_argument("--seed", type=int, default=1, help="Decides the files.")
    options = parser.read()

    with tempfile.TemporaryDirectory() as folder:
        draw = random.Random(options.seed)
        expected = make_files(Path(folder) / "images", draw, options.hostile, options.good)
        command = [sys.executable, str(Path(__file__).with_name("caption.py")), "--model", str(options.model)]
        page = Path(folder) / "gallery.html"
        more = ["--jsonl", "--beam", "1", "--gallery", str(page), str(Path(folder) / "images")]
        done = subprocess.run([*command, *more], capture_output=True, check=False)
        entries = [json.loads(line) for line in done.stdout.decode().splitlines()]
        cards = page.read_text().count("<figure") if page.exists() else 0

    problems = judge(expected, entries, done.stderr.decode(errors="replace"))
    crashed = done.returncode != 1 or b"Traceback" in done.stderr or cards != len(entries)
    captioned = sum(entry["error"] is None for entry in entries)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # kilobytes on Linux
    print(
        f"{len(expected):,} files: {captioned:,} captioned, {len(entries) - captioned:,} reported, "
        f"{len(problems):,} not as they should be; {cards:,} cards, at most {peak:.1f} GiB, "
        f"exit code {done.returncode}, {'' if crashed else 'no '}crash"
    )
    for problem in problems:
        print(problem)
    if crashed:
        print(done.stderr.decode(errors="replace")[-4000:], file=sys.stderr)
    return int(crashed or bool(problems))


def judge(expected: dict[str, Expected], entries: list[dict[str, Any]], messages: str) -> list[str]:
    """What is not as it should be, a line for each."""
    names = [entry["image"] for entry in entries]
    problems = [f"{name!r}: is not in the output" for name in expected if name not in names]
    problems += [
        f"{name!r}: is in the output {names.count(name)} times" for name in set(names) if names.count(name) > 1
    ]
    problems += [f"{name!r}: is not one of the files" for name in names if name not in expected]
    for entry in entries:
        wanted, error = expected.get(entry["image"]), entry["error"]
        if wanted is True and not entry["caption"]:
            problems.append(f"{entry['image']!r}: is a good image, but: {error}")
        if wanted is False and error is None:
            problems.append(f"{entry['image']!r}: is no image, but was captioned: {entry['caption']}")
    reported = sum(line.startswith("caption: ") for line in messages.splitlines())
    failed = sum(entry["error"] is not None for entry in entries)
    if reported != failed:
        problems.append(f"{failed} images failed, but {reported} lines say so")
    return problems


def make_files(folder: Path, draw: random.Random, hostile: int, good: int) -> dict[str, Expected]:
    """Fill a folder; gives the name of each file as the command will call it, and what must become of it."""
    expected: dict[str, Expected] = {}
    kinds = list(_CONTENTS.items())
    for i in range(hostile):
        kind, (make, wanted) = kinds[i % len(kinds)]
        path = folder / draw.choice(["", "b", "ä/c"]) / f"{i:03} {kind}{draw.choice(['.jpg', '.PNG', '.webp', '.gif'])}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make(draw))
        expected[str(path)] = wanted
    for i in range(good):
        name = os.fsdecode(draw.choice(_NAMES) % i) + ".jpg"
        (folder / name).write_bytes(_encode(_picture(draw)))
        expected[str(folder / name)] = True
    return expected | _odd_entries(folder, draw)


def _odd_entries(folder: Path, draw: random.Random) -> dict[str, Expected]:
    """What a folder may hold besides files with contents."""
    good = _encode(_picture(draw))
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(good)
    (folder / "empty folder.png").mkdir()
    (folder / "folder.jpg" / "up").symlink_to(folder)
    (folder / "notes.txt").write_text("no image, and not called one")
    (folder / ".hidden.jpg").write_bytes(b"no image, and hidden")
    (folder / "link.jpg").symlink_to(folder / "folder.jpg" / "inside.jpg")
    (folder / "broken link.jpg").symlink_to("nowhere")
    (folder / "link to itself.jpg").symlink_to("link to itself.jpg")
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the address of a socket must be short
        listener.bind("socket.jpg")
        os.chdir(here)
    forbidden = folder / "forbidden.jpg"
    forbidden.write_bytes(good)
    forbidden.chmod(0)
    entries: dict[str, Expected] = {"folder.jpg/inside.jpg": True, "link.jpg": True}
    entries |= dict.fromkeys(["broken link.jpg", "link to itself.jpg", "pipe.jpg", "socket.jpg"], False)
    entries["forbidden.jpg"] = os.access(forbidden, os.R_OK)  # root may read everything
    return {str(folder / name): wanted for name, wanted in entries.items()}


# as bytes, with a place for a number: names that commands trip over
_NAMES = [
    b"IMG_%04d", b"%d two  spaces ", b"-%d", b"--json=%d", b"%d\nline\r\nends", b"%d\ttab", b"%d\x1b[31mred\x07",
    b"%d\xff\xfe not UTF-8", "%d Ünï 日本 \U0001f415".encode(), b"%d 'single' \"double\" `back`", b"%d,comma;semicolon",
    b"%d<script>alert(1)</script>".replace(b"/", b"\\"), b"%d [a-z]*?", b"%d {x: null}", b"%d $HOME %%s \\n", b"%0200d",
    "%d \u2028\u202e\u200b".encode(), b"%d.jpg.png",
]  # fmt: skip


def _picture(draw: random.Random, mode: str = "RGB", size: tuple[int, int] | None = None) -> "Image":
    """Blurred noise, which compresses as badly as a photo."""
    from PIL import Image

    size = size or (draw.randrange(40, 500), draw.randrange(40, 400))
    noise = Image.frombytes("RGB", (16, 12), draw.randbytes(16 * 12 * 3))
    return noise.resize(size, Image.Resampling.BICUBIC).convert(mode)


def _encode(image: "Image", kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: int(len(data) * draw.uniform(0.1, 0.9))]


def _damaged(data: bytes, draw: random.Random) -> bytes:
    """Some bytes replaced: what is left may be an image or not."""
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 30)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, pixels: bytes = b"", before: bytes = b"") -> bytes:
    """A grey PNG of any size that is claimed, with so many pixels as are given."""
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = _png_chunk(b"IDAT", zlib.compress(pixels, 9))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + _png_chunk(b"IEND", b"")


def _frames(draw: random.Random) -> dict[str, Any]:
    return {"save_all": True, "append_images": [_picture(draw, size=(64, 48)) for _ in range(3)], "duration": 50}


def _rotated(draw: random.Random) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = draw.randrange(1, 9)  # orientation
    return _encode(_picture(draw), exif=exif)


def _sixteen_bits(draw: random.Random) -> bytes:
    from PIL import Image

    return _encode(Image.frombytes("I;16", (60, 40), draw.randbytes(60 * 40 * 2)), "PNG")


def _transparent_palette(draw: random.Random) -> bytes:
    return _encode(_picture(draw, "P"), "PNG", transparency=0)


Make = Callable[[random.Random], bytes]
_CONTENTS: dict[str, tuple[Make, Expected]] = {
    # odd, but images
    "animated": (lambda draw: _encode(_picture(draw, size=(64, 48)), "GIF", **_frames(draw)), True),
    "animated webp": (lambda draw: _encode(_picture(draw, size=(64, 48)), "WEBP", **_frames(draw)), True),
    "animated png": (lambda draw: _encode(_picture(draw, size=(64, 48)), "PNG", **_frames(draw)), True),
    "cmyk": (lambda draw: _encode(_picture(draw, "CMYK")), True),
    "grey": (lambda draw: _encode(_picture(draw, "L")), True),
    "one bit": (lambda draw: _encode(_picture(draw, "1"), "PNG"), True),
    "16 bits": (_sixteen_bits, True),
    "float": (lambda draw: _encode(_picture(draw, "F"), "TIFF"), True),
    "alpha": (lambda draw: _encode(_picture(draw, "RGBA"), "PNG"), True),
    "grey alpha": (lambda draw: _encode(_picture(draw, "LA"), "PNG"), True),
    "palette": (lambda draw: _encode(_picture(draw, "P"), "PNG"), True),
    "palette alpha": (_transparent_palette, True),
    "rotated": (_rotated, True),
    "damaged exif": (lambda draw: _encode(_picture(draw), exif=b"Exif\0\0MM\0*" + draw.randbytes(40)), True),
    "damaged profile": (lambda draw: _encode(_picture(draw), icc_profile=draw.randbytes(200)), True),
    "progressive": (lambda draw: _encode(_picture(draw), progressive=True), True),
    "bmp": (lambda draw: _encode(_picture(draw), "BMP"), True),
    "ppm": (lambda draw: _encode(_picture(draw), "PPM"), True),
    "one pixel": (lambda draw: _encode(_picture(draw, size=(1, 1))), True),
    "long": (lambda draw: _encode(_picture(draw, size=(8000, 1)), "PNG"), True),
    "high": (lambda draw: _encode(_picture(draw, size=(2, 9000)), "PNG"), True),
    "large": (lambda draw: _encode(_picture(draw, size=(6000, 4000))), True),
    # not images
    "empty": (lambda draw: b"", False),
    "text": (lambda draw: b"a dog runs on the beach\n", False),
    "html": (lambda draw: b"<!DOCTYPE html><title>404</title><h1>Not found</h1>", False),
    "svg": (lambda draw: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', False),
    "pdf": (lambda draw: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>endobj", False),
    "postscript": (lambda draw: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", False),
    "zip": (lambda draw: b"PK\x03\x04\x14\0\0\0\x08\0" + draw.randbytes(300), False),
    "zeros": (lambda draw: bytes(5000), False),
    "noise": (lambda draw: b"\x01" + draw.randbytes(5000), False),
    "only the magic": (lambda draw: draw.choice([b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]), False),
    "truncated jpeg": (lambda draw: _cut(_encode(_picture(draw)), draw), False),
    "truncated png": (lambda draw: _cut(_encode(_picture(draw), "PNG"), draw), False),
    "truncated webp": (lambda draw: _cut(_encode(_picture(draw), "WEBP"), draw), False),
    "truncated bmp": (lambda draw: _cut(_encode(_picture(draw), "BMP"), draw), False),
    "bomb": (lambda draw: _png(100_000, 100_000, bytes(1_000_000)), False),
    "real bomb": (lambda draw: _png(12_000, 12_000, bytes(12_001 * 12_000)), False),
    "largest": (lambda draw: _png(2**31 - 1, 2**31 - 1, bytes(1000)), False),
    "no width": (lambda draw: _png(0, 10, bytes(10)), False),
    "ppm bomb": (lambda draw: b"P6 99999 99999 255\n" + bytes(100), False),
    "gif bomb": (
        lambda draw: b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        False,
    ),
    # what is left of them may be an image
    "text bomb": (lambda draw: _png(1, 1, bytes(2), _png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**27)))), None),
    "damaged jpeg": (lambda draw: _damaged(_encode(_picture(draw)), draw), None),
    "damaged png": (lambda draw: _damaged(_encode(_picture(draw), "PNG"), draw), None),
    "damaged gif": (lambda draw: _damaged(_encode(_picture(draw), "GIF"), draw), None),
    "damaged webp": (lambda draw: _damaged(_encode(_picture(draw), "WEBP"), draw), None),
    "damaged tiff": (lambda draw: _damaged(_encode(_picture(draw), "TIFF"), draw), None),
    "two images": (lambda draw: _encode(_picture(draw)) + _encode(_picture(draw), "PNG"), None),
}


if __name__ == "__main__":
    run("fuzz_caption.py", fuzz)
