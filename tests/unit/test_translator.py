import itertools
import json
import queue
import random
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import UserError
from data.length_ratio import LengthRatio
from data.tokenizer import UNK_ID, Tokenizer, TokenizerConfig
from nmt.checkpoint import TrainedModel, save_model
from nmt.config import ModelConfig
from nmt.formats import Fields, Job, parse_record, plain_rows, translate_jsonl, translate_plain
from nmt.model import text_model
from nmt.search_options import SearchOptions
from nmt.streaming import POOL_LINES, Notes, arriving, gather, read_blocks
from nmt.translator import Translation, Translator, cut

torch.set_num_threads(1)

WORDS = ["a", "dog", "cat", "sleeps", "runs", "in", "the", "house", "and", "sees", ".", "!", ",", "?"]
LONGEST = 12
GREEDY = SearchOptions(beam=1)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make_tokenizer(words=WORDS, **config) -> Tokenizer:
    return Tokenizer.train(Counter(dict.fromkeys(words, 9)), TokenizerConfig(**config))


def make_model(seed: int = 1, tokenizer: Tokenizer | None = None, **config) -> TrainedModel:
    tokenizer = tokenizer or make_tokenizer()
    torch.manual_seed(seed)
    model = text_model(ModelConfig(hidden=16, embedding=16, **config), len(tokenizer), len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # distributions with clear winners
    return TrainedModel(model, tokenizer, tokenizer, LengthRatio(0.5, 1.0, 2.0), LONGEST, {})


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator([make_model()])


def random_sentences(count: int, longest: int = LONGEST, seed: int = 5) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS[:10], k=draw.randint(1, longest))) for _ in range(count)]


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


# What the Python interface returns


def test_loads_from_a_directory_and_translates(tmp_path, translator):
    save_model(tmp_path, make_model(), {})
    sentences = random_sentences(10)
    for path in (tmp_path, str(tmp_path), [tmp_path]):
        assert Translator.load(path).translate(sentences) == translator.translate(sentences)


def test_results_are_in_order_and_do_not_depend_on_their_company(translator):
    sentences = random_sentences(40)
    together = translator.translate(sentences)
    for sentence, result in zip(sentences, together, strict=True):
        (alone,) = translator.translate([sentence])
        assert result.source == sentence
        assert result.text == result.hypotheses[0].text == alone.text
        assert result.hypotheses[0].score == pytest.approx(alone.hypotheses[0].score, abs=1e-4)


def test_a_hypothesis_tells_its_tokens_and_scores(translator):
    (result,) = translator.translate(["a dog sleeps ."], SearchOptions(beam=4, n_best=3, length_penalty=0.5))
    assert (result.tokens, result.unknown, result.pieces) == (4, 0, 1)
    assert len(result.hypotheses) == 3
    assert result.hypotheses == sorted(result.hypotheses, key=lambda one: -one.score)
    assert len({tuple(one.tokens) for one in result.hypotheses}) == 3
    for one in result.hypotheses:
        assert all(token.startswith("\u2581") for token in one.tokens)
        length = len(one.tokens) + all(part.finished for part in one.parts)
        assert one.score == pytest.approx(one.log_prob / length**0.5, abs=1e-4)


@pytest.mark.parametrize("blank", ["", " ", "\t\v\f", "\x00\x1b", "\u2028\u3000\xa0", "\r"])
def test_blank_text_is_not_given_to_the_model(translator, blank, monkeypatch):
    monkeypatch.setattr(translator._steppers[0], "start", None)
    (result,) = translator.translate([blank], SearchOptions(beam=3, n_best=3), prefixes=["the"])
    assert (result.source, result.text, result.tokens, result.pieces) == (blank, "", 0, 0)
    (only,) = result.hypotheses
    assert (only.text, only.tokens, only.log_prob, only.score, only.finished) == ("", [], 0.0, 0.0, True)


def test_nothing_to_translate(translator):
    assert translator.translate([]) == []


def test_one_string_for_a_list_is_refused(translator):
    with pytest.raises(TypeError, match="list of strings"):
        translator.translate("a dog")


def test_unknown_tokens_are_counted(translator):
    (result,) = translator.translate(["a zebra sees xylophones"])
    assert (result.tokens, result.unknown) == (4, 2)


