"""Reading sequences of frames, and preparing them."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_sequences, write_prepared_frames

from data.corpus import PreparedCorpus, RowCorpus
from data.errors import UserError
from data.frame_files import FrameError, FrameSplit, as_frames, read_frames
from data.prepare_frames import FramePrepareConfig, prepare_frames, read_sequences
from data.source import FrameColumn
from data.tokenizer import TokenizerConfig

GOOD = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def prepared(folder: Path, records: list[dict], **config):
    write(folder / "train.jsonl", records)
    write(folder / "valid.jsonl", [{"frames": GOOD, "target": "go on"}])
    splits = {name: FrameSplit(file=f"{name}.jsonl") for name in ("train", "valid")}
    settings = {**splits, "text": TokenizerConfig(min_count=1), **config}
    return prepare_frames(FramePrepareConfig(**settings), folder / "out", base=folder)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint32"])
def test_real_numbers_of_any_kind_are_frames(dtype):
    found = as_frames(np.array(GOOD, dtype=dtype), 3)
    assert found.dtype == np.float32 and found.tolist() == GOOD
    assert as_frames(GOOD).tolist() == GOOD


@pytest.mark.parametrize(
    ("given", "features", "why"),
    [
        ([], 0, "holds no frames"),
        (np.zeros((0, 3)), 3, "holds no frames"),
        ([1.0, 2.0], 0, "has the shape (2,), not that of frames x features"),
        (np.zeros((2, 2, 2)), 0, "has the shape (2, 2, 2)"),
        ([[1.0], [1.0, 2.0]], 0, "its frames differ in their number of features"),
        (GOOD, 4, "has 3 features in a frame, not 4"),
        ([["a"]], 0, "not real numbers"),
        ([[None, 1.0]], 0, "not real numbers"),
        (np.zeros((2, 2), dtype=complex), 0, "holds complex128, not real numbers"),
        (np.zeros((2, 2), dtype=bool), 0, "holds bool, not real numbers"),
        ([[1.0], [float("nan")]], 1, "frame 2 holds a number that is infinite, too large or not a number"),
        ([[float("inf")]], 1, "frame 1 holds"),
        ([[1e300]], 1, "frame 1 holds"),
        ({"x": 1}, 0, "not real numbers"),
    ],
)
def test_what_is_no_sequence_is_told(given, features, why):
    with pytest.raises(FrameError, match=re.escape(why)):
        as_frames(given, features)


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3), st.lists))
def test_whatever_a_record_holds_is_frames_or_an_error(value):
    try:
        found = as_frames(value)
    except FrameError:
        return
    assert found.ndim == 2 and found.size and np.isfinite(found).all()


def test_frames_stand_in_the_record_or_in_a_file_and_in_parquet(tmp_path):
    (tmp_path / "deep").mkdir()
    np.save(tmp_path / "deep" / "one.npy", np.array(GOOD, dtype=np.float64))
    records = [{"frames": "one.npy", "target": "go on"}, {"frames": GOOD, "target": " stop \n now "}]
    write(tmp_path / "deep" / "some.jsonl", records)
    found = list(read_frames(tmp_path / "deep" / "some.jsonl", "frames", "target"))
    assert [as_frames(one.given, 3).tolist() for one in found] == [GOOD, GOOD]
    assert [one.target for one in found] == ["go on", "stop now"]
    table = pyarrow.table({"points": [GOOD, GOOD[:1]], "text": ["go on", "stop"]})
    pyarrow.parquet.write_table(table, tmp_path / "some.parquet")
    found = list(read_frames(tmp_path / "some.parquet", "points", "text"))
    assert [as_frames(one.given).tolist() for one in found] == [GOOD, GOOD[:1]]
    assert [one.place for one in found] == ["some.parquet, row 1", "some.parquet, row 2"]
    assert next(read_frames(tmp_path / "some.parquet", "points", "")).target == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"frames": [[1]]}\n', r"a\.jsonl, line 1: no field 'target'.*Set target_field"),
        (
            "a.jsonl",
            b'{"frame": [[1]], "target": "x"}\n',
            "line 1: no field 'frames'. Did you mean 'frame'.*frames_field",
        ),
        ("a.jsonl", b'{"frames": [[1]], "target": 3}\n', "line 1: field 'target' holds 3, not a string"),
        ("a.jsonl", b"[[1]]\n", "line 1: not a JSON object"),
        ("a.jsonl", b"{\n", "line 1: not valid JSON"),
        ("a.jsonl", b"", "the file is empty"),
        ("a.parquet", b"PAR1", r"a\.parquet: cannot be read"),
    ],
)
def test_files_that_are_none_are_told_in_a_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(read_frames(tmp_path / name, "frames", "target"))
    with pytest.raises(UserError, match="no such file"):
        list(read_frames(tmp_path / ("no" + name), "frames", "target"))


def test_bad_records_are_left_out_and_named(tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((2, 4)))
    np.save(tmp_path / "object.npy", np.array([{}, {}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "cut.npy", np.zeros((50, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-9])
    bad = ["missing.npy", "wide.npy", "object.npy", "text.npy", "cut.npy", [], [[1, 2, float("nan")]]]
    frames = [GOOD, *bad, [[7, 8, 9]], GOOD]
    records = [{"frames": one, "target": "go on"} for one in frames] + [{"frames": GOOD, "target": " "}]
    report = prepared(tmp_path, [*records, {"frames": GOOD * 6, "target": "stop"}, {"frames": GOOD, "target": "a b c"}],
                      max_frames=10, max_length=2)  # fmt: skip
    train = report.splits["train"]
    assert (train.read, train.kept) == (13, 3)
    assert train.dropped == {"unusable": 7, "blank": 1, "overlong": 2}
    assert train.duplicates == 1 and report.splits["valid"].pair_in_train == 1
    left_out = (tmp_path / "out" / "train.left_out.txt").read_text().splitlines()
    places = [f"train.jsonl, line {n}{f' ({name})' if name else ''}" for n, name in enumerate([*bad[:5], "", ""], 2)]
    assert [line.partition(":")[0] for line in left_out] == places
    for line, why in zip(
        left_out, ["No such file", "4 features", "damaged", "damaged", "damaged", "no frames", "frame 1"], strict=True
    ):
        assert why in line
    assert any("7 sequences left out, see train.left_out.txt: train.jsonl, line 2" in note for note in report.notes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"train": FrameSplit()}, "no sequences for train: give prepare.train.file"),
        ({"valid": FrameSplit()}, "no sequences for valid"),
        ({"max_frames": 1}, r"train\.jsonl: no sequence of train is left: .* 1 have more than 1 frames"),
        ({"max_length": 1}, "no sentence of train is left"),
    ],
)
def test_nothing_to_prepare_is_told_and_leaves_nothing(tmp_path, config, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, [{"frames": GOOD, "target": "go on"}], **config)
    assert not (tmp_path / "out").exists()


def test_what_is_prepared_is_not_written_over(tmp_path):
    prepared(tmp_path, [{"frames": GOOD, "target": "go on"}])
    with pytest.raises(UserError, match="exists already"):
        prepared(tmp_path, [{"frames": GOOD, "target": "go on"}])


def test_frames_come_back_with_their_sentences_in_every_epoch(tmp_path):
    sequences = random_sequences(0, [3, 1, 4, 2])
    records = [{"frames": each.tolist(), "target": f"w{len(each)}"} for each in sequences]
    report = prepared(tmp_path, records)
    out = tmp_path / "out"
    found = read_sequences(out, "train")
    assert [each.shape for each in found] == [each.shape for each in sequences]
    assert all(np.array_equal(a, b) for a, b in zip(found, sequences, strict=True))
    corpus = RowCorpus(PreparedCorpus(out / "train"), lambda rows, _: FrameColumn([found[row] for row in rows]))
    for epoch in range(3):
        (pool,) = corpus.pools(1, epoch)
        ids = {}
        for row in range(4):
            length = int(pool.source.lengths[row])
            assert np.array_equal(pool.source.sequences[row], next(s for s in sequences if len(s) == length))
            ids[length] = pool.target.padded(np.array([row]), reverse=False).tolist()
        assert len({str(one) for one in ids.values()}) == 4  # each length has the word of its own
    everything = np.concatenate(sequences).astype(np.float64)
    mean, deviation = np.load(out / "standard.npy")
    np.testing.assert_allclose(mean, everything.mean(0))
    np.testing.assert_allclose(deviation, everything.std(0))
    assert report.length_ratio.low == 0 and report.length_ratio.high == pytest.approx(1.0, abs=0.02)
    assert (out / "valid.reference").read_text() == "go on\n"


def test_a_feature_that_never_changes_is_not_divided_by_zero(tmp_path):
    prepared(tmp_path, [{"frames": [[1, 5, 0], [2, 5, 0]], "target": "go"}])
    mean, deviation = np.load(tmp_path / "out" / "standard.npy")
    assert mean.tolist() == [1.5, 5, 0] and deviation.tolist() == [0.5, 1, 1]


def test_the_gestures_are_prepared_whole(tmp_path):
    out = write_prepared_frames(tmp_path, sequences=20)
    assert [len(read_sequences(out, split)) for split in ("train", "valid", "test")] == [20, 8, 6]
    with pytest.raises(UserError, match="no prepared frames of extra here"):
        read_sequences(out, "extra")
