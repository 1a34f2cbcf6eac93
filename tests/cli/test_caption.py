"""The command around the model: a stub stands for it, and says what it was asked."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import PIL.Image
import pytest
import torch

from captioning.images import ImageError, open_image
from captioning.options import CaptionOptions
from scripts.caption import main

SECONDS = 180


@dataclass(frozen=True)
class StubHypothesis:
    text: str
    log_prob: float
    score: float


@dataclass(frozen=True)
class StubCaption:
    hypotheses: list[StubHypothesis]
    error: str | None = None


@dataclass
class StubCaptioner:
    """Says the width of each image, and remembers what it was asked."""

    calls: list[tuple[list[str], CaptionOptions, int]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    precision: str = ""

    def load(self, path: list[str], *, precision: str) -> "StubCaptioner":
        self.loaded, self.precision = path, precision
        return self

    def caption(self, images: Sequence[Path], options: CaptionOptions, *, first_image: int) -> list[StubCaption]:
        self.calls.append(([path.name for path in images], options, first_image))
        return [self._one(path, options.n_best) for path in images]

    def _one(self, path: Path, n_best: int) -> StubCaption:
        try:
            width = open_image(path).width
        except ImageError as error:
            return StubCaption([], str(error))
        return StubCaption([StubHypothesis(f"width {width} rank {i}", -float(i), -i / 2) for i in range(1, n_best + 1)])


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubCaptioner:
    captioner, module = StubCaptioner(), ModuleType("captioning.captioner")
    module.Captioner = captioner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "captioning.captioner", module)
    return captioner


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def caption(stub: StubCaptioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary) -> Call:  # type: ignore[no-untyped-def]
    """Runs the command in this process and in an empty folder: exit code, output and messages."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, model: str = "M") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["caption", "--model", model, *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfdbinary.readouterr()
        return exit_.value.code, out.decode(errors="surrogateescape"), err.decode()  # type: ignore[return-value]

    return call


def draw(*names: str) -> None:
    """An image for each name, as wide as its place says."""
    for width, name in enumerate(names, 1):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (width, 3), "teal").save(name, "PNG")


def test_files_and_folders_keep_their_order_and_names(caption: Call) -> None:
    draw("z.png", "p/b.png", "p/a.png")
    expected = "z.png\twidth 1 rank 1\np/a.png\twidth 3 rank 1\np/b.png\twidth 2 rank 1\n./z.png\twidth 1 rank 1\n"
    assert caption("z.png", "p", "./z.png") == (0, expected, "")
    assert caption("z.png", "p/*.png", "./z.png") == (0, expected, "")


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(caption: Call) -> None:
    draw("a.png", "b.png")
    Path("bad.png").write_text("no picture")
    code, out, err = caption("a.png", "bad.png", "gone\n.png", "b.png")
    assert code == 1
    assert out == "a.png\twidth 1 rank 1\nbad.png\t\ngone\\n.png\t\nb.png\twidth 2 rank 1\n"
    first, second = err.splitlines()
    assert first.startswith("caption: bad.png: ")
    assert second == "caption: gone\\n.png: no such file or folder"
    entries = json.loads(caption("--json", "a.png", "bad.png", "gone\n.png", "b.png")[1])
    assert [(one["image"], one["caption"], one["error"] is None) for one in entries] == [
        ("a.png", "width 1 rank 1", True),
        ("bad.png", None, False),
        ("gone\n.png", None, False),
        ("b.png", "width 2 rank 1", True),
    ]


@pytest.mark.parametrize(
    "name",
    ["null", "[a].png", "{x: 1}.png", "a: b.png", "1", "true", "'q'.png", " ", "a,b.png", os.fsdecode(b"\xff.png")],
)
def test_a_name_is_not_taken_for_anything_else(caption: Call, name: str) -> None:
    draw(name)
    assert caption(name) == (0, f"{name}\twidth 1 rank 1\n", "")


