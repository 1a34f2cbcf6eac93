import dataclasses
import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from rich.console import Console

from data import rows
from data.config import PrepareConfig
from data.corpus import PreparedCorpus, StreamedCorpus, training_corpus
from data.errors import UserError
from data.holdout import Holdout, group_key
from data.length_ratio import length_ratio
from data.prepare import prepare
from data.readers import ParallelText
from data.report import PrepareReport, percentiles, render
from data.tokenizer import UNK_ID, Tokenizer, TokenizerConfig

Pairs = Sequence[tuple[str, str]]
TRAIN: Pairs = [
    ("the cat sat .", "le chat assis ."),
    ("the dog sat .", "le chien assis ."),
    ("the cat ran and ran .", "le chat courait et courait ."),
    ("a dog ran .", "un chien courait ."),
]
VALID: Pairs = [("the cat ran .", "le chat courait ."), ("a cat sat", "un chat assis")]


def tsv(path: Path, pairs: Pairs) -> ParallelText:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    return ParallelText(files=path.name)


def settings(base: Path, train: Pairs = TRAIN, valid: Pairs = VALID, **options: Any) -> PrepareConfig:
    side = TokenizerConfig(min_count=1)
    files = {"train": tsv(base / "train.tsv", train)} | ({"valid": tsv(base / "valid.tsv", valid)} if valid else {})
    return PrepareConfig(**{**files, "source": side, "target": dataclasses.replace(side, language="fr"), **options})


def run(base: Path, out: str = "out", **options: Any) -> PrepareReport:
    return prepare(settings(base, **options), base / out, base=base)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def ids(folder: Path) -> list[tuple[list[int], list[int]]]:
    rows = datasets.load_from_disk(str(folder))
    return [(list(row["source"]), list(row["target"])) for row in rows]


def texts(out: Path, split: str = "train") -> list[tuple[str, str]]:
    source, target = (Tokenizer.load(out / f"{side}.model") for side in ("source", "target"))
    return [(source.decode(one), target.decode(two)) for one, two in ids(out / split)]


def shown(report: PrepareReport) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render(report))
    return capture.get()


def test_a_prepared_directory(tmp_path: Path) -> None:
    test = [("the cat sat .", "le chat assis ."), ("the bird sat", "l'oiseau assis")]
    report = run(tmp_path, test=tsv(tmp_path / "test.tsv", test))
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["source.model", "target.model", "train", "valid", "report.json", "config.yaml"]
        + [f"{split}.{side}" for split in ("valid", "test") for side in ("source", "reference")]
    )
    detokenized = [tuple(side.replace(" .", ".") for side in pair) for pair in TRAIN]
    assert texts(out) == detokenized
    assert texts(out, "valid") == [tuple(side.replace(" .", ".") for side in pair) for pair in VALID]
    assert lines(out / "test.source") == [source for source, _ in test]
    assert lines(out / "test.reference") == [target for _, target in test]
    assert {name: split.read for name, split in report.splits.items()} == {"train": 4, "valid": 2, "test": 2}
    assert report.source.size == len(Tokenizer.load(out / "source.model")) == 4 + 8
    assert report.source.distinct == 8
    assert Tokenizer.load(out / "target.model").language == "fr"


def test_report_and_settings_can_be_read_back(tmp_path: Path) -> None:
    report = run(tmp_path, max_length=7)
    loaded = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert loaded == json.loads(json.dumps(dataclasses.asdict(report)))
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text(encoding="utf-8"))
    assert saved.pop("base") == str(tmp_path)
    assert saved == dataclasses.asdict(settings(tmp_path, max_length=7))
    assert loaded["pairs_per_second"] == pytest.approx(6 / loaded["seconds"])


