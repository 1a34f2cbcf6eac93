import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.inputs import ImageInput
from captioning.outputs import (
    Captioned,
    TextFiles,
    caption_batches,
    csv_rows,
    json_array,
    json_lines,
    text_lines,
)
from data.errors import UserError


@dataclass(frozen=True)
class StubHypothesis:
    text: str
    log_prob: float
    score: float


@dataclass(frozen=True)
class StubResult:
    hypotheses: list[StubHypothesis] = field(default_factory=list)
    error: str | None = None


def image(name: str, error: str | None = None) -> ImageInput:
    return ImageInput(name, Path(name), Path(Path(name).name), error)


def hypotheses(*texts: str) -> list[StubHypothesis]:
    return [StubHypothesis(text, -float(rank), -rank / 4) for rank, text in enumerate(texts, 1)]


GOOD = Captioned(image("a.jpg"), hypotheses("a dog runs .", "a dog ."))
BAD = Captioned(image("b.jpg"), [], "truncated")
BATCHES = [[GOOD, BAD], [], [GOOD]]

NAME = st.binary(min_size=1, max_size=30).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
CAPTION = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]))  # a caption is one line
# of each image its name, its captions, and why there are none
IMAGE = st.tuples(NAME, st.lists(CAPTION, max_size=3), st.text(min_size=1))
ANY_BATCHES = st.lists(st.lists(IMAGE, max_size=3), max_size=3)


def built(batches: list[list[tuple[str, list[str], str]]]) -> list[list[Captioned]]:
    return [
        [Captioned(image(name), hypotheses(*texts), None if texts else error) for name, texts, error in batch]
        for batch in batches
    ]


def encoded(text: str) -> str:
    """What a reader that knows nothing of file names gets."""
    return text.encode(errors="surrogateescape").decode(errors="surrogateescape")


def flat(batches: Sequence[Sequence[Captioned]]) -> list[Captioned]:
    return [one for batch in batches for one in batch]


def test_text_is_name_tab_caption() -> None:
    assert list(text_lines(BATCHES)) == ["a.jpg\ta dog runs .\nb.jpg\t\n", "", "a.jpg\ta dog runs .\n"]
    rows = "".join(text_lines(BATCHES, 2)).splitlines()
    assert rows[:3] == [
        "a.jpg\t1\t-0.2500\t-1.0000\ta dog runs .",
        "a.jpg\t2\t-0.5000\t-2.0000\ta dog .",
        "b.jpg\t1\t\t\t",
    ]


