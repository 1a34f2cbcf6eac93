import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest
import torch

from nmt.search_options import SearchOptions
from nmt.stepper import Stepper
from nmt.translator import Translator
from nmt.translator_pool import TranslatorPool
from scripts.translate import main
from tests.tiny import SCENE_WORDS as WORDS
from tests.tiny import save_translator

torch.set_num_threads(1)

COMMAND = [sys.executable, "-m", "scripts.translate", "--threads", "1"]
SECONDS = 180


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Two models of one vocabulary, and one of another."""
    base = tmp_path_factory.mktemp("models")
    return {
        "one": save_translator(base / "one", 1),
        "two": save_translator(base / "two", 2),
        "other": save_translator(base / "other", 1, [*WORDS[1:], "zebra"]),
    }


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "in.txt"
    draw = random.Random(3)
    path.write_text("".join(" ".join(draw.choices(WORDS[:10], k=draw.randint(1, 12))) + "\n" for _ in range(20)))
    return str(path)


@pytest.fixture
def translate(models, monkeypatch, capfdbinary):
    """Runs the command in this process: exit code, output and messages."""

    def call(*arguments: str, model: str = "one") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["translate", "--model", models[model], *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfdbinary.readouterr()
        return exit_.value.code, out.decode(), err.decode()

    call.two = models["two"]
    return call


def start(*arguments: str, **streams) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **streams
    )


# The whole command


def fuzzed_lines() -> list[bytes]:
    draw = random.Random(11)
    chosen = [
        b"", b" ", b"\t", b"\r", b"\x00", b"\x00\x00 a dog \x1b[31m", b"a\rdog", b"a dog\r", b"\r\r\r", b"\xef\xbb\xbf",
        b"\xff\xfe", b"a \xc3 dog", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", bytes(range(10)), bytes(range(11, 256)),
        "a\u2028dog\u2029the\u0085cat".encode(), "\u202e\u05d0\u05d1 dog \u200f\u0645\u0631".encode(),
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 dog \U0001f1e9\U0001f1ea".encode(), "e\u0301\u0301\u0301".encode(),
        b" " * 50_000 + b"dog", b"x" * 100_000, b"dog " * 25_000, b"a dog . " * 10_000, b"\xff" * 1000, b"." * 3000,
        "\u2581 \u2581dog".encode(), b"<s> </s> <unk> <pad>", b"&amp; &#124; @-@ |||", "\ufffe\uffff\ufdd0".encode(),
    ]  # fmt: skip
    pool = [word.encode() for word in WORDS] + [b"\xff", b"\x0b", b"\x0c", b"\x1c", b"\x85", "é\u3000日本".encode()]
    while len(chosen) < 300:
        kind = draw.randrange(3)
        if kind == 0:
            chosen.append(bytes(draw.choices([b for b in range(256) if b != 10], k=draw.randrange(40))))
        elif kind == 1:
            points = (draw.choice([draw.randrange(11, 0xD800), draw.randrange(0xE000, 0x110000)]) for _ in range(20))
            chosen.append("".join(map(chr, points)).encode())
        else:
            chosen.append(b" ".join(draw.choices(pool, k=draw.randrange(30))))
    draw.shuffle(chosen)
    return chosen


def test_any_line_gives_one_line_from_file_stdin_and_pipe(models, tmp_path):
    lines = fuzzed_lines()
    path = tmp_path / "in.txt"
    path.write_bytes(b"\n".join(lines) + b"\n")
    arguments = ("--model", models["one"], "--beam", "2")
    process = start(*arguments, str(path))
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err
    written = out.decode()
    assert len(written.splitlines()) == written.count("\n") == len(lines) == 300
    decoded = [line.decode(errors="replace") for line in lines]
    expected = Translator.load(models["one"]).translate(decoded, SearchOptions(beam=2))
    assert written == "".join(f"{one.text}\n" for one in expected)
    assert "invalid UTF-8" in err.decode()
    assert "tokens, longer than any sentence in training (12): translated in" in err.decode()
    assert "unknown to the model" in err.decode()

    with path.open("rb") as file:
        redirected = start(*arguments, stdin=file)
        assert redirected.communicate(timeout=SECONDS) == (out, err)


def test_a_pipe_gives_what_a_file_and_python_give(models, text):
    with open(text, "rb") as file:  # noqa: PTH123
        data = file.read()
    process = start("--model", models["one"], stdin=subprocess.PIPE)
    out, err = process.communicate(data, timeout=SECONDS)
    assert (process.returncode, err) == (0, b"")
    expected = Translator.load(models["one"]).translate(data.decode().splitlines())
    assert out.decode() == "".join(f"{one.text}\n" for one in expected)


def test_a_typed_line_is_answered_before_the_input_ends(models):
    process = start("--model", models["one"], stdin=subprocess.PIPE)
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    for line in (b"a dog\n", b"the cat sleeps\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline().strip()
    out, err = process.communicate(b"a", timeout=SECONDS)
    watchdog.cancel()
    assert (process.returncode, out.count(b"\n"), err) == (0, 1, b"")


def test_an_interrupt_ends_with_one_line(models):
    process = start("--model", models["one"], stdin=subprocess.PIPE)
    process.stdin.write(b"a dog\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 130
    assert process.stderr.read() == b"translate: interrupted\n"
    process.stdin.close()


@pytest.mark.parametrize("piped", [True, False])
def test_a_reader_that_leaves_early_is_no_error(models, tmp_path, piped, monkeypatch):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a dog sleeps in the house .\n" * 6000)
    source = f"cat {path} | " if piped else ""
    arguments = " ".join([*COMMAND, "--beam", "1", "--model", models["one"], *([] if piped else [str(path)])])
    script = f"{source}{{ {arguments}; echo code $? >&2; }} | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=SECONDS, check=True)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b"code 0\n"


# Options


def test_beam_changes_the_search(translate, models, text):
    outputs = {beam: translate("--beam", beam, text)[1] for beam in ("1", "5")}
    assert outputs["1"] != outputs["5"] == translate(text)[1]
    sources = open(text).read().splitlines()  # noqa: SIM115, PTH123
    greedy = Translator.load(models["one"]).translate(sources, SearchOptions(beam=1))
    assert outputs["1"].splitlines() == [one.text for one in greedy]


def test_n_best_rows_are_tagged_and_sorted(translate, text):
    code, out, _ = translate("--n-best", "3", text)
    rows = [row.split("\t") for row in out.splitlines()]
    assert code == 0
    assert all(len(row) == 5 for row in rows)
    assert [(int(row[0]), int(row[1])) for row in rows] == [(i, rank) for i in range(1, 21) for rank in (1, 2, 3)]
    for first, second in itertools.pairwise(rows):
        assert first[0] != second[0] or float(first[2]) >= float(second[2]) or first[1] == "3"
    best = [row[4] for row in rows if row[1] == "1"]
    assert best == translate(text)[1].splitlines()


def test_scores_stand_before_the_text(translate, text):
    plain = translate(text)[1].splitlines()
    scored = [row.split("\t") for row in translate("--scores", text)[1].splitlines()]
    assert [row[1] for row in scored] == plain
    assert all(float(row[0]) < 0 for row in scored)


def test_length_penalty_changes_what_is_best(translate, text):
    short, long = (translate("--length-penalty", power, text)[1] for power in ("0", "3"))
    assert len(short) < len(long)


def test_a_prefix_begins_every_translation(translate, text):
    rows = translate("--prefix", "the house", text)[1].splitlines()
    assert len(rows) == 20
    assert all(row.startswith("the house") for row in rows)


def test_unknown_may_be_allowed(translate, text):
    assert "<unk>" in translate("--allow-unknown", text)[1]
    assert "<unk>" not in translate(text)[1]


def test_sampling_is_reproducible_and_shaped_by_its_options(translate, text):
    sampled = translate("--sample", text)[1]
    assert sampled == translate("--sample", "--seed", "1", text)[1]
    assert sampled == translate("--sample", "--batch-tokens", "1", text)[1]
    assert sampled != translate(text)[1]
    assert sampled != translate("--sample", "--seed", "2", text)[1]
    assert sampled != translate("--sample", "--temperature", "2", text)[1]
    likeliest = translate("--sample", "--top-k", "1", text)[1]
    assert likeliest != sampled
    assert likeliest == translate("--sample", "--top-k", "1", "--seed", "2", text)[1]
    assert likeliest == translate("--sample", "--top-p", "0.001", text)[1]


def test_batch_tokens_bound_the_batches(translate, text, monkeypatch):
    sizes = []
    step = Stepper.step
    monkeypatch.setattr(Stepper, "step", lambda self, *rest: sizes.append(len(rest[0])) or step(self, *rest))
    whole = translate(text)[1]
    widest, sizes[:] = max(sizes), []
    assert translate("--batch-tokens", "1", text)[1] == whole
    assert max(sizes) == 5 < widest


def test_threads_are_set(translate, text, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    translate(text)
    translate("--threads", "2", text)
    assert asked == [2]


def test_processes_translate_the_same_in_order(translate, text, monkeypatch):
    asked = []
    monkeypatch.setattr("nmt.translator_pool._LEAST_LINES", 3)
    monkeypatch.setattr(
        "nmt.translator_pool.TranslatorPool.translate",
        lambda self, texts, *rest, _whole=TranslatorPool.translate, **more: (
            asked.append(len(texts)) or _whole(self, texts, *rest, **more)
        ),
    )
    assert translate(text, "--processes", "2")[:2] == translate(text)[:2]
    assert asked == [20]


@pytest.mark.parametrize("option", [[], ["--precision", "int8"]])
def test_precision_reaches_the_model(translate, text, monkeypatch, option):
    made = []
    whole = Stepper.__init__
    monkeypatch.setattr(Stepper, "__init__", lambda *given: (made.append(given[2]), whole(*given))[1])
    code, out, _ = translate(text, *option)
    assert (code, len(out.splitlines())) == (0, 20)
    assert made == [option[1] if option else "float32"]


def test_output_goes_to_a_file(translate, text, tmp_path):
    out = tmp_path / "out.txt"
    assert translate("--output", str(out), text) == (0, "", "")
    assert out.read_text() == translate(text)[1]
    code, _, err = translate("--output", str(out), "--n-best", "2", text)
    assert code == 1 and "exists already: choose another place, or allow it with --overwrite" in err
    assert out.read_text() == translate(text)[1]
    assert translate("--output", str(out), "--overwrite", "--n-best", "2", text)[0] == 0
    assert out.read_text() == translate("--n-best", "2", text)[1]


def test_several_models_are_an_ensemble(translate, models, text):
    alone, equal, both = (
        translate(*more, text)[1] for more in ([], ["--model", models["one"]], ["--model", models["two"]])
    )
    assert equal == alone
    assert both not in (alone, translate(text, model="two")[1])
    code, out, err = translate("--model", models["other"], text)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert models["one"] in err and models["other"] in err and "vocabularies differ" in err


def test_explain_writes_a_page_and_changes_nothing_else(translate, text, tmp_path, monkeypatch):
    page, records = tmp_path / "page.html", tmp_path / "in.jsonl"
    plain = translate("--n-best", "2", text)
    assert translate("--n-best", "2", "--explain", str(page), text) == plain
    written = page.read_text()
    assert written.count("<section>") == written.count("next best") == 20 and "beam 5" in written
    before = page.read_bytes()
    code, out, err = translate("--explain", str(page), text)
    assert (code, out, page.read_bytes()) == (1, "", before) and f"{page}: exists already" in err
    records.write_text('{"source": "a dog"}\n\n{"source": "the cat"}\n')
    code, out, _ = translate("--jsonl", "--explain", str(page), "--overwrite", str(records))
    assert (code, out) == (0, translate("--jsonl", str(records))[1])
    assert page.read_text().count("<section>") == 3
    monkeypatch.setattr("nmt.explanation_page.MOST", 4)
    code, out, err = translate("--explain", str(page), "--overwrite", "--model", translate.two, text)
    assert code == 0 and err == f"translate: {page} holds the first 4 of 20 lines \xb7 a model without attention: " + (
        "there is no map of what was read\n"
    )
    records.write_text('{"source": "a dog"}\n{"text": "a dog"}\n')
    before = page.read_bytes()
    assert translate("--jsonl", "--explain", str(page), "--overwrite", str(records))[0] == 1
    assert page.read_bytes() == before


def test_jsonl_adds_a_field_and_keeps_the_others(translate, text, tmp_path):
    path = tmp_path / "in.jsonl"
    sources = open(text).read().splitlines()  # noqa: SIM115, PTH123
    records = [{"id": i, "x": [1.5, None, {"ü": "\u2028"}], "source": s, "en": s} for i, s in enumerate(sources)]
    path.write_text("".join(json.dumps(one, ensure_ascii=i % 2 == 0) + "\n" for i, one in enumerate(records)))
    code, out, err = translate("--jsonl", str(path))
    assert (code, err) == (0, "")
    plain = translate(text)[1].splitlines()
    expected = [one | {"translation": best} for one, best in zip(records, plain, strict=True)]
    assert [json.loads(row) for row in out.removesuffix("\n").split("\n")] == expected
    assert "ü" in out

    named = translate("--jsonl", "--field", "en", "--output-field", "de", "--n-best", "2", str(path))[1]
    first = json.loads(named.split("\n")[0])
    assert list(first) == ["id", "x", "source", "en", "de"]
    assert [sorted(one) for one in first["de"]] == [["log_prob", "score", "text"]] * 2
    assert first["de"][0]["text"] == plain[0]

    path.write_text('{"source": "a dog", "start": "the cat"}\n{"source": "a dog", "start": ""}\n')
    out = translate("--jsonl", "--prefix-field", "start", str(path))[1].splitlines()
    forced, free = (json.loads(row)["translation"] for row in out)
    assert forced.startswith("the cat") and not free.startswith("the cat")


def test_jsonl_stops_at_a_bad_record_after_those_before_it(translate, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a dog"}\n{"text": "the cat"}\n{"txt": 1}\n{"text": "a"}\n')
    code, out, err = translate("--jsonl", "--field", "text", str(path))
    assert (code, out.count("\n"), err.count("\n")) == (1, 2, 1)
    assert f"{path}, line 3: no field 'text': did you mean 'txt'?" in err


# Mistakes


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["nowhere.txt"], 1, "nowhere.txt: cannot be read (No such file or directory)"),
        (["."], 1, ".: cannot be read (Is a directory)"),
        (["--output", "nowhere/out.txt"], 1, "nowhere/out.txt: cannot be written"),
        (["--output", "/dev/full"], 1, "/dev/full: cannot be written (No space left on device)"),
        (["--prefix", "the zebra"], 1, "'zebra' is not in the model's target vocabulary"),
        (["--model", "nowhere"], 1, "nowhere: no model directory here"),
        (["--n-best", "6"], 2, "--n-best 6 exceeds --beam 5"),
        (["--beam", "0"], 2, "--beam 0 must be at least 1"),
        (["--beam", "wide"], 2, "wide"),
        (["--top-k", "3"], 2, "--top-k 3 needs --sample."),
        (["--seed", "3"], 2, "--seed works only with --sample"),
        (["--sample", "--beam", "3"], 2, "--beam works only without --sample"),
        (["--field", "text"], 2, "--field needs --jsonl"),
        (["--prefix-field", "text"], 2, "--prefix-field needs --jsonl"),
        (["--jsonl", "--prefix", "the", "--prefix-field", "p"], 2, "exclude each other"),
        (["--batch-tokens", "0"], 2, "batch"),
        (["--explain", "nowhere/page.html"], 1, "nowhere/page.html: cannot be written"),
        (["--explain", "."], 1, ".: is no file"),
        (["--overwrite"], 2, "--overwrite needs --output or --explain"),
        (["--explain", "page", "--output", "page"], 2, "--explain and --output name the same file"),
        (["--threads", "-1"], 2, "threads"),
        (["--bean", "3"], 2, "Did you mean --beam?"),
    ],
)
def test_mistakes_are_one_line(translate, text, arguments, code, message):
    given = arguments if len(arguments) == 1 else [*arguments, text]
    found, out, err = translate(*given)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_the_input_is_not_overwritten(translate, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a dog\n")
    code, _, err = translate("--output", str(path), "--overwrite", str(path))
    assert code == 1 and "is the input" in err
    assert path.read_text() == "a dog\n"


def test_an_empty_file_gives_nothing(translate, tmp_path):
    (tmp_path / "empty").touch()
    assert translate(str(tmp_path / "empty")) == (0, "", "")


def test_a_closed_standard_input_is_told(models):
    command = " ".join([*COMMAND, "--model", models["one"], "<&-"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=SECONDS)
    assert done.returncode == 1
    assert done.stderr == b"translate: error: standard input is closed: give a FILE\n"


def test_help_names_every_option(translate):
    code, out, _ = translate("--help")
    assert code == 0
    for option in ("FILE", "--n-best", "--jsonl", "--prefix-field", "--top-p", "--threads", "--output"):
        assert option in out
    assert "null" not in out
