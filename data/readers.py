"""Readers of parallel text and dialogues: line-aligned files, TSV, JSONL, and whatever Hugging Face `datasets` loads.

Every reader streams, so that a corpus need not fit in memory; what cannot be read raises a `UserError`.
"""

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from data.dialogues import parse_conversations, split_dialogue
from data.errors import UserError
from data.fields import find_field, nearest, shorten, string_field
from data.text_files import fail_reading, read_lines, read_records, resolve

_BATCH_ROWS = 1000
DATASET_FILES = ("arrow", "csv", "json", "parquet")  # kinds of files that `datasets` reads
_KINDS = {".tsv": "tsv", ".txt": "tsv", ".json": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_KINDS |= {".csv": "csv", ".parquet": "parquet", ".yml": "yaml", ".yaml": "yaml"}


class RawPair(NamedTuple):
    """One sentence and its translation, as they stand in the data."""

    source: str
    target: str


class Reply(NamedTuple):
    """Some turns of a dialogue and the reply to them; `opening` is the dialogue's first turn."""

    source: str
    target: str
    opening: str


Pair: TypeAlias = RawPair | Reply


@dataclass(frozen=True)
class ParallelText:
    """Where the sentence pairs of one split stand: `source` and `target`, or `files`, or `dataset`.

    Args:
        source: plain text files, one sentence a line; several are read one after the other; `.gz` is unpacked
        target: their translations, line for line and file for file
        files: files of both sides, each read by its extension: TSV (`.tsv`, `.txt`), JSON with an object a
            line (`.jsonl`, `.ndjson`, `.json`), CSV with a header line (`.csv`), Parquet; `.gz` as well; a name
            with `*` in it stands for all files that fit, in alphabetical order
        dataset: what `datasets.load_dataset` loads: "csv", "json", "parquet" or "arrow" to read `files`, a
            local folder (also one written by `save_to_disk`), or a name on the Hugging Face hub
        dataset_config: configuration of the dataset, for a dataset that has several
        dataset_split: split of the dataset
        source_field: the number of a TSV column, counted from 0, or the name of a JSON, CSV or dataset field;
            "translation.de" is the field "de" inside the field "translation"
        target_field: the column or field of the target, in the same way
        history: above 0, `files` or `dataset` hold dialogues, and each turn but the first is the target of a pair
            whose source is at most so many turns before it. A dialogue is a line of a TSV file, its turns between
            tabs; or a JSON object, or a row of Parquet or of a dataset, with a list of turns; or one of the
            `conversations` of a YAML file (`.yml`), as in the chatterbot-corpus
        turns_field: the field with the list of turns; "messages.content" is the field "content" of each of "messages"
    """

    source: str | list[str] = field(default_factory=list)
    target: str | list[str] = field(default_factory=list)
    files: str | list[str] = field(default_factory=list)
    dataset: str | None = None
    dataset_config: str | None = None
    dataset_split: str = "train"
    source_field: str | int = "0"
    target_field: str | int = "1"
    history: int = 0
    turns_field: str = "turns"

    def __post_init__(self) -> None:
        for name in ("source", "target", "files"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, [value])


def read_pairs(text: ParallelText, *, base: Path | None = None) -> Iterator[Pair]:
    """Read the sentence pairs one by one, in the order of the files, in constant memory.

    Args:
        text: where the pairs stand
        base: folder that relative paths start from; the working directory if None

    Raises:
        UserError: at once if `text` does not say where the pairs stand, or a file is missing or is a folder;
            while reading if a file is empty, damaged, not UTF-8 or not readable, if source and target differ
            in their number of lines, or if a column or field is missing or is not a string
    """
    local = paths(text, base)
    if text.source:
        middle = len(text.source)
        return chain.from_iterable(map(_aligned_pairs, local[:middle], local[middle:]))
    if text.dataset is not None:
        return _dataset_pairs(text, text.dataset, base, local)
    return chain.from_iterable([_file_pairs(path, text) for path in local])


def paths(text: ParallelText, base: Path | None = None) -> list[Path]:
    """The local files that `read_pairs` reads: source files before target files; none for a hub dataset.

    Raises:
        UserError: `text` does not say where the pairs stand, or a file is missing or is a folder
    """
    _check_given(text)
    if text.dataset is not None and text.dataset not in DATASET_FILES:
        folder = resolve(text.dataset, base)
        found = [folder / name for name in text.files] or sorted(folder.rglob("*"))
        return [path for path in found if path.is_file()]
    files = chain.from_iterable(_matching(name, base) for name in text.files)
    local = [*(resolve(name, base) for name in (*text.source, *text.target)), *files]
    for path in local:
        try:
            if path.is_dir():
                raise IsADirectoryError
            path.stat()
        except OSError as error:
            fail_reading(path, error)
    return local


def _check_given(text: ParallelText) -> None:
    if bool(text.source or text.target) + (text.dataset is not None or bool(text.files)) != 1:
        raise UserError(
            f"cannot tell where the sentence pairs stand: source={text.source}, target={text.target}, "
            f"files={text.files}, dataset={text.dataset}. Give source with target, or files, or dataset."
        )
    if len(text.source) != len(text.target):
        raise UserError(
            f"{len(text.source)} source file(s) {text.source} but {len(text.target)} target file(s) "
            f"{text.target}. Give one target file for every source file, in the same order."
        )
    if text.dataset in DATASET_FILES and not text.files:
        raise UserError(f"dataset {text.dataset!r} needs files. List the files to read in `files`.")
    if text.history < 0:
        raise UserError(f"history {text.history}: give how many turns a source holds, or 0 if there are no dialogues")
    if text.history and (text.source or (text.source_field, text.target_field) != ("0", "1")):
        raise UserError(
            f"history {text.history} makes the pairs from dialogues: give them in files or dataset, their field as "
            "turns_field, and neither source and target nor source_field and target_field"
        )
    if not text.history and text.turns_field != "turns":
        raise UserError(f"turns_field {text.turns_field!r} is for dialogues: set history to the turns of a source")


def _matching(name: str, base: Path | None) -> list[Path]:
    """The file of this name; or all that a name with * stands for."""
    path = resolve(name, base)
    if "*" not in name or path.exists():
        return [path]
    found = sorted(path.parent.glob(path.name))
    if not found:
        raise UserError(f"{path}: no file fits this name. It was looked for in {path.parent.absolute()}.")
    return found


def _aligned_pairs(source: Path, target: Path) -> Iterator[Pair]:
    sources, targets = read_lines(source), read_lines(target)
    for number, (source_line, target_line) in enumerate(zip_longest(sources, targets), 1):
        if source_line is None or target_line is None:
            longer = number + sum(1 for _ in chain(sources, targets))
            counts = (number - 1, longer) if source_line is None else (longer, number - 1)
            raise UserError(
                f"{source} has {counts[0]} lines but {target} has {counts[1]}: line {number} stands in one only. "
                "Each line of one must translate the same line of the other; look for a line that is missing or "
                "broken in two."
            )
        yield RawPair(source_line, target_line)


def _file_pairs(path: Path, text: ParallelText) -> Iterator[Pair]:
    kind = _KINDS.get(Path(path.name.lower().removesuffix(".gz")).suffix)
    if kind is None:
        raise UserError(
            f"{path}: not a kind of file known by its name. Rename it to end in {', '.join(_KINDS)}, or list "
            "plain text files, one sentence a line, in `source` and `target`."
        )
    if kind == "tsv" and text.history:
        return chain.from_iterable(_dialogue(line.split("\t"), text) for line in read_lines(path))
    if kind == "tsv":
        return _tsv_pairs(path, text)
    if kind == "jsonl":
        return _jsonl_pairs(path, text)
    if kind == "yaml":
        return _yaml_pairs(path, text)
    return _dataset_pairs(text, kind, None, [path])


def _yaml_pairs(path: Path, text: ParallelText) -> Iterator[Pair]:
    if not text.history:
        raise UserError(f"{path}: YAML files are read as dialogues: set history to the turns of a source.")
    try:
        conversations = parse_conversations("\n".join(read_lines(path)))
    except ValueError as error:
        raise UserError(
            f"{path}: {error}. Correct the file; it must hold a list of dialogues, each a list of turns."
        ) from error
    for turns in conversations:
        yield from _dialogue(turns, text)


def _dialogue(turns: list[str], text: ParallelText) -> Iterator[Reply]:
    opening = next((turn for turn in turns if turn.strip()), "")
    for source, reply in split_dialogue(turns, text.history):
        yield Reply(source, reply, opening)


def _tsv_pairs(path: Path, text: ParallelText) -> Iterator[Pair]:
    source, target = str(text.source_field), str(text.target_field)
    if not (source.isdecimal() and target.isdecimal()):
        raise UserError(
            f"{path}: source_field={source!r} and target_field={target!r} must be set to column numbers, "
            "counted from 0, to read a TSV file."
        )
    source_column, target_column = int(source), int(target)
    needed = max(source_column, target_column) + 1
    for number, line in enumerate(read_lines(path), 1):
        columns = line.split("\t", needed)
        if len(columns) < needed:
            raise UserError(
                f"{path}, line {number}: {len(columns)} tab-separated column(s), but source_field={source} "
                f"and target_field={target} need {needed}: {shorten(line)}. Correct or delete the line, or set "
                "the fields to columns that every line has."
            )
        yield RawPair(columns[source_column], columns[target_column])


def _jsonl_pairs(path: Path, text: ParallelText) -> Iterator[Pair]:
    for number, record in read_records(path):
        yield from _pairs(record, text, f"{path}, line", number)


def _dataset_pairs(text: ParallelText, name: str, base: Path | None, local: list[Path]) -> Iterator[Pair]:
    place = f"dataset {name!r}, row" if len(local) != 1 else f"{local[0]}, row"
    number = 0
    try:
        rows = load_dataset(text, name, base, local)
        options = [text.turns_field] if text.history else [text.source_field, text.target_field]
        roots = {str(option).partition(".")[0] for option in options}
        # Images and the like beside the text are costly to decode.
        if roots <= set(rows.column_names or ()):
            rows = rows.select_columns(sorted(roots))
        for batch in rows.iter(batch_size=_BATCH_ROWS):
            for values in zip(*batch.values(), strict=True):
                number += 1
                yield from _pairs(dict(zip(batch, values, strict=True)), text, place, number)
    except UserError:
        raise
    except Exception as error:  # `datasets` and the libraries below it raise errors of many unrelated kinds
        raise UserError(
            f"{place} {number + 1}: `datasets` cannot read it: {type(error).__name__}: {error}. Check the "
            f"name (a folder is looked for at {resolve(name, base).absolute()}), the files, the network, "
            f"dataset_config={text.dataset_config} and dataset_split={text.dataset_split}."
        ) from error
    if number == 0:
        raise UserError(f"{place.removesuffix(', row')}: no rows in it. Check the dataset and dataset_split.")


def load_dataset(text: ParallelText, name: str, base: Path | None, local: list[Path]) -> Any:
    import datasets  # takes seconds, which only the users of datasets should wait

    split = text.dataset_split
    if name in DATASET_FILES:
        # Left alone, the CSV reader makes numbers of "007" and nothing of sentences such as "None".
        as_text = {"converters": {str(option): str for option in (text.source_field, text.target_field)}}
        options = {"keep_default_na": False, **as_text} if name == "csv" else {}
        files = {split: [glob.escape(str(path)) for path in local]}
        return datasets.load_dataset(name, data_files=files, split=split, streaming=True, **options)
    folder = resolve(name, base)
    if not (folder / "state.json").is_file() and not (folder / "dataset_dict.json").is_file():
        return datasets.load_dataset(
            str(folder) if folder.is_dir() else name,
            text.dataset_config,
            data_files={split: text.files} if text.files else None,
            split=split,
            streaming=True,
        )
    saved = datasets.load_from_disk(str(folder))
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    if split not in saved:
        raise UserError(f"{folder}: no split {split!r}.{nearest(split, list(saved))} Set dataset_split.")
    return saved[split]


def _pairs(record: Mapping[str, object], text: ParallelText, place: str, number: int) -> Iterator[Pair]:
    """The pair of a record, or those of its dialogue."""
    if text.history:
        yield from _dialogue(_turns(record, text.turns_field, place, number), text)
    else:
        yield RawPair(
            string_field(record, text.source_field, "source_field", place, number),
            string_field(record, text.target_field, "target_field", place, number),
        )


def _turns(record: Mapping[str, object], name: str, place: str, number: int) -> list[str]:
    value = find_field(record, name, "turns_field", place, number)
    if not isinstance(value, list) or not all(isinstance(turn, str) for turn in value):
        raise UserError(
            f"{place} {number}: field {name!r} holds {shorten(value)}, not a list of texts. Correct the data, or set "
            f"turns_field; where each turn is an object, to {name}.FIELD with the field of its text."
        )
    return value
