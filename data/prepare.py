"""The prepare stage: raw parallel text to tokenizers, memory-mapped ids and a report of what was kept.

A prepared directory holds
    source.model target.model    tokenizers
    train/ valid/                ids as Arrow files, memory-mapped when read
    NAME.source NAME.reference*  the untouched text of valid and test, one sentence a line
    report.json config.yaml      what was done, and with which settings
"""

import itertools
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import numpy.typing as npt
import yaml

from data.dialogues import clip
from data.errors import UserError
from data.files import atomic_directory
from data.holdout import TEST, TRAIN, VALID, Holdout, group_keys, split_pairs
from data.length_ratio import length_ratio
from data.readers import ParallelText, fingerprint, paths, read_pairs
from data.report import (
    PrepareReport,
    SideReport,
    SplitReport,
    VocabularyReport,
    percentiles,
    write_report,
)
from data.tokenizer import UNK_ID, Tokenizer, TokenizerConfig, segment

_TEXT = datasets.Value("string")
_RAW = datasets.Features({"source": _TEXT, "target": _TEXT, "opening": _TEXT})
_KEYS = {"source_key": datasets.Value("uint64"), "target_key": datasets.Value("uint64")}
_SEGMENTED = datasets.Features({**_RAW, "source_text": _TEXT, "target_text": _TEXT, **_KEYS})
_LIST = datasets.List(datasets.Value("int32"))
_ENCODED = datasets.Features(
    {"source": _LIST, "target": _LIST, "why": datasets.Value("int8")}
    | {f"{side}_{what}": datasets.Value("int32") for side in ("source", "target") for what in ("tokens", "unknown")}
)
_KEPT, _BLANK, _OVERLONG, _TRUNCATED = range(4)
_PARALLEL_ROWS = 20_000  # fewer are done before another process has started
_WRITTEN = ("source.model", "target.model", "train", "valid", "report.json", "config.yaml", "*.source", "*.reference*")


@dataclass(frozen=True)
class PrepareConfig:
    """What the prepare stage does.

    Args:
        train: The sentence pairs to learn from.
        valid: The pairs that training is steered by; or held out of train with holdout.valid.
        test: The pairs that the finished model is scored on; optional, or held out with holdout.test.
        holdout: How many sentences of train to set aside where a corpus has no official split; of dialogues, how many
            whole ones, where all that open with the same turn count as one.
        source: How source text becomes ids.
        target: How target text becomes ids.
        shared_vocabulary: One vocabulary learnt from both sides; level, size and casing are those of `source`.
        max_length: The most tokens on either side of a training pair.
        overlong: What happens to longer pairs of train and valid: drop them (counted) or truncate them, the source of
            a dialogue at its beginning and all other text at its end. A model that learnt from truncated text will
            truncate what it is given in the same way.
        stream: Do not write the training ids but read the training files anew in every epoch (for files too
            large to prepare); the vocabulary is then learnt from the first `stream_sample` pairs.
        stream_sample: How many pairs the vocabulary of a streamed corpus is learnt from.
        shuffle_within: Train on the pairs in the order of their files, shuffled only among so many neighbours (a
            curriculum); 0 shuffles them all, or what a pool of a streamed corpus holds.
        workers: Processes that work side by side; 0 is one for each processor core.
    """

    train: ParallelText = field(default_factory=ParallelText)
    valid: ParallelText = field(default_factory=ParallelText)
    test: ParallelText = field(default_factory=ParallelText)
    holdout: Holdout = field(default_factory=Holdout)
    source: TokenizerConfig = field(default_factory=TokenizerConfig)
    target: TokenizerConfig = field(default_factory=TokenizerConfig)
    shared_vocabulary: bool = False
    max_length: int = 100
    overlong: Literal["drop", "truncate"] = "drop"
    stream: bool = False
    stream_sample: int = 1_000_000
    shuffle_within: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_length", 1), ("stream_sample", 1), ("shuffle_within", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} {getattr(self, name)}: give {least} or more")


