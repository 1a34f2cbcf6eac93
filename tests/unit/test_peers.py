"""Other programs beside ours: what they are told, what their logs say, and what is made of it."""

import io
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from data.errors import UserError
from scripts.benchmark import main
from scripts.benchmarks import peer_programs, peers
from scripts.benchmarks.child import Command, FailureError, run
from scripts.benchmarks.peer_programs import PEERS, Joey, Lesson, Marian, OpenNMT, Ours, Program, Texts
from scripts.benchmarks.peer_rounds import Comparison, Rounds, record, render

LOGS = {
    "onmt": """
[2026-01-01 10:00:00,000 INFO] Starting training on CPU, could be very slow
[2026-01-01 10:00:30,000 INFO] Step 20/   60; acc: 14.0; ppl: 927.4; xent: 6.8; lr: 0.00100; sents:    2560; \
bsz: 1585/1779/128; 1052/1180 tok/s;     30 sec;
[2026-01-01 10:00:55,000 INFO] Step 40/   60; acc: 20.1; ppl: 310.2; xent: 5.7; lr: 0.00100; sents:    2560; \
bsz: 1592/1801/128; 1288/1451 tok/s;     55 sec;
""",
    "joey": """
2026-01-01 10:00:00,000 - INFO - joeynmt.training - EPOCH 1
2026-01-01 10:00:50,000 - INFO - joeynmt.training - Epoch   1, Step:       20, Batch Loss:     5.410071, \
Batch Acc: 0.112001, Tokens per Sec:      702, Lr: 0.001000
2026-01-01 10:01:40,000 - INFO - joeynmt.training - Epoch   1, Step:       40, Batch Loss:     5.210000, \
Batch Acc: 0.140000, Tokens per Sec:      737, Lr: 0.001000
2026-01-01 10:01:40,000 - INFO - joeynmt.training - Epoch   1: total training loss 218.20
""",
    "marian": """
[2026-01-01 10:00:00] Training started
[2026-01-01 10:01:06] Ep. 1 : Up. 20 : Sen. 2,560 : Cost 7.53810024 : Time 66.20s : 541.10 words/s : gNorm 1.2034
[2026-01-01 10:02:10] Ep. 1 : Up. 1,040 : Sen. 5,120 : Cost 6.21810024 : Time 64.37s : 556.25 words/s : gNorm 0.9034
[2026-01-01 10:02:10] Training finished
""",
}


def texts(folder: Path) -> Texts:
    return Texts(folder / "given", folder)


@pytest.mark.parametrize(
    ("name", "speeds"), [("onmt", [1180, 1451]), ("joey", [702, 737]), ("marian", [541.10, 556.25])]
)
def test_target_words_a_second_are_read_from_a_log(name, speeds, tmp_path):
    assert PEERS[name](Path("python")).speeds(LOGS[name], tmp_path) == speeds


