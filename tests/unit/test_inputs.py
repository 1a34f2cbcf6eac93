import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.inputs import ImageInput, batches, expand, listed, pools
from nmt.page import printable

# what a name may be on the file systems of Linux: any bytes but these
NAME = st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"/", b"").replace(b"\0", b""))
NAME = NAME.filter(lambda raw: raw and not raw.startswith(b".") and raw != b"-").map(os.fsdecode)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(paths: Sequence[str], lines: Sequence[Sequence[bytes]] = ()) -> list[str]:
    return [one.name for group in pools(paths, lines) for one in group]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_are_themselves_in_the_order_given(here: Path) -> None:
    touch(here, "b.jpg", "a.png", "notes.txt")
    assert names(["b.jpg", "notes.txt", "./a.png", "b.jpg"]) == ["b.jpg", "notes.txt", "./a.png", "b.jpg"]
    assert list(expand("./a.png")) == [ImageInput("./a.png", Path("a.png"), Path("a.png"))]


def test_a_folder_is_its_images_in_sorted_order(here: Path) -> None:
    touch(here, "p/b.JPG", "p/a/2.png", "p/a/1.webp", "p/c.txt", "p/.hidden.jpg", "p/.git/x.jpg", "p/d.jpg/e.gif")
    expected = ["p/a/1.webp", "p/a/2.png", "p/b.JPG", "p/d.jpg/e.gif"]
    assert names(["p"]) == names(["p/"]) == expected
    assert names([str(here / "p")]) == [str(here / one) for one in expected]
    assert names(["."]) == [f"./{one}" for one in expected]
    assert [str(one.inside) for one in expand("p")] == ["a/1.webp", "a/2.png", "b.JPG", "d.jpg/e.gif"]
    assert all(one.path == Path(one.name) and one.error is None for one in expand("p"))


def test_a_pattern_that_the_shell_left(here: Path) -> None:
    touch(here, "p/b.jpg", "p/a.jpg", "p/q/c.jpg", "p/q/d.txt", "[x].jpg")
    assert names(["p/*.jpg"]) == ["p/a.jpg", "p/b.jpg"]
    assert names(["p/*"]) == ["p/a.jpg", "p/b.jpg", "p/q/c.jpg"]
    assert names(["p/**/*.jpg"]) == ["p/a.jpg", "p/b.jpg", "p/q/c.jpg"]
    assert names(["**"]) == ["[x].jpg", "p/a.jpg", "p/b.jpg", "p/q/c.jpg", "p/q/d.txt"]
    assert names(["[x].jpg"]) == ["[x].jpg"]  # a file of that name comes first
    assert [(one.name, one.error) for one in expand("p/*.gif")] == [("p/*.gif", "no file matches")]


def test_what_is_missing_is_told_and_the_rest_goes_on(here: Path) -> None:
    touch(here, "a.jpg", "empty/readme.txt", "loose/b.txt")
    (here / "loose" / "gone.jpg").symlink_to("nowhere")
    (here / "loose" / "gone.txt").symlink_to("nowhere")
    os.mkfifo(here / "pipe.jpg")
    given = ["none.jpg", "", "nul\0.jpg", "empty", "x" * 300, "loose", "pipe.jpg", "a.jpg"]
    found = [one for group in pools(given, []) for one in group]
    assert [(one.name, one.error) for one in found] == [
        ("none.jpg", "no such file or folder"),
        ("", "no such file or folder"),
        ("nul\0.jpg", "not the name of a file"),
        ("empty", "no images in this folder"),
        ("x" * 300, "cannot be read (File name too long)"),
        ("loose/gone.jpg", "no such file or folder"),
        ("pipe.jpg", "not a file, but a pipe, a socket or a device"),
        ("a.jpg", None),
    ]


def test_a_folder_that_may_not_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(here, "p/a.jpg", "p/locked/b.jpg", "p/z.jpg")
    listing = Path.iterdir

    def deny(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", deny)  # whoever runs the tests may be allowed to read everything
    assert [(one.name, one.error) for one in expand("p")] == [
        ("p/a.jpg", None),
        ("p/locked", "cannot be read (Permission denied)"),
        ("p/z.jpg", None),
    ]


def test_links_between_folders_end(here: Path) -> None:
    touch(here, "p/a/1.jpg", "p/b/2.jpg")
    (here / "p/a/up").symlink_to(here / "p")
    (here / "p/a/other").symlink_to(here / "p/b")
    (here / "p/b/other").symlink_to(here / "p/a")
    assert names(["p"]) == ["p/a/1.jpg", "p/a/other/2.jpg", "p/b/2.jpg", "p/b/other/1.jpg"]


def test_lists_hold_files_folders_and_patterns(here: Path) -> None:
    touch(here, "p/a.jpg", "p/b.jpg", " spaces .jpg", "c.jpg")
    blocks = [[b"\xef\xbb\xbfc.jpg\r", b"", b" \r", b" spaces .jpg"], [], [b"p", b"p/*b*", b"gone.jpg"]]
    expected = ["c.jpg", " spaces .jpg", "p/a.jpg", "p/b.jpg", "p/b.jpg", "gone.jpg"]
    assert names(["-"], blocks) == names(["-", "-"], blocks) == expected
    assert names(["c.jpg", "-", "p/b.jpg", "-"], blocks) == ["c.jpg", *expected, "p/b.jpg"]


@given(st.lists(NAME.filter(lambda name: name.strip() and "\n" not in name and not name.endswith("\r"))))
def test_a_list_keeps_any_name(given: list[str]) -> None:
    assert list(listed([[b"first"], [os.fsencode(name) for name in given]])) == [["first"], given]


@given(st.sets(NAME, min_size=1, max_size=5))
def test_any_name_in_a_folder(tmp_path_factory: pytest.TempPathFactory, given: set[str]) -> None:
    folder = tmp_path_factory.mktemp("odd")
    touch(folder, *(f"{name}.jpg" for name in given))
    found = list(expand(str(folder)))
    assert [str(one.inside) for one in found] == sorted(f"{name}.jpg" for name in given)
    assert all(one.path.is_file() and one.error is None for one in found)
    assert [one.name for one in found] == [name for one in found for name in names([one.name])]


@given(st.lists(NAME))
def test_printable_is_one_line_that_can_be_encoded(given: list[str]) -> None:
    for name in given:
        shown = printable(name)
        shown.encode()
        assert len(shown.splitlines()) == 1 and "\x1b" not in shown


def test_printable() -> None:
    assert printable("Ünï 日本 \U0001f600.jpg") == "Ünï 日本 \U0001f600.jpg"
    assert printable("a\nb\t\x1b[31m\u2028" + os.fsdecode(b"\xff.jpg")) == r"a\nb\t\x1b[31m\u2028\xff.jpg"


def test_batches_do_not_wait_for_the_next_group(here: Path) -> None:
    touch(here, *(f"{i}.jpg" for i in range(5)))
    log: list[str] = []

    def arriving():  # type: ignore[no-untyped-def]
        for block in ([b"0.jpg", b"1.jpg", b"2.jpg"], [b"3.jpg"], [], [b"4.jpg"]):
            log.append("read")
            yield block

    for batch in batches(pools(["-"], arriving()), 2):
        log.append(" ".join(one.name for one in batch))
    assert log == ["read", "0.jpg 1.jpg", "2.jpg", "read", "3.jpg", "read", "read", "4.jpg"]
