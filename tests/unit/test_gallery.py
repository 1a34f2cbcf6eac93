import base64
import io
import os
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.gallery import Gallery, GalleryEntry, card, thumbnail
from data.errors import UserError
from nmt.page import printable


@dataclass(frozen=True)
class StubHypothesis:
    text: str
    log_prob: float
    score: float


class Page(HTMLParser):
    """The elements of a page, their attributes, and their text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def texts(self, tag: str) -> list[str]:
        return [text for name, text in self.text if name == tag]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "a.png"
    PIL.Image.new("RGB", (900, 450), "teal").save(path)
    return path


@pytest.fixture(scope="module")
def dot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "dot.png"
    PIL.Image.new("RGB", (2, 2)).save(path)
    return path


def page(path: Path, *entries: GalleryEntry) -> Page:
    with Gallery(path, note="RUN/model, beam 5") as gallery:
        for entry in entries:
            gallery.add(entry)
    return Page(path.read_text(encoding="utf-8"))


def test_a_thumbnail_is_a_small_jpeg_in_the_page(photo: Path) -> None:
    source, width, height = thumbnail(photo)
    kind, data = source.split(",")
    assert kind == "data:image/jpeg;base64"
    image = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    assert (image.format, image.size) == ("JPEG", (width, height))
    assert (width, height) == (400, 200)


def test_a_page_shows_all_that_is_known(photo: Path, tmp_path: Path) -> None:
    hypotheses = [StubHypothesis("a dog runs .", -3.25, -0.8), StubHypothesis("a dog .", -4.5, -1.1)]
    full = GalleryEntry(photo, "a dog runs .", hypotheses, ["A dog is running.", "Ein Hund."], {"CIDEr": 0.5}, name="a")
    plain = GalleryEntry(photo, "a cat .", hypotheses[:1], scores={"CIDEr": 1.0})
    found = page(tmp_path / "out.html", full, plain)
    assert len(found.all("figure")) == 2
    assert [one["alt"] for one in found.all("img")] == ["a dog runs .", "a cat ."]
    assert found.texts("td") == ["−3.25", "a dog runs .", "−4.50", "a dog ."]
    assert found.texts("li") == ["A dog is running.", "Ein Hund."]
    assert found.texts("b") == ["0.500", "−3.25", "1.000"]
    assert found.texts("bdi") == ["a", str(photo)]
    assert "RUN/model, beam 5" in found.texts("p")
    assert "2 images · mean CIDEr 0.750" in found.texts("p")
    assert found.open == []


def test_a_page_needs_nothing_else(photo: Path, tmp_path: Path) -> None:
    found = page(tmp_path / "out.html", GalleryEntry(photo, "a dog"))
    sources = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href")]
    assert sources and all(value and value.startswith("data:image/jpeg") for value in sources)
    assert not found.all("script") and not found.all("link")
    assert "url(" not in (tmp_path / "out.html").read_text() and "@import" not in (tmp_path / "out.html").read_text()
    policy = next(one for one in found.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_what_could_not_be_captioned_has_a_card(photo: Path, tmp_path: Path) -> None:
    gone = GalleryEntry(tmp_path / "gone.jpg", "a dog", [StubHypothesis("a dog", -1.0, -0.3)])
    found = page(tmp_path / "out.html", GalleryEntry(tmp_path / "b.jpg", "", error="truncated"), gone)
    assert found.all("img") == []
    assert "Not captioned: truncated" in found.texts("p") and "a dog" in found.texts("p")
    assert "2 images · 1 without caption" in found.texts("p")


def test_an_empty_caption_is_told(photo: Path, tmp_path: Path) -> None:
    found = page(tmp_path / "out.html", GalleryEntry(photo, ""))
    assert found.all("img")[0]["alt"] == "image with an empty caption"
    assert "(empty caption)" in found.texts("p")


ODD = st.one_of(
    st.text(),
    st.binary().map(os.fsdecode),
    st.sampled_from(
        ['"><script>alert(1)</script>', "' onerror='x", "&lt;b&gt;", "a\nb\x00", "]]>", "<!--", "</style>"]
    ),
)


@settings(max_examples=40)
@given(ODD, ODD, ODD, ODD, ODD)
def test_any_text_is_text(dot: Path, caption: str, reference: str, score: str, error: str, name: str) -> None:
    entries = [
        GalleryEntry(dot, caption, [StubHypothesis(caption, -1.0, -1.0)] * 2, [reference], {score: 1.0}, name=name),
        GalleryEntry(dot, caption, error=error, name=name),
    ]
    for entry in entries:
        html = card(entry)
        html.encode()
        found = Page(html)
        assert found.open == []
        tags = {tag for tag, _ in found.tags}
        assert tags <= {"figure", "figcaption", "img", "div", "p", "span", "b", "bdi", "table", "thead", "tbody", "tr",
                        "th", "td", "h2", "ul", "li"}  # fmt: skip
        shown = printable(name)
        assert "".join(found.texts("bdi")) == (shown if shown.strip() else "")
    image = Page(card(entries[0])).all("img")[0]
    assert image["alt"] == (printable(caption) or "image with an empty caption")
    assert set(image) == {"src", "width", "height", "alt", "loading"}


def test_the_file_appears_whole_or_not_at_all(photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    with pytest.raises(RuntimeError), Gallery(path) as gallery:
        gallery.add(GalleryEntry(photo, "a dog"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    path.write_text("before")
    with pytest.raises(RuntimeError), Gallery(path, overwrite=True):
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_is_not_written_over_unasked(photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    page(path, GalleryEntry(photo, "a dog"))
    with pytest.raises(UserError, match=r"exists already: .* --overwrite"):
        Gallery(path)
    with Gallery(path, title="Cats & dogs", overwrite=True):
        pass
    found = Page(path.read_text())
    assert found.texts("title") == found.texts("h1") == ["Cats & dogs"]
    assert "0 images" in found.texts("p")
    for other in (tmp_path, Path(os.devnull)):
        with pytest.raises(UserError, match="is no file"):
            Gallery(other, overwrite=True)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"out.html: cannot be written \(No such file"),
        Gallery(tmp_path / "no/out.html"),
    ):
        pass