def test_our_speed_is_read_from_the_metrics_without_what_ended_an_epoch(tmp_path):
    (tmp_path / "run").mkdir()
    records = [
        {"kind": "train", "update": 20, "target_tokens_per_second": 4000.0},
        {"kind": "train", "update": 26, "target_tokens_per_second": 9000.0},
        {"kind": "valid", "update": 26, "bleu": 1.0},
        {"kind": "train", "update": 40, "target_tokens_per_second": 5000.0},
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    assert Ours(Path("python")).speeds("", tmp_path) == [4000.0, 5000.0]


def test_the_mean_speed_is_over_words_and_not_over_time():
    assert peers.mean_speed([100, 300]) == pytest.approx(150)


def test_what_is_trained_for_speed_has_no_attention_where_that_can_be(tmp_path):
    lesson = Lesson(small=False, updates=80, rows=128, threads=2)
    onmt = OpenNMT(Path("python")).config(texts(tmp_path), lesson, tmp_path)
    assert (onmt["global_attention"], onmt["enc_layers"], onmt["dec_hid_size"]) == ("none", 2, 512)
    assert (onmt["batch_size"], onmt["train_steps"], onmt["encoder_type"]) == (128, 80, "rnn")
    joey = Joey(Path("python")).config(texts(tmp_path), lesson, tmp_path)
    assert joey["model"]["decoder"]["hidden_size"] == 512 and joey["training"]["updates"] == 80
    assert joey["training"]["validation_freq"] > 80 and joey["training"]["decrease_factor"] == 1
    marian = Marian(Path("python")).config(texts(tmp_path), lesson, tmp_path)
    assert (marian["dim-rnn"], marian["mini-batch"], marian["after"]) == (512, 128, "80u")
    ours = Ours(Path("python")).options(lesson)
    assert (ours["model.hidden"], ours["model.layers"], ours["threads"]) == (
        512,
        2,
        2,
    ) and "model.attention" not in ours


def test_what_translates_has_256_units_and_attention(tmp_path):
    lesson = Lesson(small=True, updates=200, rows=64, threads=1, decay=True)
    onmt = OpenNMT(Path("python")).config(texts(tmp_path), lesson, tmp_path)
    assert (onmt["global_attention"], onmt["encoder_type"], onmt["dec_hid_size"]) == ("general", "brnn", 256)
    assert (onmt["start_decay_steps"], onmt["decay_steps"], onmt["save_checkpoint_steps"]) == (132, 23, 200)
    joey = Joey(Path("python")).config(texts(tmp_path), lesson, tmp_path)
    assert joey["model"]["decoder"]["hidden_size"] == 256
    assert joey["training"]["validation_freq"] == 200  # the only place where it saves
    marian = Marian(Path("python")).config(texts(tmp_path), lesson, tmp_path)
    assert marian["dim-rnn"] == 256 and (marian["lr-decay-start"], marian["lr-decay-freq"]) == ([132], 23)
    ours = Ours(Path("python")).options(lesson)
    assert (ours["model.hidden"], ours["model.attention"], ours["model.bidirectional"]) == (256, "general", True)


def test_marian_alone_takes_threads_as_an_option(tmp_path):
    lesson = Lesson(small=False, updates=80, rows=128, threads=2)
    for name, peer in PEERS.items():
        command = peer(Path("python")).train(texts(tmp_path), lesson, tmp_path)
        assert command.threads == (1 if name == "marian" else 0)
    written = yaml.safe_load((tmp_path / "config.yml").read_text())
    assert written["cpu-threads"] == 2 and written["sync-sgd"] is True  # one update of all threads together
    alone = replace(lesson, threads=1)
    assert not Marian(Path("python")).config(texts(tmp_path), alone, tmp_path)["sync-sgd"]


def test_ours_translates_with_a_process_for_each_core(tmp_path):
    command = Ours(Path("python")).translate(texts(tmp_path), tmp_path / "ours", 5, 2, Path("one.de"), tmp_path / "out")
    given = list(zip(command.arguments, command.arguments[1:], strict=False))
    assert ("--processes", "2") in given and ("--threads", "1") in given and ("--beam", "5") in given


def test_joey_translates_with_the_beam_and_the_model_asked_for(tmp_path):
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "written"
    command = Joey(Path("python")).translate(texts(tmp_path), tmp_path / "joey", 5, 1, Path("one.de"), output)
    written = yaml.safe_load((tmp_path / "out" / "config.yml").read_text())
    assert (written["testing"]["beam_size"], written["testing"]["batch_size"]) == (5, 128)
    assert written["model_dir"] == str(tmp_path / "joey" / "model")
    assert (command.stdin, command.stdout) == (Path("one.de"), output)


def test_vocabularies_are_in_the_form_of_each_peer():
    counted = [("a", 3), ("b", 2)]
    assert OpenNMT(Path("python")).vocabulary(counted) == "a\t3\nb\t2\n"
    assert Marian(Path("python")).vocabulary(counted).split() == ["</s>", "<unk>", "a", "b"]
    assert Joey(Path("python")).vocabulary(counted).split() == ["<unk>", "<pad>", "<s>", "</s>", "a", "b"]


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_environment_is_told_with_what_makes_it(name, tmp_path):
    options = peers.Options(tmp_path, tmp_path, [name], None, 1, 20, 1, 1)
    with pytest.raises(UserError, match=f"(?s)v_{name}.* -m venv .*v_{name}/bin/pip install .*=="):
        peers.measure_peers(options)
    python = tmp_path / f"v_{name}" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")  # it is there, but its package is not
    python.chmod(0o755)
    with pytest.raises(UserError, match=PEERS[name].packages[0]):
        peers.measure_peers(options)


@pytest.mark.parametrize("wrong", ["--peers=onmt,moses", "--updates=30", "--updates=-20", "--minutes=0"])
def test_wrong_options_are_one_line(wrong, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "peers", "--data=x", "--environments=y", wrong])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and wrong.split("=")[0] in said


