import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import text_files
from data.errors import UserError
from data.readers import ParallelText, RawPair, paths, read_pairs
from data.text_files import fingerprint, read_lines

PAIRS = [RawPair("Go.", "Geh."), RawPair("a\u2028b\u0085c\u00a0d\x0be", "München\u2029")]
# A byte order mark is part of the text everywhere but at the start of a file.
LINE = st.text(st.characters(exclude_characters="\n\r\ufeff", exclude_categories=["Cs"]))


def write(path: Path, data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path.name


def failure(text: ParallelText, base: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(read_pairs(text, base=base))
    return str(caught.value)


def aligned(base: Path, source: str | bytes, target: str | bytes) -> ParallelText:
    return ParallelText(source=[write(base / "a.en", source)], target=[write(base / "a.de", target)])


def fields(**options: Any) -> ParallelText:
    return ParallelText(**{"source_field": "en", "target_field": "de", **options})


@given(pairs=st.lists(st.tuples(LINE, LINE), min_size=1), newline=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_aligned_files_give_back_any_text(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], newline: str, last: bool
) -> None:
    base = tmp_path_factory.mktemp("text")
    # The last line needs no line end, unless it is blank.
    ends = newline if last or not all(pairs[-1]) else ""
    source, target = (newline.join(side) + ends for side in zip(*pairs, strict=True))
    assert list(read_pairs(aligned(base, source, target), base=base)) == pairs


@given(pairs=st.lists(st.tuples(LINE, LINE), min_size=1))
def test_jsonl_gives_back_any_text(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    base = tmp_path_factory.mktemp("text")
    name = write(base / "a.jsonl", "".join(json.dumps({"en": s, "de": t}) + "\n" for s, t in pairs))
    assert list(read_pairs(fields(files=[name]), base=base)) == pairs


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["é" * (n % 7) for n in range(200)]
    name = write(tmp_path / "a.txt", "\r\n".join(lines) + "\r\n")
    for size in range(1, 20):
        monkeypatch.setattr(text_files, "_BLOCK_BYTES", size)
        assert list(read_lines(tmp_path / name)) == lines


def test_several_files_with_gzip_and_byte_order_marks(tmp_path: Path) -> None:
    text = ParallelText(
        source=[write(tmp_path / "1.en", "\ufeffone\n"), write(tmp_path / "2.en.gz", "\ufefftwo\nthree")],
        target=[write(tmp_path / "1.de.gz", "eins"), write(tmp_path / "2.de", "zwei\ndrei\n")],
    )
    assert list(read_pairs(text, base=tmp_path)) == [("one", "eins"), ("two", "zwei"), ("three", "drei")]
    assert paths(text, tmp_path) == [tmp_path / name for name in ("1.en", "2.en.gz", "1.de.gz", "2.de")]


def test_only_one_carriage_return_before_a_line_feed_is_stripped(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / write(tmp_path / "a", "x\ry\r\r\n\n\r\nz\r"))) == ["x\ry\r", "", "", "z\r"]


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.TSV.gz"])
def test_tsv_columns(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"id\ten\tde\tmore\tand more\n1\tGo.\tGeh.\n")
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    text = ParallelText(files=[name], source_field=2, target_field="1")
    assert list(read_pairs(text, base=tmp_path)) == [("de", "en"), ("Geh.", "Go.")]


def test_files_of_different_kinds(tmp_path: Path) -> None:
    pq.write_table(pa.table({"1": ["p"], "0": ["q"]}), tmp_path / "c.parquet")
    names = [
        write(tmp_path / "a.tsv", "a\tb\n"),
        write(tmp_path / "b.json.gz", '{"0": "c", "1": "d"}\n'),
        write(tmp_path / "d.csv", '0,1\n"x, y",z\n'),
    ]
    text = ParallelText(files=[*names, "c.parquet"])
    assert list(read_pairs(text, base=tmp_path)) == [("a", "b"), ("c", "d"), ("x, y", "z"), ("q", "p")]


def test_nested_and_dotted_field_names(tmp_path: Path) -> None:
    record = {"translation": {"de": "Geh.", "en": "Go."}, "a.b": "dotted"}
    name = write(tmp_path / "a.jsonl", json.dumps(record))
    text = ParallelText(files=[name], source_field="translation.de", target_field="a.b")
    assert list(read_pairs(text, base=tmp_path)) == [("Geh.", "dotted")]


def test_paths_start_from_base_and_absolute_paths_stand(tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.tsv"
    write(other, "a\tb")
    assert paths(ParallelText(files=[str(other)]), tmp_path / "base") == [other]


def test_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "a", "text")
    assert fingerprint(tmp_path / "a") == hashlib.sha256(b"text").hexdigest()
    with pytest.raises(UserError, match="no such file"):
        fingerprint(tmp_path / "b")
    with pytest.raises(UserError, match="folder"):
        fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ParallelText(), ["cannot tell"]),
        (ParallelText(source=["a"], target=["b"], files=["c"]), ["cannot tell", "'a'", "'c'"]),
        (ParallelText(source=["a"], target=["b"], dataset="c"), ["cannot tell", "dataset=c"]),
        (ParallelText(source=["a", "b"], target=["c"]), ["2 source", "1 target"]),
        (ParallelText(source=["a"]), ["1 source", "0 target"]),
        (ParallelText(dataset="csv"), ["csv", "needs files"]),
    ],
)
def test_config_that_gives_no_one_place(tmp_path: Path, text: ParallelText, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_pairs(text, base=tmp_path)  # at once, before a pair is asked for
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(("source", "target", "counts"), [(3, 5, "3 5"), (9, 2, "9 2"), (2, 3, "2 3"), (3, 2, "3 2")])
def test_different_line_counts(tmp_path: Path, source: int, target: int, counts: str) -> None:
    message = failure(aligned(tmp_path, "x\n" * source, "y\n" * target), tmp_path)
    first, second = counts.split()
    assert f"a.en has {first} lines" in message
    assert f"a.de has {second}: line {min(source, target) + 1}" in message


def test_invalid_utf8_names_line_and_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", 4)
    message = failure(
        aligned(tmp_path, "eins\nzwei\nGrün, gr\udcfcn\n".encode(errors="surrogateescape"), "x"), tmp_path
    )
    assert "a.en, line 3: not valid UTF-8: byte 0xfc at byte 9" in message
    assert "iconv -f WINDOWS-1252 -t UTF-8" in message


@pytest.mark.parametrize(
    ("data", "hint"), [("Grün\n".encode("utf-16"), "iconv -f UTF-16"), (gzip.compress(b"x\n", mtime=0), "end in .gz")]
)
def test_hint_on_other_encodings(tmp_path: Path, data: bytes, hint: str) -> None:
    message = failure(aligned(tmp_path, data, "x"), tmp_path)
    assert "line 1" in message
    assert hint in message


@pytest.mark.parametrize("data", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_empty_file(tmp_path: Path, data: str, name: str) -> None:
    with pytest.raises(UserError, match=r"a(\.gz)?: the file is empty"):
        list(read_lines(tmp_path / write(tmp_path / name, data)))


def test_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", "a\tb")
    with pytest.raises(UserError) as caught:
        read_pairs(ParallelText(files=["trian.tsv"]), base=tmp_path)
    assert f"looked for in {tmp_path}; the name nearest to it there is 'train.tsv'" in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        list(read_lines(tmp_path / "no" / "folder"))


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").mkdir()
    with pytest.raises(UserError, match="a folder"):
        read_pairs(ParallelText(files=["a.tsv"]), base=tmp_path)
    with pytest.raises(UserError, match="a folder"):
        list(read_lines(tmp_path))


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    text = aligned(tmp_path, "x", "y")
    monkeypatch.setattr(Path, "open", deny)  # whoever runs the tests may be allowed to read everything
    assert "a.en: no permission to read it. Allow it" in failure(text, tmp_path)


PACKED = gzip.compress("".join(f"{n}\tx\n" for n in range(10_000)).encode())


@pytest.mark.parametrize(
    "data",
    [PACKED[:-100], PACKED[:3], b"plain\ttext\n", PACKED[:5000] + bytes(9) + PACKED[5009:], PACKED[:-8] + bytes(8)],
)
def test_damaged_gzip(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(data)
    assert "a.tsv.gz: damaged, truncated or not gzip" in failure(ParallelText(files=["a.tsv.gz"]), tmp_path)


def test_tsv_line_with_too_few_columns(tmp_path: Path) -> None:
    name = write(tmp_path / "a.tsv", "a\tb\n" + "long " * 100 + "\n")
    message = failure(ParallelText(files=[name]), tmp_path)
    assert "a.tsv, line 2: 1 tab-separated column(s)" in message
    assert "'long long" in message
    assert len(message) < 400


@pytest.mark.parametrize("column", ["en", "-1", "1.5"])
def test_tsv_column_must_be_a_number(tmp_path: Path, column: str) -> None:
    text = ParallelText(files=[write(tmp_path / "a.tsv", "a\tb\n")], source_field=column)
    assert f"source_field='{column}'" in failure(text, tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{'en': 1}", ["not valid JSON"]),
        ("", ["not valid JSON"]),
        ("[" * 100_000, ["not valid JSON"]),
        (r'{"en": "\ud800", "de": "x"}', ["not valid JSON", "surrogates not allowed"]),
        ('["en", "de"]', ["not a JSON object"]),
        ('{"EN": "x", "de": "y"}', ["no field 'en'. Did you mean 'EN'? There are: EN, de", "source_field"]),
        ('{"en": "x", "t": {"dee": "y"}}', ["no field 'de'", "There are: en, t.dee", "target_field"]),
        ("{}", ["There are: none"]),
        ('{"en": "x", "de": null}', ["field 'de' holds None, not a string"]),
        ('{"en": 5, "de": "y"}', ["field 'en' holds 5, not a string"]),
    ],
)
def test_jsonl_errors(tmp_path: Path, line: str, words: list[str]) -> None:
    name = write(tmp_path / "a.jsonl", f'{{"en": "x", "de": "y"}}\n{line}\n')
    message = failure(fields(files=[name]), tmp_path)
    assert all(word in message for word in ["a.jsonl, line 2: ", *words])


def test_escaped_emoji_in_json_is_text(tmp_path: Path) -> None:
    name = write(tmp_path / "a.jsonl", r'{"en": "\ud83d\ude00", "de": "x"}')
    assert list(read_pairs(fields(files=[name]), base=tmp_path)) == [("😀", "x")]


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    text = ParallelText(files=[write(tmp_path / "a.xlsx", "x")])
    with pytest.raises(UserError, match=r"a.xlsx: not a kind of file.*\.tsv"):
        read_pairs(text, base=tmp_path)


def test_parquet_through_datasets_in_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.readers._BATCH_ROWS", 7)
    pairs = [RawPair(f"s{n}", f"t\n{n}") for n in range(50)]
    rows = [{"id": n, "translation": {"en": s, "de": t}} for n, (s, t) in enumerate(pairs)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    text = fields(files=["a.parquet"], source_field="translation.en", target_field="translation.de")
    assert list(read_pairs(text, base=tmp_path)) == pairs
    named = fields(dataset="parquet", files=["a.parquet"], source_field="translation.em")
    assert "row 1: no field 'translation.em'. Did you mean 'translation.en'?" in failure(named, tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a[1]*?.csv"])
def test_csv_text_is_taken_as_it_stands(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, 'en,n,de\nNA,1,007\nNone,2,""\n1.0,x,"a ""b"", c"\n')
    text = fields(dataset="csv", files=[name])
    assert list(read_pairs(text, base=tmp_path)) == [("NA", "007"), ("None", ""), ("1.0", 'a "b", c')]
    assert paths(text, tmp_path) == [tmp_path / name]


def test_json_array_through_datasets(tmp_path: Path) -> None:
    rows = [{"en": s, "de": t} for s, t in PAIRS]
    text = fields(dataset="json", files=[write(tmp_path / "a.json", json.dumps(rows, indent=1))])
    assert list(read_pairs(text, base=tmp_path)) == PAIRS


def test_local_folder_through_datasets(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"en": ["a"], "de": ["b"]}), tmp_path / "corpus" / "test.parquet")
    text = fields(dataset="corpus", dataset_split="test")
    assert list(read_pairs(text, base=tmp_path)) == [("a", "b")]
    assert paths(text, tmp_path) == [tmp_path / "corpus" / "test.parquet"]
    assert "train" in failure(fields(dataset="corpus"), tmp_path)


def test_saved_datasets(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"en": ["a", "c"], "de": ["b", "d"]})
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"valid": rows}).save_to_disk(str(tmp_path / "many"))
    assert list(read_pairs(fields(dataset="one"), base=tmp_path)) == [("a", "b"), ("c", "d")]
    many = fields(dataset="many", dataset_split="valid")
    assert list(read_pairs(many, base=tmp_path)) == [("a", "b"), ("c", "d")]
    message = failure(fields(dataset="many", dataset_split="vald"), tmp_path)
    assert "no split 'vald'. Did you mean 'valid'?" in message


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.parquet", "no parquet", ["ArrowInvalid"]),
        ("a.csv", b"en,de\nx,\xff\n", ["UnicodeDecodeError"]),
        ("a.csv", "en,de\nx,y\na,b,c,d\n", ["ParserError", "line 3"]),
        ("a.csv", "", ["EmptyDataError"]),
        ("a.csv", "en,de\n", ["no rows"]),
        ("a.csv", "en,dee\nx,y\n", ["row 1: no field 'de'. Did you mean 'dee'?"]),
    ],
)
def test_files_that_datasets_cannot_read(tmp_path: Path, name: str, data: str | bytes, words: list[str]) -> None:
    message = failure(fields(files=[write(tmp_path / name, data)]), tmp_path)
    assert all(word in message for word in [name, *words])


@pytest.mark.parametrize("error", [ConnectionError("no network"), FileNotFoundError("no such name"), RuntimeError("x")])
def test_dataset_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    text = fields(dataset="someone/corpus")
    assert paths(text, tmp_path) == []
    message = failure(text, tmp_path)
    assert f"{type(error).__name__}: {error}" in message
    assert f"looked for at {tmp_path / 'someone' / 'corpus'}" in message
