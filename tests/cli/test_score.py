"""score.py and sentence_map.py as a user calls them."""

import sys
from pathlib import Path

import pytest

from scripts import score, sentence_map, translate
from scripts.command import run
from tests.tiny import save_translator

SOURCES = ["a dog sleeps .", "the cat runs in the house .", "", "a cat sees the dog !"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("score")
    save_translator(path / "one", 1)
    save_translator(path / "two", 2)
    (path / "source").write_text("".join(f"{line}\n" for line in SOURCES))
    (path / "phrases").write_text("a dog ||| the cat ||| 0.5 0.5 ||| 0-0\n")
    return path


@pytest.fixture
def call(folder, capsys, monkeypatch):
    """Run a command in the folder; its exit code and what it wrote."""

    def start(module, *arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(SystemExit) as end:
            run(module.NAME, module.main) if hasattr(module, "NAME") else module.main()
        return end.value.code, capsys.readouterr()

    return start


@pytest.fixture
def candidates(folder, call) -> str:
    call(translate, "--model", "one", "source", "--n-best", "3", "--beam", "3", "--output", "list", "--overwrite")
    return "list"


def test_pairs_score_what_translate_says_of_them(call, folder, candidates):
    rows = [line.split("\t") for line in (folder / candidates).read_text().splitlines()]
    rows = [row for row in rows if SOURCES[int(row[0]) - 1]]
    (folder / "s").write_text("".join(f"{SOURCES[int(row[0]) - 1]}\n" for row in rows))
    (folder / "t").write_text("".join(f"{row[4]}\n" for row in rows))
    code, written = call(score, "--model", "one", "--source", "s", "--target", "t")
    found = [float(line) for line in written.out.splitlines()]
    assert code == 0 and len(found) == len(rows)
    # text that is tokenized again may be other tokens than those that were written
    assert sum(abs(value - float(row[3])) < 1e-3 for value, row in zip(found, rows, strict=True)) >= len(rows) / 2
    assert call(score, "--model", "two", "--source", "s", "--target", "t")[1].out != written.out


def test_a_blank_source_has_a_blank_score(call):
    written = call(score, "--model", "one", "--source", "source", "--target", "source")[1].out
    assert [bool(line) for line in written.splitlines()] == [True, True, False, True]


def test_candidates_are_ordered_by_the_other_model(call, candidates):
    start = ["--model", "two", "--source", "source", "--candidates", candidates]
    own = call(score, *start, "--weight", "0")[1].out
    other = call(score, *start, "--weight", "1")[1].out
    assert len(own.splitlines()) == len(other.splitlines()) == len(SOURCES) and own != other
    rows = [line.split("\t") for line in call(score, *start, "--weight", "1", "--n-best", "2")[1].out.splitlines()]
    assert [row[4] for row in rows if row[1] == "1"] == other.splitlines()
    scores = [float(row[2]) for row in rows[:2]]
    assert scores == sorted(scores, reverse=True)


def test_references_show_what_weights_give(call, candidates):
    start = ["--model", "two", "--source", "source", "--candidates", candidates, "--reference", "source"]
    code, written = call(score, *start)
    assert code == 0 and "best: --weight" in written.out and written.out.count("│") > 20


def test_a_phrase_table_gets_a_column(call, folder):
    code, _ = call(score, "--model", "one", "--phrase-table", "phrases", "--output", "out")
    source, target, scores, alignment = (folder / "out").read_text().rstrip().split(" ||| ")
    assert code == 0 and (source, target, alignment) == ("a dog", "the cat", "0-0")
    assert scores.startswith("0.5 0.5 ") and 0 < float(scores.split()[2]) < 1
    code, written = call(score, "--model", "one", "--phrase-table", "phrases", "--output", "out")
    assert code == 1 and "out: exists already" in written.err
    assert call(score, "--model", "one", "--phrase-table", "phrases", "--output", "out", "--overwrite")[0] == 0
    before = (folder / "phrases").read_text()
    code, written = call(score, "--model", "one", "--phrase-table", "phrases", "--output", "phrases", "--overwrite")
    assert code == 1 and "phrases: this file has another use" in written.err
    assert (folder / "phrases").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--source", "source"], 2, "give --source and --target, or"),
        (["--phrase-table", "phrases", "--source", "source"], 2, "give --source and --target, or"),
        (["--source", "source", "--target", "source", "--weight", "1"], 2, "--weight needs --candidates"),
        (["--source", "source", "--candidates", "phrases", "--lowercase"], 2, "--lowercase needs --reference"),
        (["--source", "source", "--candidates", "phrases", "--weight", "2"], 2, "must be from 0 to 1"),
        (["--source", "source", "--candidates", "phrases"], 1, "line 1: not the five columns"),
        (["--source", "source", "--target", "phrases"], 1, "source has 4 lines but phrases has 1"),
        (["--phrase-table", "source"], 1, "line 1: no entry of a phrase table"),
    ],
)
def test_mistakes_are_one_line(call, arguments, code, message):
    found, written = call(score, "--model", "one", *arguments)
    assert found == code and message in written.err and len(written.err.splitlines()) == 1


def test_sentences_are_mapped(call, folder):
    (folder / "sets").write_text("a dog sleeps\na dog runs\n\nthe cat sees the house\n")
    code, written = call(sentence_map, "sets", "--model", "one", "--out", "map.png", "--neighbours", "1")
    assert code == 0 and (folder / "map.png").stat().st_size > 5000
    assert "of the sentences have their nearest other in their own set" in written.out
    code, written = call(sentence_map, "sets", "--model", "one", "--out", "map.png")
    assert code == 1 and "exists already" in written.err
    assert call(sentence_map, "sets", "--model", "one", "--out", "map.png", "--overwrite", "--neighbours", "2")[0] == 0