def test_a_process_has_its_threads_and_its_own_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ.get('OMP_WAIT_POLICY'), os.getcwd())"
    ran = run(Command([sys.executable, "-c", code]), 3, tmp_path)
    assert ran.log.split() == ["3", "None", os.path.realpath(tmp_path)] and ran.seconds > 0
    assert 1 < ran.peak_mb < 100  # this process has imported torch and takes more
    assert run(Command([sys.executable, "-c", code], threads=1), 3, tmp_path).log.startswith("1 ")


def test_a_process_that_fails_is_told_by_its_last_line(tmp_path):
    code = "import sys; print('reading'); sys.exit('no such vocabulary\\n')"
    with pytest.raises(FailureError, match="exit code 1: no such vocabulary"):
        run(Command([sys.executable, "-c", code]), 1, tmp_path)


def test_a_peer_that_failed_is_in_the_table_and_not_in_the_ratio():
    ours, good = Rounds("ours", "m", [300.0, 100.0, 200.0]), Rounds("good", "m", [50.0])
    bad = Rounds("bad", "m", [900.0], failure="exit code 1: [/a.de] no such vocabulary")
    found = Comparison(
        1, "float32", {}, {}, [ours, good, bad, Rounds("plain loop", "m", [500.0])], {"greedy": [ours, bad]}
    )
    assert found.ratios == {"training": 4.0}  # the plain loop is no peer, and greedily none succeeded
    console = Console(width=200, file=io.StringIO())
    console.print(render(found))
    shown = console.file.getvalue()
    assert "[/a.de] no such vocabulary" in shown and "4.00 times" in shown and "900" not in shown


def test_the_models_stand_below_the_table(tmp_path):
    large = [Rounds(name, "2x512") for name in ("Verso", "OpenNMT-py", "plain loop")]
    small = [Rounds("Verso", "2x128"), Rounds("Marian", "2x256"), Rounds("Verso, int8", "2x128")]
    for one in (*large, *small):
        one.rates.append(1.0)
    console = Console(width=80, file=io.StringIO())
    console.print(render(Comparison(1, "float32", {}, {}, large, {"greedy": small})))
    shown = [line.strip() for line in console.file.getvalue().splitlines()]
    assert "Verso, OpenNMT-py, plain loop: 2x512" in shown
    assert shown[-2:] == ["Verso: 2x128", "Marian: 2x256"]


def test_the_command_shows_and_writes_what_was_found(tmp_path, monkeypatch, capsys):
    asked = []

    def measure(options):
        asked.append(options)
        return Comparison(1, "float32", {}, {}, [Rounds("ours", "m", [6.0, 8.0]), Rounds("good", "m", [2.0])], {})

    monkeypatch.setattr(peers, "measure_peers", measure)
    given = ["--data=x", "--environments=y", "--peers=onmt,marian", f"--json={tmp_path / 'out.json'}"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "peers", *given])
    main()
    assert asked == [peers.Options(Path("x"), Path("y"), ["onmt", "marian"], None, 2, 60, 8.0, 1)]
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["training"][0]["rates"] == [6.0, 8.0] and written["ratios"] == {"training": 3.5}
    assert written["threads"] == 1 and written["hardware"] in capsys.readouterr().out.replace("\n", " ")


# stands for a program: tells its speed, and answers in the words of the references, slowly
TRAINS = "print('speed 10'); print('speed 40'); open('model', 'w')"
TRANSLATES = """
import sys, time
lines = open(sys.argv[1]).readlines()
time.sleep(0.5 * (len(lines) > 1))
open(sys.argv[2], "w").writelines(lines)
"""


