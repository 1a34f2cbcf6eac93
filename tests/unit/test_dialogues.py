"""Dialogues: their turns become pairs, whole dialogues are held out, and what is too long loses its beginning."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.config import PrepareConfig
from data.corpus import StreamedCorpus
from data.dialogues import TURN_MARK, join_turns, split_dialogue
from data.errors import UserError
from data.holdout import Holdout
from data.prepare import prepare
from data.readers import ParallelText, read_pairs
from data.tokenizer import Level, Tokenizer, TokenizerConfig

ANY = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["", " ", TURN_MARK, f"a{TURN_MARK}b"])
NO_TAB = st.text(st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]))
SIDE = TokenizerConfig(min_count=1)


def pairs(base: Path, files: str, **options) -> list[tuple[str, str]]:
    found = read_pairs(ParallelText(files=files, **{"history": 2, **options}), base=base)
    return [(pair.source, pair.target) for pair in found]


def write(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    return path.name


def jsonl(path: Path, dialogues: list[list[str]]) -> str:
    return write(path, "".join(json.dumps({"turns": turns}) + "\n" for turns in dialogues))


@given(turns=st.lists(ANY), history=st.integers(1, 4))
def test_each_turn_answers_at_most_so_many_before_it(turns: list[str], history: int) -> None:
    found = list(split_dialogue(turns, history))
    assert [reply for _, reply in found] == turns[1:]
    for i, (source, _) in enumerate(found):
        before = [turn.replace(TURN_MARK, " ") for turn in turns[max(0, i + 1 - history) : i + 1]]
        heard = [turn.strip() for turn in before if turn.strip()]
        # the only marks are those between turns, whatever the turns hold
        assert [part.strip() for part in source.split(TURN_MARK)] == (heard if before[-1].strip() else [""])


@pytest.mark.parametrize("level", ["word", "char", "bpe", "unigram"])
def test_the_mark_is_a_token_of_its_own(level: Level) -> None:
    source = join_turns(["Hello there.", "Hi, you!", "Bye"])
    config = TokenizerConfig(level=level, min_count=1, vocab_size=60, lowercase=True, unicode="NFKC")
    blank = Tokenizer.train(Counter("x"), TokenizerConfig(level=level, min_count=1, vocab_size=60, lowercase=True))
    tokenizer = Tokenizer.train(Counter(blank.segment(source).split(" ") * 5), config)
    tokens = [token.strip("▁") for token in tokenizer.tokens(tokenizer.encode(source))]
    assert tokens.count(TURN_MARK) == "".join(tokens).count(TURN_MARK) == 2
    assert tokenizer.decode(tokenizer.encode(source)).count(f" {TURN_MARK} ") == 2


@given(dialogues=st.lists(st.lists(ANY, max_size=4), min_size=1, max_size=4))
def test_json_lines_give_back_any_turn(tmp_path_factory: pytest.TempPathFactory, dialogues: list[list[str]]) -> None:
    base = tmp_path_factory.mktemp("text")
    expected = [pair for turns in dialogues for pair in split_dialogue(turns, 2)]
    assert pairs(base, jsonl(base / "a.jsonl", dialogues)) == expected
    records = [{"log": {"messages": [{"by": "me", "content": turn} for turn in turns]}} for turns in dialogues]
    name = write(base / "b.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert pairs(base, name, turns_field="log.messages.content") == expected


@given(dialogues=st.lists(st.lists(NO_TAB, min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_line_of_tsv_is_a_dialogue(tmp_path_factory: pytest.TempPathFactory, dialogues: list[list[str]]) -> None:
    base = tmp_path_factory.mktemp("text")
    name = write(base / "a.tsv", "".join("\t".join(turns) + "\n" for turns in dialogues))
    assert pairs(base, name) == [pair for turns in dialogues for pair in split_dialogue(turns, 2)]


def test_yaml_of_the_chatterbot_corpus(tmp_path: Path) -> None:
    text = "categories: [x]\nconversations:\n- - Do you?\n  - Yes\n  - 3\n-  - Broken - apart\n- No\n"
    write(tmp_path / "b.yml", text)
    write(tmp_path / "a.yaml", "conversations:\n- - 'a: b'\n  - c\n    d\n")
    assert pairs(tmp_path, "b.yml") == [("Do you?", "Yes"), (f"Do you? {TURN_MARK} Yes", "3")]
    assert pairs(tmp_path, "*.y*ml") == [("a: b", "c d"), *pairs(tmp_path, "b.yml")]


def test_rows_of_a_dataset_are_dialogues(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"id": [1, 2], "dialog": [["a", "b", "c"], ["d"]]})
    rows.to_parquet(tmp_path / "a.parquet")
    rows.save_to_disk(tmp_path / "saved")
    expected = [("a", "b"), (f"a {TURN_MARK} b", "c")]
    assert pairs(tmp_path, "a.parquet", turns_field="dialog") == expected
    saved = ParallelText(dataset="saved", history=2, turns_field="dialog")
    assert [pair[:2] for pair in read_pairs(saved, base=tmp_path)] == expected


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ('{"turns": "a"}', {}, ["line 1", "'turns' holds 'a', not a list of texts"]),
        ('{"turns": [{"text": "a"}]}', {}, ["turns.FIELD"]),
        ('{"turns": [{"text": "a"}]}', {"turns_field": "turns.txt"}, ["no field 'turns.txt'", "Set turns_field"]),
        ('{"turn": []}', {}, ["no field 'turns'", "Did you mean 'turn'?"]),
        ('{"turns": []}', {"history": -1}, ["history -1"]),
        ('{"turns": []}', {"target_field": "x"}, ["turns_field", "neither source and target"]),
        ('{"turns": []}', {"history": 0, "turns_field": "x"}, ["turns_field 'x' is for dialogues: set history"]),
        ("- a", {"files": "a.yml"}, ["a.yml", "no list named conversations"]),
        ("conversations: {a", {"files": "a.yml"}, ["a.yml", "not valid YAML", "line 1"]),
        ("conversations:\n- {a: b}", {"files": "a.yml"}, ["conversation 1 is not a list of texts"]),
        ("conversations: []", {"files": "a.yml", "history": 0}, ["a.yml", "set history"]),
        ("", {"files": "*.txt"}, ["*.txt: no file fits this name"]),
    ],
)
def test_what_is_no_dialogue_is_named(tmp_path: Path, text: str, options: dict, words: list[str]) -> None:
    given_file = options.get("files", "a.jsonl")
    write(tmp_path / given_file.replace("*.txt", "a.jsonl"), text + "\n")
    with pytest.raises(UserError) as caught:
        pairs(tmp_path, **{"files": given_file, **options})
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_dialogues_are_held_out(tmp_path: Path) -> None:
    """Turns that only one dialogue has tell in which split it is; those that open alike are in one split."""
    openings = ["Hello!" if n % 3 == 0 else f"opening {n}" for n in range(60)]
    dialogues = [[one, f"second{n}", f"third{n}", f"fourth{n}"] for n, one in enumerate(openings)]
    train = ParallelText(files=jsonl(tmp_path / "a.jsonl", dialogues), history=2)
    config = PrepareConfig(train=train, holdout=Holdout(valid=5, test=6), source=SIDE, target=SIDE, workers=1)
    report = prepare(config, tmp_path / "out", base=tmp_path)
    where: dict[str, set[int]] = {}
    for split in ("valid", "test"):
        replies = (tmp_path / "out" / f"{split}.reference").read_text().split()
        where[split] = {int("".join(filter(str.isdigit, reply))) for reply in replies}
        assert report.splits[split].read == 3 * len(where[split])
    assert not where["valid"] & where["test"]
    assert report.splits["train"].read == 3 * (60 - len(where["valid"] | where["test"]))
    assert [len({openings[n] for n in where[split]}) for split in ("valid", "test")] == [5, 6]
    assert report.splits["valid"].source_in_train == report.splits["test"].source_in_train == 0


def test_splits_must_hold_as_many_turns(tmp_path: Path) -> None:
    name = jsonl(tmp_path / "a.jsonl", [["a", "b"]])
    config = PrepareConfig(train=ParallelText(files=name, history=2), valid=ParallelText(files=name, history=1))
    with pytest.raises(UserError, match=r"valid\.history is 1, but train\.history is 2"):
        prepare(config, tmp_path / "out", base=tmp_path)
    with pytest.raises(UserError, match=r"holdout\.side target cannot be had of dialogues"):
        prepare(replace(config, holdout=Holdout(side="target")), tmp_path / "out", base=tmp_path)


def test_the_latest_turn_stays_where_a_source_is_truncated(tmp_path: Path) -> None:
    train = ParallelText(files=jsonl(tmp_path / "a.jsonl", [["one two three", "four five", "six seven"]]), history=2)
    config = PrepareConfig(
        train=train, valid=train, source=SIDE, target=SIDE, max_length=4, overlong="truncate", workers=1
    )
    prepare(config, tmp_path / "out", base=tmp_path)
    tokenizers = Tokenizer.load(tmp_path / "out" / "source.model"), Tokenizer.load(tmp_path / "out" / "target.model")
    expected = ["one two three", f"three {TURN_MARK} four five"]
    written = datasets.load_from_disk(str(tmp_path / "out" / "train"))["source"]
    assert [tokenizers[0].decode(ids) for ids in written] == expected
    (pool,) = StreamedCorpus(train, tmp_path, tokenizers, 4, True).pools(1, 1)
    rows = pool.source.padded(pool.rows, reverse=False)
    assert [tokenizers[0].decode(row.tolist()) for row in rows] == expected
