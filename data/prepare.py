"""The prepare stage: raw parallel text to tokenizers, memory-mapped ids and a report of what was kept.

A prepared directory holds
    source.model target.model    tokenizers
    train/ valid/                ids as Arrow files, memory-mapped when read
    NAME.source NAME.reference*  the untouched text of valid and test, one sentence a line
    report.json config.yaml      what was done, and with which settings
"""

import itertools
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import yaml

from data.config import PrepareConfig
from data.encoding import encode_splits
from data.errors import UserError
from data.files import atomic_directory
from data.holdout import group_keys, hold_out
from data.readers import ParallelText, paths, read_pairs
from data.report import PrepareReport, write_report
from data.rows import workers, write_lines
from data.text_files import fingerprint
from data.tokenizer import TokenizerConfig, segment

_TEXT = datasets.Value("string")
_RAW = datasets.Features({"source": _TEXT, "target": _TEXT, "opening": _TEXT})
_KEYS = {"source_key": datasets.Value("uint64"), "target_key": datasets.Value("uint64")}
_SEGMENTED = datasets.Features({**_RAW, "source_text": _TEXT, "target_text": _TEXT, **_KEYS})
_WRITTEN = ("source.model", "target.model", "train", "valid", "report.json", "config.yaml", "*.source", "*.reference*")


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
            write_lines(folder / f"{name}.source", splits[name]["source"])
            write_lines(folder / f"{name}.reference", splits[name]["target"])
        notes = hold_out(splits, config.holdout, folder, dialogues=config.train.history > 0)
        if "valid" not in splits:
            raise UserError("no validation text: give --valid.source and --valid.target, or --holdout.valid 1000")
        fingerprints = {
            name: {str(p): fingerprint(base / p if base else p) for p in map(Path, _names(text, base))}
            for name, text in given.items()
        }
        report = encode_splits(splits, config, folder, scratch, fingerprints)
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
        num_proc=workers(config.workers, len(raw)),
    )


def _raw_rows(text: ParallelText, base: Path | None, limit: int | None) -> Iterator[dict[str, str]]:
    for pair in itertools.islice(read_pairs(text, base=base), limit):
        yield {"opening": "", **pair._asdict()}


def _segment_batch(
    batch: Mapping[str, list[str]], source: TokenizerConfig, target: TokenizerConfig
) -> dict[str, list[str] | npt.NDArray[np.uint64]]:
    made: dict[str, list[str] | npt.NDArray[np.uint64]] = {}
    for side, how in (("source", source), ("target", target)):
        made[f"{side}_text"] = [segment(text, how) for text in batch[side]]
        made[f"{side}_key"] = group_keys(batch[side])
    return made