def prepare(config: PrepareConfig, out: Path, *, base: Path | None = None, overwrite: bool = False) -> PrepareReport:
    """Run the prepare stage and write the prepared directory `out`, whole or not at all.

    Args:
        base: The folder that relative file names are looked up in.
        overwrite: Replace `out` if it exists; never a directory that holds anything else than prepared data.

    Raises:
        UserError: a file is missing or damaged, `out` exists, or a split that is needed is empty.
    """
    started = time.monotonic()
    datasets.disable_progress_bars()
    given = _given(config)
    with atomic_directory(out, overwrite=overwrite) as folder:
        _check_replaceable(out, [path for text in given.values() for path in paths(text, base)])
        scratch = folder / "scratch"
        scratch.mkdir()
        splits = {name: _segment(name, text, config, scratch, base) for name, text in given.items()}
        for name in splits.keys() - {"train"}:
            _write_lines(folder / f"{name}.source", splits[name]["source"])
            _write_lines(folder / f"{name}.reference", splits[name]["target"])
        notes = _hold_out(splits, config.holdout, folder, dialogues=config.train.history > 0)
        if "valid" not in splits:
            raise UserError("no validation text: give --valid.source and --valid.target, or --holdout.valid 1000")
        fingerprints = {
            name: {str(p): fingerprint(base / p if base else p) for p in map(Path, _names(text, base))}
            for name, text in given.items()
        }
        report = _encode_splits(splits, config, folder, scratch, fingerprints)
        shutil.rmtree(scratch)
        if config.stream:
            notes.append(f"train is streamed: the figures are those of its first {report.splits['train'].read:,} pairs")
        seconds = time.monotonic() - started
        read = sum(split.read for split in report.splits.values())
        report = replace(report, notes=notes, seconds=seconds, pairs_per_second=read / seconds)
        write_report(report, folder / "report.json")
        resolved = asdict(config) | {"base": str((base or Path()).resolve())}
        text = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    return report


def _given(config: PrepareConfig) -> dict[str, ParallelText]:
    splits = {"train": config.train, "valid": config.valid, "test": config.test}
    given = {name: text for name, text in splits.items() if text != ParallelText()}
    if "train" not in given:
        raise UserError("no training text: give --train.source FILE --train.target FILE, or --train.files FILE")
    if config.train.history and config.holdout.side != "source":
        raise UserError("holdout.side target cannot be had of dialogues, which are held out whole: leave it at source")
    for name, text in given.items():
        if text.history != config.train.history:
            raise UserError(
                f"{name}.history is {text.history}, but train.history is {config.train.history}: a model reads the "
                "same turns everywhere: give both the same"
            )
    for name, wanted in (("valid", config.holdout.valid), ("test", config.holdout.test)):
        if wanted and name in given:
            raise UserError(f"--holdout.{name} {wanted} and files for {name} exclude each other: give one of them")
        if wanted and config.stream:
            raise UserError(f"--holdout.{name} {wanted} cannot be taken from a streamed corpus: give files for {name}")
    return given


def _check_replaceable(out: Path, inputs: list[Path]) -> None:
    """Overwriting must cost the user nothing that preparing once more does not bring back."""
    if not out.exists():
        return
    found = sorted(out.iterdir()) if out.is_dir() else [out]
    if found and not (out / "report.json").is_file():
        raise UserError(f"{out}: holds no prepared data, so it is not replaced: choose another --out")
    for path in found:
        if not any(path.match(name) for name in _WRITTEN):
            raise UserError(f"{path}: not written by this command, so {out} is not replaced: choose another --out")
    for path in inputs:
        if path.resolve().is_relative_to(out.resolve()):
            raise UserError(f"{path}: is read, so {out} around it cannot be replaced: choose another --out")


def _names(text: ParallelText, base: Path | None) -> list[str]:
    """The local files of a split as the user named them: a report must not depend on where the corpus lies."""
    return [str(p.relative_to(base)) if base and p.is_relative_to(base) else str(p) for p in paths(text, base)]


def _workers(config: PrepareConfig, rows: int) -> int | None:
    """Processes worth starting for so many rows; None is this process alone."""
    wanted = config.workers or os.cpu_count() or 1
    return None if wanted == 1 or rows < _PARALLEL_ROWS else wanted


def _segment(
    name: str, text: ParallelText, config: PrepareConfig, scratch: Path, base: Path | None
) -> datasets.Dataset:
    """The raw and the segmented text of a split, with keys that tell repeated sentences, as a mapped Arrow file."""
    limit = config.stream_sample if config.stream and name == "train" else None
    try:
        raw = datasets.Dataset.from_generator(
            _raw_rows,
            gen_kwargs={"text": text, "base": base, "limit": limit},
            features=_RAW,
            cache_dir=str(scratch / name),
        )
    except datasets.exceptions.DatasetGenerationError as error:
        # what the reader had to say is wrapped up in it
        raise error.__cause__ or error from None
    target = replace(config.source, language=config.target.language) if config.shared_vocabulary else config.target
    return raw.map(
        _segment_batch,
        batched=True,
        fn_kwargs={"source": config.source, "target": target},
        features=_SEGMENTED,
        cache_file_name=str(scratch / f"{name}.segmented.arrow"),
        num_proc=_workers(config, len(raw)),
    )