def test_the_figures_of_the_report(tmp_path: Path) -> None:
    train = [("a b c", "x y"), ("A b, c!", "x y."), ("a b c", "x z"), ("", "x"), ("d", " "), ("e " * 9, "x")]
    valid = [("a q q", "x"), ("b", "q"), ("a b c", "x y"), ("a b c", "w")]
    report = run(tmp_path, train=train, valid=valid, max_length=8, source=TokenizerConfig(min_count=2))
    one, two = report.splits["train"], report.splits["valid"]
    assert (one.read, one.kept, one.truncated) == (6, 3, 0)
    assert one.dropped == {"blank": 2, "overlong": 1}
    assert one.duplicates == 1  # whatever the case and punctuation
    assert (one.source_in_train, one.pair_in_train) == (None, None)
    assert (two.source_in_train, two.pair_in_train) == (2, 1)
    assert (two.read, two.kept, two.duplicates) == (4, 4, 0)
    # of a b c A b , c ! a b c d and nine e, train has A , ! d once
    assert (one.source.tokens, one.source.unknown) == (3 + 5 + 3 + 0 + 1 + 9, 4)
    assert report.source.coverage == pytest.approx(1 - 4 / 21)
    assert report.source.distinct == 8
    assert (two.source.tokens, two.source.unknown, two.source.unknown_rate) == (10, 2, 0.2)
    assert (two.target.tokens, two.target.unknown) == (5, 2)
    assert one.source.lengths == {5: 1, 50: 3, 95: 9, 99: 9, 100: 9}
    text = shown(report)
    for part in ("2 blank, 1 overlong", "19.05%", "80.95%", "20.00%", f"softmax: {report.target.size} outputs"):
        assert part in text


def test_length_figures() -> None:
    lengths = np.arange(1, 101, dtype=np.int32)
    assert percentiles(lengths) == {5: 6, 50: 51, 95: 96, 99: 100, 100: 100}
    assert percentiles(lengths[:0]) == {5: 0, 50: 0, 95: 0, 99: 0, 100: 0}
    ratio = length_ratio(np.array([2, 4, 0, 5], np.int32), np.array([2, 8, 7, 0], np.int32))
    assert (ratio.low, ratio.mean, ratio.high) == pytest.approx((1.005, 10 / 6, 1.995))


def test_overlong_pairs_are_dropped_or_truncated(tmp_path: Path) -> None:
    dropped, cut = (run(tmp_path, how, max_length=5, overlong=how) for how in ("drop", "truncate"))
    assert (dropped.splits["train"].dropped["overlong"], dropped.splits["train"].truncated) == (1, 0)
    assert (cut.splits["train"].dropped["overlong"], cut.splits["train"].truncated) == (0, 1)
    assert len(texts(tmp_path / "drop")) == 3
    assert texts(tmp_path / "truncate")[2] == ("the cat ran and ran", "le chat courait et courait")
    assert "1 overlong" in shown(dropped)


def test_lengths_are_those_of_what_is_learnt_from(tmp_path: Path) -> None:
    """Search takes its longest output from them: a source of a hundred words that is read as five must not count."""
    train = [("a " * 100, "x y"), ("b " * 100, "x y")]
    report = run(tmp_path, train=train, valid=train, max_length=5, overlong="truncate")
    assert report.length_ratio.high == pytest.approx(2 / 5)