def test_names_that_begin_with_a_dash(caption: Call) -> None:
    draw("-a.png")
    assert caption("--", "-a.png") == (0, "-a.png\twidth 1 rank 1\n", "")


def test_the_formats_say_the_same(caption: Call) -> None:
    draw("a.png", "b.png")
    array = json.loads(caption("--n-best", "2", "--json", "a.png", "b.png")[1])
    assert array[0] == {
        "image": "a.png",
        "caption": "width 1 rank 1",
        "captions": [
            {"text": "width 1 rank 1", "log_prob": -1.0, "score": -0.5},
            {"text": "width 1 rank 2", "log_prob": -2.0, "score": -1.0},
        ],
        "error": None,
    }
    rows = caption("--n-best", "2", "--jsonl", "a.png", "b.png")[1].splitlines()
    assert [json.loads(row) for row in rows] == array
    table = list(csv.DictReader(io.StringIO(caption("--n-best", "2", "--csv", "a.png", "b.png")[1])))
    assert [(row["image"], row["rank"], row["caption"]) for row in table] == [
        (one["image"], str(rank), best["text"]) for one in array for rank, best in enumerate(one["captions"], 1)
    ]
    plain = [row.split("\t") for row in caption("--n-best", "2", "a.png", "b.png")[1].splitlines()]
    assert [(row[0], row[1], row[4]) for row in plain] == [(r["image"], r["rank"], r["caption"]) for r in table]


def test_text_files(caption: Call) -> None:
    draw("p/a.png", "p/q/b.png", "c.png")
    assert caption("--txt", "p", "c.png") == (0, "", "")
    assert Path("p/q/b.txt").read_text() == "width 2 rank 1\n"
    code, _, err = caption("--txt", "p", "c.png")
    assert code == 1 and err.count("exists already") == 3
    assert caption("--txt", "--overwrite", "--n-best", "2", "c.png") == (0, "", "")
    assert Path("c.txt").read_text() == "width 3 rank 1\nwidth 3 rank 2\n"
    assert caption("--txt", "--txt-dir", "out", "p", "c.png") == (0, "", "")
    found = sorted(str(path) for path in Path("out").rglob("*.txt"))
    assert found == ["out/a.txt", "out/c.txt", "out/q/b.txt"]


def test_the_gallery_has_a_card_for_each_image(caption: Call) -> None:
    draw("a.png")
    Path("bad.png").write_text("no picture")
    code, out, _ = caption("--gallery", "out.html", "a.png", "bad.png")
    page = Path("out.html").read_text()
    assert (code, out) == (1, "a.png\twidth 1 rank 1\nbad.png\t\n")
    assert page.count("<figure") == 2 and page.count("data:image/jpeg") == 1 and "beam 5" in page


def test_existing_files_are_not_written_over_unasked(caption: Call, stub: StubCaptioner) -> None:
    draw("a.png")
    for option, name in (("--output", "out.txt"), ("--gallery", "out.html")):
        assert caption(option, name, "a.png")[0] == 0
        before = Path(name).read_bytes()
        stub.loaded = []
        code, out, err = caption(option, name, "a.png")
        assert (code, out) == (1, "") and f"{name}: exists already" in err and err.count("\n") == 1
        assert stub.loaded == []  # told before anything is loaded
        assert caption(option, name, "--overwrite", "a.png")[0] == 0
        assert Path(name).read_bytes() == before
    assert Path("out.txt").read_text() == "a.png\twidth 1 rank 1\n"