def _raw_rows(text: ParallelText, base: Path | None, limit: int | None) -> Iterator[dict[str, str]]:
    for pair in itertools.islice(read_pairs(text, base=base), limit):
        yield {"opening": "", **pair._asdict()}


def _segment_batch(
    batch: Mapping[str, list[str]], source: TokenizerConfig, target: TokenizerConfig
) -> dict[str, list[str] | npt.NDArray[np.uint64]]:
    made: dict[str, list[str] | npt.NDArray[np.uint64]] = {}
    for side, how in (("source", source), ("target", target)):
        made[f"{side}_text"] = [
            segment(text, how.level, how.language, how.lowercase, how.unicode) for text in batch[side]
        ]
        made[f"{side}_key"] = group_keys(batch[side])
    return made


def _column(rows: datasets.Dataset, name: str) -> npt.NDArray[Any]:
    # of chosen rows all at once, Arrow would make a table for each row
    batches = rows.select_columns([name]).with_format("arrow").iter(batch_size=10_000)
    return np.concatenate([batch[name].to_numpy() for batch in batches])


def _hold_out(
    splits: dict[str, datasets.Dataset], holdout: Holdout, folder: Path, *, dialogues: bool = False
) -> list[str]:
    """Move held-out sentences from train to splits of their own and write each with all of its translations.

    Spellings of one sentence ("Go!", "go.") leave train together; the first of them stands in the split. Of
    `dialogues`, it is whole ones that leave, and with each all that open in the same way.
    """
    if not holdout.valid and not holdout.test:
        return []
    train = splits["train"]
    keys = group_keys(_column(train, "opening")) if dialogues else _column(train, f"{holdout.side}_key")
    where = split_pairs(keys, holdout)
    notes = []
    for name, code in (("valid", VALID), ("test", TEST)):
        rows = np.flatnonzero(where == code)
        if not len(rows):
            continue
        first: dict[int, str] = {}
        references: dict[str, list[str]] = {}
        kept = []
        for index, row in zip(rows.tolist(), train.select(rows), strict=True):
            spelling = first.setdefault(row["source_key"], row["source"])
            if row["source"] == spelling:
                kept.append(index)
                known = references.setdefault(spelling, [])
                if row["target"] not in known:
                    known.append(row["target"])
        splits[name] = train.select(kept)
        _write_lines(folder / f"{name}.source", references)
        most = max(map(len, references.values()))
        for n in range(most):
            # a sentence with fewer translations than others repeats its first, which changes no BLEU; a blank line
            # would count as a translation of no words
            column = (each[n] if n < len(each) else each[0] for each in references.values())
            _write_lines(folder / f"{name}.reference{n or ''}", column)
        notes.append(
            f"{name}: {len(references):,} sentences held out of train with up to {most} translations each; "
            f"{len(rows) - len(kept):,} pairs with another spelling of one of them were left out of every split"
        )
    rows = np.flatnonzero(where == TRAIN)
    if not len(rows):
        raise UserError(f"holdout leaves no pair to train on (of {len(train):,}): lower --holdout.valid or .test")
    splits["train"] = train.select(rows)
    return notes


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        # a line end inside a field of JSON would shift every later line
        file.writelines(line.replace("\n", " ") + "\n" for line in lines)


def _count(rows: datasets.Dataset, column: str) -> Counter[str]:
    counts = Counter[str]()
    for batch in rows.select_columns([column]).iter(batch_size=10_000):
        for text in batch[column]:
            counts.update(text.split())
    return counts


def _train_tokenizers(config: PrepareConfig, source: Counter[str], target: Counter[str]) -> tuple[Tokenizer, Tokenizer]:
    if not config.shared_vocabulary:
        return Tokenizer.train(source, config.source), Tokenizer.train(target, config.target)
    shared = Tokenizer.train(source + target, config.source)
    return shared, shared.for_language(config.target.language)