def test_a_split_that_is_all_dropped(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pair of valid is left: all are blank or longer than max_length 4"):
        run(tmp_path, valid=[("a b c d e", "x"), ("", "y")], max_length=4)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_test_split_keeps_every_line(tmp_path: Path) -> None:
    test = [("the " * 30, "le"), ("", "le"), ("the", "le")]
    report = run(tmp_path, test=tsv(tmp_path / "test.tsv", test), max_length=9).splits["test"]
    assert (report.read, report.kept, report.dropped) == (3, 3, {"blank": 0, "overlong": 0})
    assert len(lines(tmp_path / "out" / "test.source")) == 3
    assert not (tmp_path / "out" / "test").exists()


def test_untouched_text_is_kept_for_scoring(tmp_path: Path) -> None:
    valid = [("ﬁne  CAT", "Un\u00a0chat !"), ("a\u2028b", "c\x0bd")]
    run(tmp_path, valid=valid, source=TokenizerConfig(lowercase=True, unicode="NFKC", min_count=1))
    assert (tmp_path / "out" / "valid.source").read_text(encoding="utf-8") == "ﬁne  CAT\na\u2028b\n"
    assert (tmp_path / "out" / "valid.reference").read_text(encoding="utf-8") == "Un\u00a0chat !\nc\x0bd\n"
    assert texts(tmp_path / "out", "valid")[0][0].startswith("<unk> cat")


def test_a_line_end_inside_a_sentence_shifts_no_line(tmp_path: Path) -> None:
    rows = [{"0": "one\ntwo", "1": "un\ndeux"}, {"0": "three", "1": "trois"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run(tmp_path, test=ParallelText(files="test.jsonl"))
    assert lines(tmp_path / "out" / "test.source") == ["one two", "three"]


CROWD: Pairs = [(f"sentence {i} .", f"phrase {i} {n} .") for i in range(40) for n in range(1 + i % 3)] + [
    ("Sentence 7!", "la phrase 7"),
    ("sentence 7 .", "phrase 7 0 ."),
]


@pytest.mark.parametrize("seed", range(4))
def test_holdout(tmp_path: Path, seed: int) -> None:
    report = run(tmp_path, train=CROWD, valid=[], holdout=Holdout(valid=10, test=12, seed=seed))
    out = tmp_path / "out"
    held = {name: lines(out / f"{name}.source") for name in ("valid", "test")}
    assert [len(held[name]) for name in held] == [10, 12]
    train = {group_key(source) for source, _ in texts(out)}
    assert len(train) == 40 - 22
    assert train.isdisjoint(map(group_key, held["valid"] + held["test"]))
    assert {group_key(source) for source in held["valid"]}.isdisjoint(map(group_key, held["test"]))
    for name, sources in held.items():
        files = sorted(out.glob(f"{name}.reference*"))
        assert [path.name for path in files] == [f"{name}.reference{n or ''}" for n in range(len(files))]
        references = [lines(path) for path in files]
        for row, source in enumerate(sources):
            known = list(dict.fromkeys(target for one, target in CROWD if one == source))
            assert [column[row] for column in references] == known + known[:1] * (len(files) - len(known))
        assert report.splits[name].source_in_train == 0
        assert f"{name}: {len(sources)} sentences held out" in shown(report)
    rows = sum(split.read for split in report.splits.values())
    left_out = sum(int(note.split("each; ")[1].split()[0]) for note in report.notes)
    assert rows + left_out == len(CROWD)
    assert left_out == (0 if group_key("sentence 7") in train else 1)


def test_holdout_of_target_sentences(tmp_path: Path) -> None:
    train = [(f"source {i} {n}", f"target {i}") for i in range(20) for n in range(2)]
    run(tmp_path, train=train, valid=[], holdout=Holdout(valid=5, side="target"))
    held = set(lines(tmp_path / "out" / "valid.reference"))
    assert len(held) == 5
    assert held.isdisjoint(target for _, target in texts(tmp_path / "out"))


def test_impossible_holdouts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leaves no pair to train on"):
        run(tmp_path, valid=[], holdout=Holdout(valid=4))
    with pytest.raises(UserError, match="but the corpus has 4"):
        run(tmp_path, valid=[], holdout=Holdout(valid=5))
    with pytest.raises(UserError, match=r"--holdout\.valid 1 and files for valid exclude each other"):
        run(tmp_path, holdout=Holdout(valid=1))
    with pytest.raises(UserError, match=r"--holdout\.test 1 cannot be taken from a streamed corpus"):
        run(tmp_path, holdout=Holdout(test=1), stream=True)


def test_a_shared_vocabulary(tmp_path: Path) -> None:
    report = run(tmp_path, shared_vocabulary=True, target=TokenizerConfig(level="char", language="fr", lowercase=True))
    source, target = (Tokenizer.load(tmp_path / "out" / f"{side}.model") for side in ("source", "target"))
    assert source.tokens(range(len(source))) == target.tokens(range(len(target)))
    assert (source.language, target.language, target.level, target.lowercase) == ("en", "fr", "word", False)
    assert report.source.size == report.target.size
    assert UNK_ID not in source.encode("the chien sat .")
    assert texts(tmp_path / "out")[1] == ("the dog sat.", "le chien assis.")


@pytest.mark.parametrize("level", ["word", "char", "bpe", "unigram"])
def test_every_level(tmp_path: Path, level: Any) -> None:
    side = TokenizerConfig(level=level, vocab_size=40, min_count=1)
    report = run(tmp_path, source=side, target=side)
    assert report.source.level == level
    assert [one.replace(" .", ".") for one, _ in texts(tmp_path / "out")] == [
        one.replace(" .", ".") for one, _ in TRAIN
    ]
    assert report.splits["train"].source.unknown == 0


def test_more_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_PARALLEL_ROWS", 10)
    processes: set[int | None] = set()
    map_rows = datasets.Dataset.map

    def spy(self: datasets.Dataset, *arguments: Any, **options: Any) -> datasets.Dataset:
        processes.add(options["num_proc"])
        return map_rows(self, *arguments, **options)

    monkeypatch.setattr(datasets.Dataset, "map", spy)
    pairs = [*CROWD, ("", "x"), ("y " * 30, "z")]
    one, two = (
        run(tmp_path, f"workers{n}", train=pairs, valid=[], holdout=Holdout(valid=3), max_length=20, workers=n)
        for n in (1, 2)
    )
    first, second = tmp_path / "workers1", tmp_path / "workers2"
    assert processes == {None, 2}
    for split in ("train", "valid"):
        assert ids(first / split) == ids(second / split)
    same = [path.name for path in first.iterdir() if path.is_file() and path.name not in ("report.json", "config.yaml")]
    assert len(same) > 4
    for name in same:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert dataclasses.replace(one, seconds=0.0, pairs_per_second=0.0) == dataclasses.replace(
        two, seconds=0.0, pairs_per_second=0.0
    )


def test_errors_of_the_readers_come_through_from_every_process(tmp_path: Path) -> None:
    config = settings(tmp_path)
    (tmp_path / "train.tsv").write_bytes(b"a\tb\nno tab\n")
    with pytest.raises(UserError, match=r"train\.tsv, line 2: 1 tab-separated column"):
        prepare(config, tmp_path / "out", base=tmp_path)
    (tmp_path / "train.tsv").write_bytes(b"")
    with pytest.raises(UserError, match=r"train\.tsv: the file is empty"):
        prepare(config, tmp_path / "out", base=tmp_path)
    assert not (tmp_path / "out").exists()


def test_needed_splits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no validation text: give --valid\.source"):
        run(tmp_path, valid=[])
    with pytest.raises(UserError, match=r"no training text: give --train\.source"):
        prepare(PrepareConfig(), tmp_path / "out")


@pytest.mark.parametrize(("name", "value"), [("max_length", 0), ("stream_sample", 0), ("workers", -1)])
def test_impossible_numbers(name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{name} {value}: give "):
        PrepareConfig(**{name: value})


def test_streaming_writes_no_training_ids(tmp_path: Path) -> None:
    train = [*TRAIN, ("an owl flew", "un hibou volait"), ("", "rien")]
    report = run(tmp_path, train=train, stream=True, stream_sample=4, max_length=5)
    out = tmp_path / "out"
    assert not (out / "train").exists()
    assert (out / "valid").is_dir()
    assert report.splits["train"].read == 4
    assert "its first 4 pairs" in shown(report)
    source, target = (Tokenizer.load(out / f"{side}.model") for side in ("source", "target"))
    assert source.encode("an owl flew") == [UNK_ID] * 3
    saved = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    corpus = training_corpus(out, saved, (source, target))
    assert isinstance(corpus, StreamedCorpus)
    (pool,) = corpus.pools(1, 0)
    assert pool.rows.tolist() == [0, 1, 3, 4]
    assert corpus.dropped == {"blank": 1, "overlong": 1}
    corpus = training_corpus(out, saved | {"shuffle_within": 3}, (source, target))
    assert [pool.rows.tolist() for pool in corpus.pools(1, 0)] == [[0, 1, 3], [4]]


def test_without_streaming_the_prepared_ids_are_trained_on(tmp_path: Path) -> None:
    run(tmp_path)
    out = tmp_path / "out"
    tokenizers = (Tokenizer.load(out / "source.model"), Tokenizer.load(out / "target.model"))
    saved = yaml.safe_load((out / "config.yaml").read_text())
    corpus = training_corpus(out, saved, tokenizers)
    assert isinstance(corpus, PreparedCorpus)
    assert len(corpus) == 4
    del saved["shuffle_within"]  # as in data of earlier versions
    (pool,) = training_corpus(out, saved, tokenizers).pools(1, 0)
    assert sorted(pool.rows.tolist()) == [0, 1, 2, 3]
    in_order = training_corpus(out, saved | {"shuffle_within": 3}, tokenizers)
    assert [pool.rows.tolist() for pool in in_order.pools(1, 0)] == [[0, 1, 2], [3]]


def test_fingerprints_name_the_files_that_were_read(tmp_path: Path) -> None:
    packed = tmp_path / "more.tsv.gz"
    packed.write_bytes(gzip.compress(b"a cat\tun chat\n"))
    config = settings(tmp_path)
    config = dataclasses.replace(config, train=ParallelText(files=["train.tsv", "more.tsv.gz"]))
    report = prepare(config, tmp_path / "out", base=tmp_path)
    assert report.splits["train"].read == 5
    assert report.splits["train"].fingerprints == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("train.tsv", "more.tsv.gz")
    }
    assert list(report.splits["valid"].fingerprints) == ["valid.tsv"]


def test_file_names_are_looked_up_in_the_working_directory_or_in_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"train\.tsv: no such file"):
        prepare(config, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    report = prepare(config, tmp_path / "out")
    assert report.splits["train"].fingerprints.keys() == {"train.tsv"}
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["base"] == str(tmp_path)


def test_overwriting(tmp_path: Path) -> None:
    run(tmp_path)
    report = (tmp_path / "out" / "report.json").read_bytes()
    with pytest.raises(UserError, match="exists already: choose another place, or allow it with --overwrite"):
        run(tmp_path)
    assert (tmp_path / "out" / "report.json").read_bytes() == report
    prepare(settings(tmp_path, max_length=5), tmp_path / "out", base=tmp_path, overwrite=True)
    assert len(texts(tmp_path / "out")) == 3
    with pytest.raises(UserError):
        prepare(settings(tmp_path, max_length=1), tmp_path / "out", base=tmp_path, overwrite=True)
    assert len(texts(tmp_path / "out")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "train.tsv", "valid.tsv"]


def test_overwriting_takes_nothing_else_away(tmp_path: Path) -> None:
    config = settings(tmp_path)
    with pytest.raises(UserError, match="holds no prepared data, so it is not replaced"):
        prepare(config, tmp_path, base=tmp_path, overwrite=True)
    file = tmp_path / "train.tsv"
    with pytest.raises(UserError, match=r"train\.tsv: holds no prepared data, so it is not replaced"):
        prepare(config, file, base=tmp_path, overwrite=True)
    prepare(config, tmp_path / "out", base=tmp_path)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt: not written by this command, so .* is not replaced"):
        prepare(config, tmp_path / "out", base=tmp_path, overwrite=True)
    (tmp_path / "out" / "notes.txt").unlink()
    inside = dataclasses.replace(config, test=ParallelText(source="out/valid.source", target="out/valid.reference"))
    with pytest.raises(UserError, match=r"valid\.source: is read, so .* cannot be replaced"):
        prepare(inside, tmp_path / "out", base=tmp_path, overwrite=True)
    assert len(texts(tmp_path / "out")) == 4
    assert len(lines(file)) == 4