def test_options_reach_the_model(caption: Call, stub: StubCaptioner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    draw("1.png", "2.png", "3.png")
    caption("--batch", "2", "--beam", "3", "--n-best", "2", "--length-penalty", "0", "--threads", "2", ".")
    assert [(names, first) for names, _, first in stub.calls] == [(["1.png", "2.png"], 0), (["3.png"], 2)]
    assert stub.calls[0][1] == CaptionOptions(beam=3, n_best=2, length_penalty=0.0)
    assert asked == [2]
    caption("--sample", "--temperature", ".5", "--top-k", "4", "--top-p", ".9", "--seed", "7", "--n-best", "9", "1.png")
    options = CaptionOptions(sample=True, temperature=0.5, top_k=4, top_p=0.9, seed=7, n_best=9)
    assert stub.calls[-1][1] == options
    assert asked == [2]
    caption("--beam", "4", "--consensus", "2", "1.png")
    assert stub.calls[-1][1] == CaptionOptions(beam=4, consensus=2.0)
    caption("--mirror", "1.png")
    assert stub.calls[-1][1] == CaptionOptions(mirror=True)
    caption("--model", "N", "--precision", "int8", "1.png")
    assert (stub.loaded, stub.precision) == (["M", "N"], "int8")


def test_an_empty_list_gives_nothing(caption: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nothing)
        assert caption() == (0, "", "")
        assert caption("--json", "-") == (0, "[]\n", "")


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--output", "nowhere/out.txt"], 1, "nowhere/out.txt: cannot be written"),
        (["--output", "/dev/full"], 1, "/dev/full: cannot be written (No space left on device)"),
        (["--gallery", "nowhere/out.html"], 1, "nowhere/out.html: cannot be written"),
        (["--gallery", "a.png"], 2, "--gallery a.png has the name of an image"),
        (["--output", "a.PNG", "--overwrite"], 2, "--output a.PNG has the name of an image"),
        (["--explain", "a.png"], 2, "--explain a.png has the name of an image"),
        (["--output", "out", "--explain", "out"], 2, "--output and --explain name the same file"),
        (["--output", "out", "--gallery", "out"], 2, "--output and --gallery name the same file"),
        (["--output", "out", "--txt"], 2, "--output and --txt exclude each other"),
        (["--txt-dir", "out"], 2, "--txt-dir needs --txt"),
        (["--json", "--csv"], 2, "not allowed with argument"),
        (["--n-best", "6"], 2, "--n-best 6 exceeds --beam 5"),
        (["--top-k", "3"], 2, "--top-k 3 needs --sample."),
        (["--seed", "3"], 2, "--seed works only with --sample"),
        (["--consensus", "2", "--beam", "1"], 2, "--consensus 2.0 needs --beam 2 or more"),
        (["--consensus", "2", "--sample"], 2, "leave out --sample"),
        (["--batch", "0"], 2, "batch"),
        (["--bean", "3"], 2, "Did you mean --beam?"),
    ],
)
def test_mistakes_are_one_line(caption: Call, arguments: list[str], code: int, message: str) -> None:
    draw("a.png")
    found, out, err = caption(*arguments, "a.png")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err
    assert Path("a.png").stat().st_size > 50


# The whole command, with the stub in the process it runs in

_STUBBED = """
import sys, types
from tests.cli.test_caption import StubCaptioner
sys.modules["captioning.captioner"] = types.SimpleNamespace(Captioner=StubCaptioner())
from scripts.caption import main
main()
"""


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _STUBBED, "--model", "M", *arguments]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_listed_image_is_captioned_before_the_list_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw("a.png", "b.png")
    process = start()
    assert process.stdin and process.stdout
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    for width, name in enumerate(["a.png", "b.png"], 1):
        process.stdin.write(os.fsencode(tmp_path / name) + b"\n")
        process.stdin.flush()
        assert process.stdout.readline().decode() == f"{tmp_path / name}\twidth {width} rank 1\n"
    out, err = process.communicate(b"gone.png", timeout=SECONDS)
    watchdog.cancel()
    assert (process.returncode, out, err) == (1, b"gone.png\t\n", b"caption: gone.png: no such file or folder\n")


def test_help_and_wrong_options_load_nothing_heavy() -> None:
    code = (
        "import sys\nfrom scripts.caption import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'PIL', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    for arguments in (["--help"], ["--model", "M", "--txt-dir", "x"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, timeout=SECONDS, cwd=Path(__file__).parents[2], check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