def _encode_splits(
    splits: dict[str, datasets.Dataset],
    config: PrepareConfig,
    folder: Path,
    scratch: Path,
    fingerprints: dict[str, dict[str, str]],
) -> PrepareReport:
    """Learn the vocabularies, write tokenizers and ids, and describe every split."""
    train = splits["train"]
    counts = [_count(train, "source_text"), _count(train, "target_text")]
    tokenizers = _train_tokenizers(config, *counts)
    for side, tokenizer in zip(("source", "target"), tokenizers, strict=True):
        tokenizer.save(folder / f"{side}.model")
    train_keys = _keys(train)
    encoded: dict[str, datasets.Dataset] = {}
    reports: dict[str, SplitReport] = {}
    for name, rows in splits.items():
        encoded[name] = rows.map(
            _encode_batch,
            batched=True,
            fn_kwargs={
                "tokenizers": tokenizers,
                "max_length": config.max_length,
                "overlong": config.overlong,
                "keep_end": config.train.history > 0,
            },
            remove_columns=rows.column_names,
            features=_ENCODED,
            cache_file_name=str(scratch / f"{name}.encoded.arrow"),
            num_proc=_workers(config, len(rows)),
        )
        keys, against = (train_keys, None) if name == "train" else (_keys(rows), train_keys)
        reports[name] = _describe(name, encoded[name], keys, against, fingerprints.get(name, {}))
        if name == "valid" or (name == "train" and not config.stream):
            _save_ids(encoded[name], folder / name, config)
    sides = [
        VocabularyReport(
            level=tokenizer.level,
            size=len(tokenizer),
            distinct=len(count),
            coverage=1 - side.unknown_rate,
        )
        for tokenizer, count, side in zip(
            tokenizers, counts, (reports["train"].source, reports["train"].target), strict=True
        )
    ]
    lengths = [_column(encoded["train"], f"{side}_tokens") for side in ("source", "target")]
    return PrepareReport(
        reports, sides[0], sides[1], length_ratio(*lengths), pairs_per_second=0.0, seconds=0.0, notes=[]
    )


def _encode_batch(
    batch: Mapping[str, list[str]],
    tokenizers: tuple[Tokenizer, Tokenizer],
    max_length: int,
    overlong: str,
    keep_end: bool,
) -> dict[str, list[Any]]:
    source, target = (
        tokenizer.encode_segmented(batch[f"{side}_text"])
        for tokenizer, side in zip(tokenizers, ("source", "target"), strict=True)
    )
    made: dict[str, list[Any]] = {
        "source_tokens": [len(ids) for ids in source],
        "target_tokens": [len(ids) for ids in target],
        "source_unknown": [ids.count(UNK_ID) for ids in source],
        "target_unknown": [ids.count(UNK_ID) for ids in target],
    }
    why = []
    for one, two in zip(source, target, strict=True):
        if not one or not two:
            why.append(_BLANK)
        elif max(len(one), len(two)) <= max_length:
            why.append(_KEPT)
        else:
            why.append(_OVERLONG if overlong == "drop" else _TRUNCATED)
    return made | {
        "why": why,
        "source": [clip(i, max_length, end=keep_end) for i in source],
        "target": [i[:max_length] for i in target],
    }


def _save_ids(encoded: datasets.Dataset, path: Path, config: PrepareConfig) -> None:
    why = _column(encoded, "why")
    kept = np.flatnonzero((why == _KEPT) | (why == _TRUNCATED))
    if not len(kept):
        raise UserError(f"no pair of {path.name} is left: all are blank or longer than max_length {config.max_length}")
    ids = encoded.select_columns(["source", "target"])
    ids = ids if len(kept) == len(ids) else ids.select(kept)
    # copied by this process: others would be started afresh here, which runs the caller's script once more
    ids.save_to_disk(path)


def _keys(rows: datasets.Dataset) -> npt.NDArray[np.uint64]:
    """(2, pairs): what tells a source sentence, and a pair, from others."""
    source, target = _column(rows, "source_key"), _column(rows, "target_key")
    return np.stack([source, source * np.uint64(0x9E3779B97F4A7C15) ^ target])


def _describe(
    name: str,
    encoded: datasets.Dataset,
    keys: npt.NDArray[np.uint64],
    train_keys: npt.NDArray[np.uint64] | None,
    fingerprints: dict[str, str],
) -> SplitReport:
    why = _column(encoded, "why")
    if name == "test":
        why = np.full_like(why, _KEPT)  # it is scored as text, every line of it
    sides = []
    for side in ("source", "target"):
        tokens = _column(encoded, f"{side}_tokens")
        unknown = _column(encoded, f"{side}_unknown").sum(dtype=np.int64)
        sides.append(SideReport(int(tokens.sum(dtype=np.int64)), int(unknown), percentiles(tokens)))
    inside = [None, None] if train_keys is None else [int(np.isin(keys[i], train_keys[i]).sum()) for i in (0, 1)]
    return SplitReport(
        read=len(encoded),
        kept=int(((why == _KEPT) | (why == _TRUNCATED)).sum()),
        dropped={"blank": int((why == _BLANK).sum()), "overlong": int((why == _OVERLONG).sum())},
        truncated=int((why == _TRUNCATED).sum()),
        source=sides[0],
        target=sides[1],
        duplicates=len(encoded) - len(np.unique(keys[1])),
        source_in_train=inside[0],
        pair_in_train=inside[1],
        fingerprints=fingerprints,
    )
