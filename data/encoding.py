"""Segmented splits to vocabularies and ids, and what there is to report of them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from data.config import PrepareConfig
from data.dialogues import clip
from data.errors import UserError
from data.length_ratio import length_ratio
from data.report import PrepareReport, SideReport, SplitReport, VocabularyReport, percentiles
from data.rows import column, workers
from data.tokenizer import UNK_ID, Tokenizer

_SIDES = ("source", "target")
_LIST = datasets.List(datasets.Value("int32"))
_ENCODED = datasets.Features(
    {"source": _LIST, "target": _LIST, "why": datasets.Value("int8")}
    | {f"{side}_{what}": datasets.Value("int32") for side in _SIDES for what in ("tokens", "unknown")}
)
_KEPT, _BLANK, _OVERLONG, _TRUNCATED = range(4)


def encode_splits(
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
    for side, tokenizer in zip(_SIDES, tokenizers, strict=True):
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
            num_proc=workers(config.workers, len(rows)),
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
    # what is learnt from is what search goes by: not what was dropped, and no more than was kept
    kept = np.isin(column(encoded["train"], "why"), (_KEPT, _TRUNCATED))
    lengths = [column(encoded["train"], f"{side}_tokens")[kept].clip(max=config.max_length) for side in _SIDES]
    return PrepareReport(
        reports, sides[0], sides[1], length_ratio(*lengths), pairs_per_second=0.0, seconds=0.0, notes=[]
    )


def _count(rows: datasets.Dataset, name: str) -> Counter[str]:
    counts = Counter[str]()
    for batch in rows.select_columns([name]).iter(batch_size=10_000):
        for text in batch[name]:
            counts.update(text.split())
    return counts


def _train_tokenizers(config: PrepareConfig, source: Counter[str], target: Counter[str]) -> tuple[Tokenizer, Tokenizer]:
    if not config.shared_vocabulary:
        return Tokenizer.train(source, config.source), Tokenizer.train(target, config.target)
    shared = Tokenizer.train(source + target, config.source)
    return shared, shared.for_language(config.target.language)


def _encode_batch(
    batch: Mapping[str, list[str]],
    tokenizers: tuple[Tokenizer, Tokenizer],
    max_length: int,
    overlong: str,
    keep_end: bool,
) -> dict[str, list[Any]]:
    source, target = (
        tokenizer.encode_segmented(batch[f"{side}_text"]) for tokenizer, side in zip(tokenizers, _SIDES, strict=True)
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
    why = column(encoded, "why")
    kept = np.flatnonzero((why == _KEPT) | (why == _TRUNCATED))
    if not len(kept):
        raise UserError(f"no pair of {path.name} is left: all are blank or longer than max_length {config.max_length}")
    ids = encoded.select_columns(["source", "target"])
    ids = ids if len(kept) == len(ids) else ids.select(kept)
    # copied by this process: others would be started afresh here, which runs the caller's script once more
    ids.save_to_disk(path)


def _keys(rows: datasets.Dataset) -> npt.NDArray[np.uint64]:
    """(2, pairs): what tells a source sentence, and a pair, from others."""
    source, target = column(rows, "source_key"), column(rows, "target_key")
    return np.stack([source, source * np.uint64(0x9E3779B97F4A7C15) ^ target])


def _describe(
    name: str,
    encoded: datasets.Dataset,
    keys: npt.NDArray[np.uint64],
    train_keys: npt.NDArray[np.uint64] | None,
    fingerprints: dict[str, str],
) -> SplitReport:
    why = column(encoded, "why")
    if name == "test":
        why = np.full_like(why, _KEPT)  # it is scored as text, every line of it
    sides = []
    for side in _SIDES:
        tokens = column(encoded, f"{side}_tokens")
        unknown = column(encoded, f"{side}_unknown").sum(dtype=np.int64)
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