@settings(max_examples=60)
@given(ANY_BATCHES)
def test_text_has_a_line_for_every_image_whatever_its_name(drawn: list[list[tuple[str, list[str], str]]]) -> None:
    batches = built(drawn)
    lines = encoded("".join(text_lines(batches))).split("\n")
    assert lines.pop() == ""
    rows = [line.split("\t") for line in lines]
    assert [row[1:] for row in rows] == [[one.caption or ""] for one in flat(batches)]
    unescaped = [
        # undone from the left, as a reader would
        "".join({"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}.get(part, part) for part in parts(row[0]))
        for row in rows
    ]
    assert unescaped == [one.image.name for one in flat(batches)]


def parts(text: str) -> list[str]:
    found = []
    while text:
        length = 2 if text[0] == "\\" else 1
        found.append(text[:length])
        text = text[length:]
    return found


def expected(one: Captioned) -> dict[str, object]:
    return {
        "image": one.image.name,
        "caption": one.caption,
        "captions": [{"text": h.text, "log_prob": h.log_prob, "score": h.score} for h in one.hypotheses],
        "error": one.error,
    }


@settings(max_examples=60)
@given(ANY_BATCHES)
def test_json_gives_back_any_name(drawn: list[list[tuple[str, list[str], str]]]) -> None:
    batches = built(drawn)
    records = [expected(one) for one in flat(batches)]
    array = "".join(json_array(batches))
    array.encode()  # valid UTF-8, whatever the names
    assert json.loads(array) == records
    rows = "".join(json_lines(batches))
    rows.encode()
    assert [json.loads(row) for row in rows.splitlines()] == records


def test_json_of_what_could_not_be_read() -> None:
    assert "".join(json_lines([[BAD]])) == '{"image": "b.jpg", "caption": null, "captions": [], "error": "truncated"}\n'
    assert "".join(json_array([])) == "[]\n"


def test_non_ascii_text_stays_readable() -> None:
    row = "".join(json_lines([[Captioned(image(os.fsdecode(b"\xc3\xa4\xff.jpg")), hypotheses("ein Mädchen"))]]))
    assert '"image": "ä\\udcff.jpg"' in row and "Mädchen" in row
    assert os.fsencode(json.loads(row)["image"]) == b"\xc3\xa4\xff.jpg"


@settings(max_examples=60)
@given(ANY_BATCHES)
def test_csv_gives_back_any_name(drawn: list[list[tuple[str, list[str], str]]]) -> None:
    batches = built(drawn)
    header, *rows = csv.reader(io.StringIO(encoded("".join(csv_rows(batches))), newline=""))
    assert header == ["image", "rank", "caption", "log_prob", "score", "error"]
    assert rows == [
        row
        for one in flat(batches)
        for row in [
            [one.image.name, str(rank), h.text, str(h.log_prob), str(h.score), one.error or ""]
            for rank, h in enumerate(one.hypotheses, 1)
        ]
        or [[one.image.name, "", "", "", "", one.error]]
    ]


@pytest.mark.parametrize("write", [text_lines, json_array, json_lines, csv_rows])
def test_a_batch_is_written_before_the_next_is_asked_for(write) -> None:  # type: ignore[no-untyped-def]
    asked: list[int] = []

    def batches():  # type: ignore[no-untyped-def]
        for i in range(3):
            asked.append(i)
            yield [Captioned(image(f"{i}.jpg"), hypotheses("a dog"))]

    texts = write(batches())
    for i in range(3):
        while f"{i}.jpg" not in next(texts):
            pass
        assert asked == list(range(i + 1))


def test_captions_come_back_in_order_around_what_cannot_be_read() -> None:
    calls: list[tuple[list[Path], int]] = []

    def caption(paths: list[Path], first: int) -> list[StubResult]:
        calls.append((paths, first))
        return [StubResult([], "bad") if "bad" in path.name else StubResult(hypotheses(path.stem)) for path in paths]

    images = [
        [image("no.jpg", "missing"), image("a.jpg"), image("bad.jpg")],
        [image("no.jpg", "missing")],
        [image("b.jpg")],
    ]
    done = list(caption_batches(caption, images))
    found = [[(one.image.name, one.caption, one.error) for one in batch] for batch in done]
    assert found == [
        [("no.jpg", None, "missing"), ("a.jpg", "a", None), ("bad.jpg", None, "bad")],
        [("no.jpg", None, "missing")],
        [("b.jpg", "b", None)],
    ]
    assert calls == [([Path("a.jpg"), Path("bad.jpg")], 0), ([Path("b.jpg")], 2)]


def test_text_files_go_beside_the_images(tmp_path: Path) -> None:
    files = TextFiles()
    given = [image(str(tmp_path / name)) for name in ("a.jpg", "a.png", "b.c.jpg", "own.txt", "bad.jpg")]
    (tmp_path / "c.txt").touch()
    reserved = [files.reserve(one) for one in [*given, image(str(tmp_path / "c.jpg"))]]
    assert [one.error and one.error.split(":")[0] for one in reserved] == [
        None,
        f"its captions would replace those of {tmp_path / 'a.jpg'}",
        None,
        "its captions would replace it",
        None,
        f"{tmp_path / 'c.txt'} exists already",
    ]
    files.write([Captioned(given[0], hypotheses("a dog", "ein Mädchen")), Captioned(given[4], [], "truncated")])
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "a dog\nein Mädchen\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "c.txt"]
    assert TextFiles(overwrite=True).reserve(image(str(tmp_path / "c.jpg"))).error is None


def test_text_files_in_a_folder_keep_the_folders_of_the_images(tmp_path: Path) -> None:
    one = ImageInput("photos/a/b.jpg", Path("photos/a/b.jpg"), Path("a/b.jpg"))
    files = TextFiles(tmp_path / "out")
    files.write([Captioned(files.reserve(one), hypotheses("a dog"))])
    assert (tmp_path / "out/a/b.txt").read_text() == "a dog\n"


def test_text_files_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"b\.txt: cannot be written \(File exists\)"):
        TextFiles(tmp_path / "file").write([Captioned(image("a/b.jpg"), hypotheses("a dog"))])
