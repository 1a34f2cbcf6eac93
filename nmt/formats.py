"""Lines in, translations out: plain text and JSON lines, a pool at a time."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from data.errors import UserError
from nmt.frame_translator import FrameTranslation
from nmt.search_options import SearchOptions
from nmt.streaming import Notes, decode_pools
from nmt.translator import Translation, Translator
from nmt.translator_pool import TranslatorPool
from nmt.written import WrittenHypothesis


@dataclass(frozen=True)
class Job:
    """How lines are translated and written.

    Args:
        translator: The models.
        options: How translations are searched for.
        scores: Write the scores of single translations too.
        prefix: What every translation must begin with.
        batch_tokens: The most cells of a batch.
        show: Is given all translations too, after the number of their first line.
        pool: Translates instead of the translator, in several processes.
    """

    translator: Translator
    options: SearchOptions
    scores: bool = False
    prefix: str = ""
    batch_tokens: int = 4096
    show: Callable[[int, list[Translation]], None] | None = None
    pool: TranslatorPool | None = None

    def translate(
        self, number: int, lines: Sequence[str], notes: Notes, prefixes: Sequence[str] | None = None
    ) -> list[Translation]:
        """The translations of the lines from `number` on."""
        done = (self.pool or self.translator).translate(
            lines,
            self.options,
            prefixes=prefixes or [self.prefix] * len(lines),
            first_line=number - 1,
            batch_tokens=self.batch_tokens,
        )
        notes.count(number, done, self.translator.max_length)
        if self.show:
            self.show(number, done)
        return done


def translate_plain(job: Job, pools: Iterable[list[bytes]], notes: Notes) -> Iterator[str]:
    """Translate lines of text: for each pool, the lines to write."""
    for number, lines in decode_pools(pools, notes):
        done = job.translate(number, lines, notes)
        rows = (row for i, one in enumerate(done, number) for row in plain_rows(i, one, job.options.n_best, job.scores))
        yield "".join(f"{row}\n" for row in rows)


def plain_rows(number: int, translation: Translation | FrameTranslation, n_best: int, scores: bool) -> list[str]:
    """What is written for one line or sequence of frames; no translation holds a tab.

    Several best: for each its line, its rank from 1, its score, its log-probability and its text. Else the text,
    after the score if `scores`.
    """
    if n_best > 1:
        return [f"{number}\t{rank}\t{_row(one)}" for rank, one in enumerate(translation.hypotheses, 1)]
    return [f"{translation.hypotheses[0].score:.4f}\t{translation.text}" if scores else translation.text]


def _row(one: WrittenHypothesis) -> str:
    return f"{one.score:.4f}\t{one.log_prob:.4f}\t{one.text}"


@dataclass(frozen=True)
class Fields:
    """The fields of a JSON record.

    Args:
        source: Holds the text to translate; "translation.de" is the field "de" inside the field "translation".
        output: Where the translation goes; a record must not have it yet.
        prefix: Holds what the translation must begin with.
    """

    source: str = "source"
    output: str = "translation"
    prefix: str | None = None


@dataclass(frozen=True)
class Record:
    """A JSON record as it was written, and what is taken from it."""

    line: str
    source: str
    prefix: str


def translate_jsonl(job: Job, pools: Iterable[list[bytes]], notes: Notes, fields: Fields, name: str) -> Iterator[str]:
    """Translate a field of JSON lines: for each pool, the lines to write.

    A record stays as it was written, character for character, with the translation added as its last field: a
    string, or a list of objects with text, score and log_prob if several best or scores are wanted. Blank lines
    stay blank.

    Raises:
        UserError: A line of the input, called `name`, is no such record. The lines before it were yielded.
    """
    for number, lines in decode_pools(pools, notes):
        records, problem = _read_records(job, lines, number, fields, name)
        taken = [(i, record) for i, record in enumerate(records) if record]
        sources = [record.source if record else "" for record in records]
        done = job.translate(number, sources, notes, [record.prefix if record else "" for record in records])
        written = [""] * len(records)
        for i, record in taken:
            written[i] = _with_field(record.line, fields.output, _value(job, done[i]))
        yield "".join(f"{line}\n" for line in written)
        if problem:
            raise problem


def _read_records(
    job: Job, lines: Sequence[str], number: int, fields: Fields, name: str
) -> tuple[list[Record | None], UserError | None]:
    """The records before the first that is none, and what is wrong with that one."""
    records: list[Record | None] = []
    for i, line in enumerate(lines, number):
        try:
            record = parse_record(line, fields, job.prefix) if line.strip() else None
            if record and fields.prefix:
                job.translator.encode_prefix(record.prefix)
        except UserError as error:
            return records, UserError(f"{name}, line {i}: {error}")
        records.append(record)
    return records, None


def parse_record(line: str, fields: Fields, prefix: str = "") -> Record:
    """A line as a record; raises UserError saying what is wrong with it."""
    try:
        # numbers are passed through as they are written, so nothing need be made of them
        record = json.loads(line, parse_int=lambda _: 0, parse_float=lambda _: 0.0)
    except ValueError as error:
        raise UserError(f"not valid JSON ({error}): correct the line, or leave out --jsonl") from error
    except RecursionError as error:
        raise UserError("not valid JSON (nested too deep): correct the line") from error
    if not isinstance(record, dict):
        raise UserError('not a JSON object: each line must be one, such as {"source": "..."}')
    if fields.output in record:
        raise UserError(f"there is a field {fields.output!r} already: name another with --output-field")
    source = _string(record, fields.source, "--field")
    return Record(line, source, _string(record, fields.prefix, "--prefix-field") if fields.prefix else prefix)


def _string(record: Mapping[str, object], name: str, option: str) -> str:
    value: object = record
    for part in [name] if name in record else name.split("."):
        if not isinstance(value, dict) or part not in value:
            names = list(_field_names(record))
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"no field {name!r}: {hint}{option} names a field; there are: {', '.join(names) or 'none'}")
        value = value[part]
    if not isinstance(value, str):
        raise UserError(f"field {name!r} holds no string: correct it, or name another field with {option}")
    return value


def _field_names(record: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _field_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _value(job: Job, translation: Translation) -> object:
    if job.options.n_best == 1 and not job.scores:
        return translation.text
    return [{"text": one.text, "score": one.score, "log_prob": one.log_prob} for one in translation.hypotheses]


def _with_field(line: str, name: str, value: object) -> str:
    """A JSON object that has a field already, with another one added to its text."""
    # between the tokens of JSON a CR is a space, inside its strings it cannot stand
    body = line.replace("\r", " ").strip(" \t").removesuffix("}").rstrip(" \t")
    return f"{body}, {json.dumps(name, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}}}"