class Fake(Program):
    title, name, packages, large_model, small_model = "Fake", "fake", ("torch",), "large", "small"
    speed = re.compile(r"speed (\d+)")

    def train(self, texts, lesson, out):
        return Command([sys.executable, "-c", TRAINS])

    def translate(self, texts, model, beam, threads, source, output):
        assert (model / "model").exists()
        return Command([sys.executable, "-c", TRANSLATES, str(source), str(output)])


class FakeOurs(Fake):
    title, name = "Ours", "ours"


class FakeInt8(FakeOurs):
    title = "Verso, int8"


class Broken(Fake):
    title, name = "Broken", "broken"

    def train(self, texts, lesson, out):
        return Command([sys.executable, "-c", "import sys; sys.exit('out of words')"])


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Compare the fakes on a small text; gives what was found."""
    data = tmp_path / "given"
    data.mkdir()
    for part in ("train", "val", "test"):
        for language in ("de", "en"):
            (data / f"{part}.{language}").write_text("the man &apos;s hat , a dog .\n" * 4)
    monkeypatch.setattr(peers, "Ours", FakeOurs)
    monkeypatch.setattr(peers, "WAYS", (FakeInt8,))
    monkeypatch.setattr(peers, "train_plainly", lambda *_: 8.0)
    monkeypatch.setattr(peers, "PEERS", {"fake": Fake, "broken": Broken})
    for name in ("fake", "broken"):
        python = tmp_path / f"v_{name}" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
    options = peers.Options(data, tmp_path, ["fake", "broken"], tmp_path / "models", 1, 20, 0.01, 1)
    return lambda **changed: peers.measure_peers(replace(options, **changed))


def test_programs_train_and_translate_in_turn_and_models_are_kept(compare, tmp_path, capsys):
    found = compare()
    ours, fake, broken, plain = found.training
    assert ours.rates == fake.rates == [40.0] and plain.rates == [8.0]  # the first updates are left out
    assert broken.failure == "exit code 1: out of words"
    assert found.ratios["training"] == 1.0
    for name, (ours, fake, broken, int8) in found.translating.items():
        assert ours.bleu == fake.bleu == int8.bleu == pytest.approx(100) and broken.failure
        lines = {"greedy": 5 * 4, "beam 5": 4}[name]  # greedily the text is translated five times over
        assert fake.words[0] / fake.rates[0] == pytest.approx(lines * 9 / (lines - 1))
    assert (tmp_path / "given" / "train.en").read_text().startswith("the man &apos;s hat ,")
    kept = json.loads((tmp_path / "models" / "fake" / "trained.json").read_text())
    assert kept["updates"] == 40 and found.trained["Fake"] == kept and "Broken" not in found.trained
    assert json.dumps(record(found))  # all of it goes into a file
    assert "training Fake for" in capsys.readouterr().err
    assert compare().trained == found.trained and "training Fake for" not in capsys.readouterr().err


def test_without_updates_nothing_is_timed_in_training(compare):
    found = compare(updates=0)
    assert not found.training and found.ratios.keys() == {"greedy", "beam 5"}
    console = Console(width=200, file=io.StringIO())
    console.print(render(found))
    assert "Training" not in console.file.getvalue() and "beam 5" in console.file.getvalue()


def test_a_shortlist_is_made_before_translating_with_it(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(peer_programs, "make_shortlist", lambda *given, **sizes: made.append(given))
    ours = peer_programs.OursShortlist(Path("python"))
    ours.prepare(texts(tmp_path), tmp_path / "ours")
    assert made == [(tmp_path / "ours" / "run" / "model", tmp_path / "prepared", tmp_path / "shortlist")]
    command = ours.translate(texts(tmp_path), tmp_path / "ours", 5, 1, Path("one.de"), tmp_path / "written")
    assert command.arguments[-2:] == ["--shortlist", str(tmp_path / "shortlist")]
    assert "int8" in command.arguments


def test_a_kept_model_of_other_text_is_refused(compare, tmp_path):
    kept = tmp_path / "models" / "ours" / "trained.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"text": ["other", "text"]}')
    with pytest.raises(UserError, match=r"learnt from other text .* choose another --models"):
        compare()
