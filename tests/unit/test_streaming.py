"""Lines and records as they come, and what becomes of each."""

import itertools
import json
import queue
import threading
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_translator import GREEDY, make_model, random_sentences

from data.errors import UserError
from nmt.formats import Fields, Job, parse_record, plain_rows, translate_jsonl, translate_plain
from nmt.search_options import SearchOptions
from nmt.streaming import POOL_LINES, Notes, arriving, gather, read_blocks
from nmt.translator import Translation, Translator

torch.set_num_threads(1)

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator([make_model()])


def stream(translator: Translator, data: bytes, options=GREEDY, **job) -> tuple[str, list[str]]:
    told: list[str] = []
    notes = Notes(told.append)
    pools = gather(read_blocks(io_read(data)))
    written = "".join(translate_plain(Job(translator, options, **job), pools, notes))
    notes.finish()
    return written, told


def io_read(data: bytes, step: int | None = None):
    """A read function over bytes, that gives at most `step` of them."""
    place = 0

    def read(size: int) -> bytes:
        nonlocal place
        block = data[place : place + min(size, step or size)]
        place += len(block)
        return block

    return read


# Reading lines


@FEW
@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.integers(1, 30))
def test_blocks_hold_the_lines_whatever_a_read_gives(lines, step):
    data = b"".join(line + b"\n" for line in lines)
    assert list(itertools.chain(*read_blocks(io_read(data, step)))) == lines
    assert list(itertools.chain(*read_blocks(io_read(data + b"end", step)))) == [*lines, b"end"]


def test_pools_are_bounded_in_lines_and_bytes():
    blocks = [[b"x"] * 300] * 30 + [[b"x" * 400_000]] * 9
    pools = list(gather(iter(blocks)))
    assert [line for pool in pools for line in pool] == [line for block in blocks for line in block]
    assert all(len(pool) < POOL_LINES + 300 and sum(map(len, pool)) < 2_000_000 for pool in pools)
    assert len(pools) < 12


def test_an_arriving_line_is_handed_on_when_the_input_pauses():
    source: queue.Queue[bytes] = queue.Queue()
    pools = gather(arriving(read_blocks(lambda _: source.get(timeout=20))))
    for text in (b"one\n", b"two\nthree\n"):
        source.put(text)
        assert next(pools) == text.splitlines()
    source.put(b"begun, ")
    threading.Timer(0.2, lambda: [source.put(b"done\n"), source.put(b"")]).start()
    assert list(pools) == [[b"begun, done"]]


def test_a_slow_trickle_is_handed_on_as_well():
    def trickle(_):
        time.sleep(0.02)
        return b"line\n"

    started = time.monotonic()
    assert 1 <= len(next(gather(arriving(read_blocks(trickle))))) < 50
    assert time.monotonic() - started < 5


def test_an_error_of_the_reading_thread_is_raised():
    def fail(_):
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(arriving(read_blocks(fail)))


# Plain text


@FEW
@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=10))
def test_as_many_lines_out_as_in(translator, lines):
    written, _ = stream(translator, b"".join(line + b"\n" for line in lines))
    assert len(written.splitlines()) == written.count("\n") == len(lines)


def test_streaming_equals_the_python_interface(translator, monkeypatch):
    sentences = random_sentences(50)
    expected = "".join(f"{one.text}\n" for one in translator.translate(sentences, GREEDY))
    assert stream(translator, "\n".join(sentences).encode())[0] == expected
    monkeypatch.setattr("nmt.streaming.POOL_BYTES", 1)
    monkeypatch.setattr("nmt.streaming._BLOCK_BYTES", 64)
    assert stream(translator, "\n".join(sentences).encode())[0] == expected
    options = SearchOptions(sample=True)
    sampled = "".join(f"{one.text}\n" for one in translator.translate(sentences, options))
    assert stream(translator, "\n".join(sentences).encode(), options)[0] == sampled


def test_line_ends_and_byte_order_marks(translator):
    plain, told = stream(translator, b"a dog\nthe cat\n")
    assert told == []
    assert stream(translator, b"\xef\xbb\xbfa dog\r\nthe cat") == (plain, [])
    assert stream(translator, b"") == ("", [])
    assert stream(translator, b"\n")[0] == "\n"
    inside = "a dog\u2028the cat\u0085the\vhouse\x0cand\x1ca\rdog\n"
    assert stream(translator, inside.encode())[0].count("\n") == 1


def test_invalid_bytes_are_replaced_and_told(translator):
    written, told = stream(translator, b"a dog\na \xff\xfe dog\n" + b"\xc3\n" * 20)
    assert written.count("\n") == 22
    assert told[0] == "line 2: invalid UTF-8 at byte 3: replaced by U+FFFD"
    assert [line for line in told if line.startswith("line")][-1].startswith("line 11:")
    assert "and 11 more lines with invalid UTF-8" in told
    assert "\ufffd" not in written


def test_long_lines_are_told(translator):
    _, told = stream(translator, b"a dog\n" + b"dog " * 1200 + b"\n")
    assert told == [
        "line 2: 1,200 tokens, longer than any sentence in training (12): translated in 100 pieces",
    ]


@pytest.mark.parametrize(
    "known, unknown, at_once, at_end", [(100, 2, 0, 0), (90, 10, 0, 1), (20, 80, 1, 1), (1, 2, 0, 1), (0, 0, 0, 0)]
)
def test_unknown_words_are_told_early_and_at_the_end(known, unknown, at_once, at_end):
    told: list[str] = []
    notes = Notes(told.append)
    for _ in range(3):
        notes.count(1, [Translation("", "", [], unknown, known + unknown, 1)], 1000)
    assert len(told) == at_once
    notes.finish()
    assert len(told) == at_once + at_end
    assert all("are unknown to the model" in line for line in told)


