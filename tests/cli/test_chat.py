"""chat: a line in, a reply out, with what was said in mind."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.config import PrepareConfig
from data.dialogues import TURN_MARK
from data.holdout import Holdout
from data.prepare import prepare
from data.readers import ParallelText
from data.tokenizer import TokenizerConfig
from nmt.checkpoint import load_model
from nmt.config import ModelConfig
from nmt.conversation import Conversation
from nmt.search_options import SearchOptions
from nmt.translator import Translator
from scripts.chat import main
from tests import tiny

SECONDS = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained for a moment on dialogues of three turns before a reply."""
    base = tmp_path_factory.mktemp("chat")
    turns = ["hello you", "hi , how are you ?", "I am well", "good to hear", "bye"]
    dialogues = [[f"opening {n}", *turns[n % 3 :]] for n in range(12)]
    (base / "a.jsonl").write_text("".join(json.dumps({"turns": turns}) + "\n" for turns in dialogues))
    side = TokenizerConfig(min_count=1)
    train = ParallelText(files="a.jsonl", history=3)
    config = PrepareConfig(
        train=train, holdout=Holdout(valid=3), source=side, target=side, shared_vocabulary=True, workers=1
    )
    prepare(config, base / "data", base=base)
    result = tiny.train(base / "data", base / "run", model=ModelConfig(hidden=16, embedding=16), max_updates=30)
    assert result.model is not None
    return result.model


@pytest.fixture
def chat(model: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]):
    """Runs the command in this process on some input: exit code, output and messages."""

    def call(said: bytes, *arguments: str, of: Path = model) -> tuple[int, str, str]:
        reading, writing = os.pipe()
        os.write(writing, said)
        os.close(writing)
        with os.fdopen(reading) as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            monkeypatch.setattr(sys, "argv", ["chat", "--model", str(of), *arguments])
            with pytest.raises(SystemExit) as exit_:
                main()
        out, err = capfdbinary.readouterr()
        return exit_.value.code, out.decode(), err.decode()

    return call


def expected(model: Path, *sources: str, **options) -> list[str]:
    return [one.text for one in Translator.load(model).translate(sources, SearchOptions(**options))]


def test_what_was_said_is_the_context_of_a_reply(chat, model: Path) -> None:
    code, out, err = chat(b"hello you\nI am well\nbye\n", "--beam", "2")
    assert (code, err) == (0, "")
    first, second, third = out.splitlines()
    mark = f" {TURN_MARK} "
    sources = ["hello you", mark.join(["hello you", first, "I am well"]), mark.join(["I am well", second, "bye"])]
    assert [first, second, third] == expected(model, *sources, beam=2)


def test_reset_forgets_and_says_nothing(chat) -> None:
    code, out, _ = chat(b"hello you\nbye\n /reset \nhello you\nbye")
    assert code == 0
    replies = out.splitlines()
    assert len(replies) == 4
    assert replies[:2] == replies[2:]


def test_odd_lines_have_a_reply_each(chat) -> None:
    lines = [b"hi", b"", b"  ", TURN_MARK.encode(), b"a\xffb", b"\x00", b"x " * 5000, b"hi " * 300, b"/resets"]
    code, out, err = chat(b"\n".join(lines) + b"\n")
    assert code == 0
    assert out.count("\n") == len(lines)
    assert out.split("\n")[1:4] == ["", "", ""]
    assert "invalid UTF-8" in err
    assert "Traceback" not in err


def test_a_blank_turn_is_not_remembered(model: Path) -> None:
    one, other = (Conversation.load(model, SearchOptions(beam=1)) for _ in range(2))
    for turn in ("hello you", "bye"):
        assert one.answer(turn).text == other.answer(turn).text
        assert other.answer(" ").text == ""


def test_samples_of_the_same_words_differ_and_can_be_had_again(chat) -> None:
    said = b"hello you\n/reset\n" * 6
    drawn = chat(said, "--sample", "--temperature", "3")[1]
    assert len(set(drawn.splitlines())) > 1
    assert chat(said, "--sample", "--temperature", "3")[1] == drawn
    assert chat(said, "--sample", "--temperature", "3", "--seed", "2")[1] != drawn


def test_a_model_of_no_dialogues_answers_each_line_by_itself(chat, tmp_path: Path) -> None:
    data = tiny.write_prepared(tmp_path)
    model = tiny.train(data, tmp_path / "run").model
    code, out, err = chat(b"Ein Hund\nein Haus\n", of=model)
    assert code == 0
    assert out.splitlines() == expected(model, "Ein Hund", "ein Haus")
    assert "was not trained on dialogues: it answers each line by itself" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "nosuch"], 1, "nosuch: no model directory"),
        ([], 2, "required: model"),
        (["--model", "m", "--temperature", "2"], 2, "--temperature 2.0 needs --sample"),
        (["--model", "m", "--sample", "--beam", "3"], 2, "--beam works only without --sample"),
        (["--model", "m", "--n-best", "3"], 2, "--n-best"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["chat", *arguments])
    with (tmp_path / "in").open("w+") as stream, pytest.raises(SystemExit) as exit_:
        monkeypatch.setattr(sys, "stdin", stream)
        main()
    err = capsys.readouterr().err
    assert (exit_.value.code, err.count("\n")) == (code, 1)
    assert message in err


def test_in_a_terminal_it_prompts_answers_at_once_and_ends_cleanly(model: Path) -> None:
    """One conversation ends with Ctrl-D, another with Ctrl-C."""
    reply = expected(model, "hello you")[0]
    for ending, code in ((b"\x04", 0), (signal.SIGINT, 130)):
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.chat", "--model", str(model), "--threads", "1"],
            stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tiny.ROOT, env=tiny.environment(),
        )  # fmt: skip
        assert process.stdout and process.stderr
        assert process.stderr.read(2) == b"> "
        os.write(controller, b"hello you\n")
        assert process.stdout.readline().decode() == f"{reply}\n"
        assert process.stderr.read(2) == b"> "
        if isinstance(ending, bytes):
            os.write(controller, ending)
        else:
            process.send_signal(ending)
        rest = process.communicate(timeout=SECONDS)[1].decode()
        assert process.returncode == code
        assert rest in ("\n", "chat: interrupted\n")
        os.close(controller)
        os.close(terminal)


def test_the_turns_a_model_reads_are_in_its_directory(model: Path) -> None:
    trained = load_model(model)
    assert trained.history == 3
    assert not trained.truncates
