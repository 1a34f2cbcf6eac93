"""tune_search.py and what it tunes, as a user calls them."""

import json
import sys
from pathlib import Path

import pytest

from scripts import evaluate_translation, translate, tune_search
from scripts.command import run
from tests.tiny import SCENE_WORDS, save_translator

SOURCES = ["a dog Sleeps Zebra .", "the cat runs in the House .", "", "a cat sees the Yak !", "the dog sees a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tune")
    save_translator(path / "one", 1, attention="general")  # likes to write unknown words
    save_translator(path / "plain", 1)
    (path / "source").write_text("".join(f"{line}\n" for line in SOURCES))
    (path / "short").write_text("a dog\n")
    return path


@pytest.fixture
def call(folder, capfd, monkeypatch):
    """Run a command in the folder; its exit code and what it wrote."""

    def start(module, *arguments, model="one"):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["command", "--model", model, *arguments])
        with pytest.raises(SystemExit) as end:
            if module is translate:
                translate.main()
            else:
                run(module.NAME, getattr(module, "main", None) or module.evaluate)
        return end.value.code, capfd.readouterr()

    return start


TEXTS = ["--source", "source", "--reference", "source"]


def test_settings_are_shown_and_the_best_can_be_had(call, folder):
    grid = ["--beam", "2,3", "--length-penalty", "0,0.5,1,2", "--lowercase"]
    code, written = call(tune_search, *TEXTS, *grid, "--replace-unknown", "--json", "out.json")
    assert code == 0 and written.out.count("│") == 8 * 6 and written.out.count("*") == 2
    assert "search 8 of 8" in written.err
    found = json.loads((folder / "out.json").read_text())
    assert len(found["tried"]) == 8 and len(found["data"]["source"]["sha256"]) == 64
    best, options = found["best"], found["options"]
    assert f"translate {options['translate']}" in written.out and options["recipe"] in written.out
    code, written = call(translate, "source", *options["translate"].split(), "--output", "best", "--overwrite")
    assert code == 0 and f"replaced by words of the source: {best['replaced_unknown']}" in written.err
    code, _ = call(evaluate_translation, *TEXTS, *options["recipe"].split(), "--json", "eval.json")
    scores = json.loads((folder / "eval.json").read_text())
    assert code == 0 and scores["bleu_lowercase"]["score"] == pytest.approx(best["bleu"])
    assert scores["decoding"]["replaced_unknown"] == best["replaced_unknown"] > 0
    assert scores["search"]["replace_unknown"] is True and scores["search"]["beam"] == best["beam"]
    assert (folder / "best").read_text() == (folder / "eval.translations.txt").read_text()
    code, written = call(tune_search, *TEXTS, *grid, "--json", "out.json")
    assert code == 1 and "exists already" in written.err
    assert (
        call(tune_search, *TEXTS, "--beam", "2", "--length-penalty", "1", "--json", "out.json", "--overwrite")[0] == 0
    )
    assert json.loads((folder / "out.json").read_text())["best"]["replaced_unknown"] is None


def test_translate_writes_what_was_read_for_unknown_words(call):
    code, written = call(translate, "source", "--replace-unknown")
    rows = written.out.splitlines()
    assert code == 0 and "<unk>" not in written.out and rows[2] == ""
    for row, source in zip(rows, SOURCES, strict=True):
        assert set(row.split()) <= {*source.split(), *SCENE_WORDS}
    assert "unknown words replaced by words of the source: " in written.err
    assert "<unk>" in call(translate, "source", "--allow-unknown")[1].out
    assert "replaced" not in call(translate, "source", "--allow-unknown")[1].err
    # it is said even where there was nothing to do
    code, written = call(translate, "/dev/null", "--replace-unknown")
    assert "source: 0, in the translations of 0 lines" in written.err


@pytest.mark.parametrize(
    ("module", "arguments", "code", "message"),
    [
        (translate, ["source", "--replace-unknown"], 1, "plain has no attention"),
        (evaluate_translation, [*TEXTS, "--search.replace_unknown", "true"], 1, "plain has no attention"),
        (tune_search, [*TEXTS, "--replace-unknown"], 1, "plain has no attention"),
        (tune_search, [*TEXTS, "--beam", "5,x"], 2, "--beam 5,x: give numbers with commas"),
        (tune_search, [*TEXTS, "--beam", "0"], 2, "--beam 0 must be at least 1"),
        (tune_search, [*TEXTS, "--length-penalty", "-1"], 2, "--length-penalty -1.0 must be a number"),
        (tune_search, ["--source", "source", "--reference", "short"], 1, "source has 5 lines but short has 1"),
    ],
)
def test_mistakes_are_one_line(call, module, arguments, code, message):
    found, written = call(module, *arguments, model="plain")
    assert found == code and message in written.err.splitlines()[-1] and "Traceback" not in written.err