def test_rows_are_numbered_and_scored(translator):
    (result,) = translator.translate(["a dog"], SearchOptions(beam=3, n_best=3))
    assert plain_rows(4, result, 1, False) == [result.text]
    (scored,) = plain_rows(4, result, 1, True)
    assert scored == f"{result.hypotheses[0].score:.4f}\t{result.text}"
    rows = [row.split("\t") for row in plain_rows(4, result, 3, False)]
    assert [row[:2] for row in rows] == [["4", "1"], ["4", "2"], ["4", "3"]]
    assert [row[2:] for row in rows] == [
        [f"{one.score:.4f}", f"{one.log_prob:.4f}", one.text] for one in result.hypotheses
    ]


# JSON lines


def stream_jsonl(translator, lines, options=GREEDY, fields=Fields(), **job) -> list[str]:  # noqa: B008
    pools = gather(read_blocks(io_read("\n".join(lines).encode())))
    written = translate_jsonl(Job(translator, options, **job), pools, Notes(lambda _: None), fields, "in.jsonl")
    return "".join(written).splitlines()


def test_records_are_passed_through_character_for_character(translator):
    lines = [
        '{"id": 1.50e+300, "source": "a dog", "x": {"y": [NaN, 1E2, 12345678901234567890.123456789012]}}',
        '  {"source":"the cat","é":"\\u00e9\u2028\\ud800","id":' + "7" * 5000 + " }  ",
        "",
        '{"source": "", "source": "a \\ud83d\\ude00 \\ud800 dog"}\r',
    ]
    texts = [one.text for one in translator.translate(["a dog", "the cat", "", "a \U0001f600 \ufffd dog"], GREEDY)]
    assert stream_jsonl(translator, lines)[:1] == [lines[0][:-1] + f', "translation": "{texts[0]}"}}']
    written = "".join(f"{line}\n" for line in lines)
    pools = gather(read_blocks(io_read(written.encode())))
    job = Job(translator, GREEDY)
    (out,) = translate_jsonl(job, pools, Notes(lambda _: None), Fields(), "in.jsonl")
    rows = out.split("\n")
    assert rows[1] == lines[1].strip()[:-1].rstrip() + f', "translation": "{texts[1]}"}}'
    assert rows[2] == ""
    assert json.loads(rows[3])["translation"] == texts[3]
    assert rows[4:] == [""]


def test_fields_by_name(translator):
    lines = ['{"text": {"de": "a dog"}, "source": 3, "translation": "x", "start": "the cat"}']
    fields = Fields("text.de", "out", "start")
    (record,) = map(json.loads, stream_jsonl(translator, lines, fields=fields))
    assert list(record) == ["text", "source", "translation", "start", "out"]
    assert record["out"] == translator.translate(["a dog"], GREEDY, prefixes=["the cat"])[0].text
    assert record["out"].startswith("the cat")


def test_one_prefix_for_all_records(translator):
    rows = stream_jsonl(translator, ['{"source": "a dog"}', '{"source": "a cat"}'], prefix="house")
    assert all(json.loads(row)["translation"].startswith("house") for row in rows)


def test_several_best_or_scores_are_a_list(translator):
    options = SearchOptions(beam=3, n_best=2)
    (result,) = translator.translate(["a dog"], options)
    (record,) = map(json.loads, stream_jsonl(translator, ['{"source": "a dog"}'], options))
    assert record["translation"] == [
        {"text": one.text, "score": one.score, "log_prob": one.log_prob} for one in result.hypotheses
    ]
    (record,) = map(
        json.loads, stream_jsonl(translator, ['{"source": "a dog"}'], replace(options, n_best=1), scores=True)
    )
    assert [one["text"] for one in record["translation"]] == [result.text]


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "not valid JSON"),
        ('{"source": "a\tb"}', "not valid JSON"),
        ("[" * 100_000, "nested too deep"),
        ('"source"', "not a JSON object"),
        ('{"sourse": "a", "b": {"c": 1}}', "no field 'source': did you mean 'sourse'?.*there are: sourse, b.c"),
        ("{}", "no field 'source'.*there are: none"),
        ('{"source": null}', "field 'source' holds no string"),
        ('{"source": 5}', "field 'source' holds no string"),
        ('{"source": "a", "translation": ""}', "a field 'translation' already"),
    ],
)
def test_a_bad_record_is_named_and_those_before_it_are_translated(translator, line, message):
    with pytest.raises(UserError, match=message):
        parse_record(line, Fields())
    good = '{"source": "a dog"}'
    pools = gather(read_blocks(io_read(f"{good}\n{line}\n{good}\n".encode())))
    written = translate_jsonl(Job(translator, GREEDY), pools, Notes(lambda _: None), Fields(), "in.jsonl")
    assert next(written).count("\n") == 1
    with pytest.raises(UserError, match=f"^in.jsonl, line 2: .*{message}"):
        next(written)


def test_a_prefix_field_that_cannot_be_written_names_its_line(translator):
    lines = ['{"source": "a dog", "p": ""}', '{"source": "a dog", "p": "zebra"}']
    with pytest.raises(UserError, match=r"in.jsonl, line 2: the prefix 'zebra' cannot be written"):
        stream_jsonl(translator, lines, fields=Fields(prefix="p"))