@FEW
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60), max_size=8))
def test_any_text_gives_one_line(translator, texts):
    results = translator.translate(texts, SearchOptions(beam=2, n_best=2))
    assert [one.source for one in results] == texts
    for one in results:
        assert all(hypothesis.text == " ".join(hypothesis.text.split()) for hypothesis in one.hypotheses)


def test_halves_of_surrogate_pairs_are_replaced(translator):
    halves, replaced, whole = translator.translate(["a \ud800 dog", "a \ufffd dog", "a \ud83d\ude00 dog"])
    assert halves.text == replaced.text
    assert whole.unknown == 1


# Long texts


@pytest.mark.parametrize("level", ["word", "char", "bpe", "unigram"])
def test_pieces_join_to_the_whole_and_are_short_enough(level):
    tokenizer = make_tokenizer(level=level, vocab_size=40)
    for sentence in random_sentences(20, 60):
        ids = tokenizer.encode(sentence)
        for most in (1, 3, 10, 1000):
            pieces = cut(ids, tokenizer, most)
            assert list(itertools.chain(*pieces)) == ids
            assert all(0 < len(piece) <= most for piece in pieces)
    assert cut([], tokenizer, 3) == []


@pytest.mark.parametrize(
    "text, most, expected",
    [
        ("a dog runs . the cat sleeps in the house", 6, ["a dog runs .", "the cat sleeps in the house"]),
        ("a dog . a cat ! the house and a", 7, ["a dog . a cat !", "the house and a"]),
        ("a dog runs in the house", 4, ["a dog runs in", "the house"]),
        ("a , dog , runs", 3, ["a , dog", ", runs"]),
    ],
)
def test_cuts_after_a_sentence_where_there_is_one(text, most, expected):
    tokenizer = make_tokenizer()
    pieces = cut(tokenizer.encode(text), tokenizer, most)
    assert [" ".join(token.lstrip("\u2581") for token in tokenizer.tokens(piece)) for piece in pieces] == expected


def test_cuts_between_words_and_at_full_width_stops():
    tokenizer = make_tokenizer(["日本", "語。", "犬。", "ab", "ba", "3.5", "1.2"], level="char", min_count=1)
    as_text = lambda text, most: [tokenizer.decode(piece) for piece in cut(tokenizer.encode(text), tokenizer, most)]  # noqa: E731
    assert as_text("日本語。犬日本日本", 6) == ["日本語。", "犬日本日本"]
    assert as_text("ab ab ab", 5) == ["ab", "ab", "ab"]
    assert as_text("ab ab 3.5", 9) == ["ab ab", "3.5"], "a point inside a number ends no sentence"


def test_a_long_text_is_translated_in_pieces(translator):
    parts = [" ".join(["dog"] * 9 + ["."]), " ".join(["cat"] * 10 + ["!"]), "the house"]
    options = SearchOptions(beam=4, n_best=3)
    (whole,) = translator.translate([" ".join(parts)], options)
    apart = translator.translate(parts, options)
    assert (whole.pieces, whole.tokens) == (3, 23)
    assert len(whole.hypotheses) == 3
    for i, one in enumerate(whole.hypotheses):
        same = [part.hypotheses[i] for part in apart]
        assert one.text == " ".join(part.text for part in same)
        assert one.tokens == [token for part in same for token in part.tokens]
        assert one.score == pytest.approx(sum(part.score for part in same), abs=1e-3)
        assert one.log_prob == pytest.approx(sum(part.log_prob for part in same), abs=1e-3)
        assert one.finished == all(part.finished for part in same)


def test_a_long_text_begins_with_its_prefix_once(translator):
    (result,) = translator.translate(["dog " * 30], prefixes=["cat and cat"])
    assert result.pieces == 3
    assert result.text.startswith("cat and cat")
    assert result.hypotheses[0].tokens[:3] == ["\u2581cat", "\u2581and", "\u2581cat"]


# Options of the Python interface


def test_prefixes_are_obeyed_line_by_line(translator):
    sentences = random_sentences(4)
    results = translator.translate(sentences, prefixes=["the house", "", "dog", ""])
    free = translator.translate(sentences)
    assert results[0].text.startswith("the house")
    assert results[2].text.startswith("dog")
    assert [results[1].text, results[3].text] == [free[1].text, free[3].text]


def test_a_prefix_that_cannot_be_written_is_refused(translator):
    with pytest.raises(UserError, match="'zebra' is not in the model's target vocabulary"):
        translator.translate(["a dog"], prefixes=["the zebra"])
    with pytest.raises(ValueError, match="1 prefixes for 2 texts"):
        translator.translate(["a", "dog"], prefixes=["the"])


def test_samples_depend_on_seed_and_line_only(translator):
    sentences = random_sentences(12)
    options = SearchOptions(sample=True, seed=7)
    texts = [one.text for one in translator.translate(sentences, options)]
    assert texts == [one.text for one in translator.translate(sentences, options, batch_tokens=1)]
    later = translator.translate(sentences[5:], options, first_line=5)
    assert texts[5:] == [one.text for one in later]
    assert texts != [one.text for one in translator.translate(sentences, replace(options, seed=8))]


def test_pieces_and_repeated_lines_are_sampled_apart(translator):
    options = SearchOptions(sample=True, temperature=3.0)
    one, two = translator.translate([" ".join(["dog"] * 24)] * 2, options)
    assert one.text != two.text
    assert one.pieces == 2
    (first, second) = translator.translate([" ".join(["dog"] * 12)] * 2, options)
    assert one.text.startswith(first.text)
    assert one.text != f"{first.text} {first.text}" != f"{first.text} {second.text}"


# Ensembles


def test_an_ensemble_of_equals_is_as_one(translator):
    sentences = random_sentences(10)
    both = Translator([make_model(), make_model()]).translate(sentences)
    assert [one.text for one in both] == [one.text for one in translator.translate(sentences)]


def test_an_ensemble_listens_to_all_its_models(translator):
    sentences = random_sentences(10)
    texts = [[one.text for one in t.translate(sentences)] for t in (translator, Translator([make_model(2)]))]
    both = [one.text for one in Translator([make_model(), make_model(2)]).translate(sentences)]
    assert both not in texts
    assert both == [one.text for one in Translator([make_model(2), make_model()]).translate(sentences)]


@pytest.mark.parametrize(
    "other, what",
    [
        ({"tokenizer": make_tokenizer([*WORDS[1:], "zebra"])}, "source vocabularies differ"),
        ({"reverse_source": False}, "backwards"),
    ],
)
def test_models_that_do_not_fit_are_refused_by_name(tmp_path, other, what):
    for name, model in (("one", make_model()), ("two", make_model(**other))):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, model, {})
    with pytest.raises(UserError, match=f"one and .*two cannot be used together: .*{what}"):
        Translator.load([tmp_path / "one", tmp_path / "two"])


def test_differing_target_vocabularies_are_refused():
    other = replace(make_model(), target=make_tokenizer([*WORDS[1:], "zebra"]))
    with pytest.raises(UserError, match=r"model 1 and model 2 .*target vocabularies differ"):
        Translator([make_model(), other])


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


def test_unknown_is_written_only_where_allowed():
    model = make_model()
    with torch.no_grad():
        model.model.decoder.output.bias[UNK_ID] += 30
    allowed = Translator([model]).translate(["a dog"], SearchOptions(beam=1, allow_unknown=True))
    assert "<unk>" in allowed[0].text
    assert "<unk>" not in Translator([model]).translate(["a dog"], GREEDY)[0].text


@pytest.mark.parametrize("history", [0, 2])
def test_what_learnt_from_truncated_text_truncates_what_it_is_given(history: int) -> None:
    """A text loses its end, a dialogue its beginning; nothing is translated in pieces."""
    model = make_model()
    long = " ".join(WORDS[i % 10] for i in range(3 * LONGEST + 5))
    kept = " ".join(long.split()[-LONGEST:] if history else long.split()[:LONGEST])
    settings = {"data": {"overlong": "truncate", "train": {"history": history}}}
    expected, cut_up = (one.text for one in Translator([model]).translate([kept, long]))
    (found, blank) = Translator([replace(model, config=settings)]).translate([long, " "])
    assert (found.text, found.pieces, found.tokens) == (expected, 1, 3 * LONGEST + 5)
    assert cut_up != found.text
    assert (blank.text, blank.pieces) == ("", 0)
    told: list[str] = []
    Notes(told.append).count(1, [found], LONGEST)
    assert told == ["line 1: 41 tokens, longer than any sentence in training (12): truncated as in training"]
