import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
import torch

from data.errors import UserError
from data.length_ratio import LengthRatio
from data.tokenizer import UNKNOWN_TEXT, Tokenizer, TokenizerConfig
from nmt.checkpoint import TrainedModel, load_model, save_model
from nmt.config import ModelConfig
from nmt.evaluation import System, SystemOutput, check_line_counts, evaluate, format_json, reference_perplexity
from nmt.metrics import bootstrap_seed, exact_match, make_metrics, read_scored_text, score_lines
from nmt.model import text_model
from nmt.search_options import SearchOptions
from nmt.translator import Translation, Translator
from nmt.written import WrittenHypothesis
from scripts.command import run
from scripts.evaluate_translation import NAME
from scripts.evaluate_translation import evaluate as evaluate_command

torch.set_num_threads(1)

BIN = Path(sys.executable).parent
ENGLISH = ["A", "a", "dog", "dogs", "cat", "house", "runs", "in", "the", "The", "big", ",", ".", "'s", "not", "!"]
FOREIGN = ["Ein", "ein", "Hund", "Hunde", "Katze", "Haus", "läuft", "schläft", "im", "das", ",", ".", "zwei", "rote"]


def sentences(words: list[str], count: int, seed: int) -> list[str]:
    random = Random(seed)
    return [" ".join(random.choices(words, k=random.randint(1, 14))) for _ in range(count)]


def damaged(lines: list[str], seed: int) -> list[str]:
    """Sentences that are partly right: words lost, moved and in another case."""
    random = Random(seed)
    found = []
    for line in lines:
        words = [word.upper() if random.random() < 0.1 else word for word in line.split() if random.random() < 0.85]
        if words and random.random() < 0.5:
            words.insert(random.randrange(len(words)), words.pop())
        found.append(" ".join(words))
    return found


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def run_command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/evaluate_translation.py", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_here(*arguments: str | Path) -> object:
    """The exit code of the command, run in this process, which is quicker."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", [NAME, *map(str, arguments)])
        run(NAME, evaluate_command)
    return ended.value.code


def sacrebleu(references: list[Path], *options: str | Path) -> list[dict[str, object]]:
    """The figures of the sacrebleu command, with six digits after the point."""
    command = [BIN / "sacrebleu", *references, "-w", "6", *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]


def make_model(folder: Path, *, lowercase: bool = False, seed: int = 1) -> Path:
    torch.manual_seed(seed)
    tokenizers = []
    for language, words in (("de", FOREIGN), ("en", ENGLISH)):
        counts = Counter({word.lower() if lowercase else word: 9 for word in words})
        tokenizers.append(Tokenizer.train(counts, TokenizerConfig(language=language, lowercase=lowercase)))
    config, settings = ModelConfig(hidden=8, embedding=8), {"training": {"seed": seed}}
    network = text_model(config, len(tokenizers[0]), len(tokenizers[1]))
    folder.mkdir()
    save_model(folder, TrainedModel(network, *tokenizers, LengthRatio(0.5, 1.0, 1.5), 50, settings), {})
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and a test text with references, the second of which has blank lines, and translations."""
    folder = tmp_path_factory.mktemp("evaluation")
    make_model(folder / "model")
    make_model(folder / "lower", lowercase=True, seed=2)
    write(folder / "source", sentences(FOREIGN, 40, 1))
    first = sentences(ENGLISH, 40, 2)
    write(folder / "reference", first)
    write(folder / "ragged", [line if i % 3 else "" for i, line in enumerate(damaged(first, 3))])
    write(folder / "good", [line.replace("dog", "hound") for line in first])
    write(folder / "bad", damaged(first, 5))
    return folder


@pytest.mark.parametrize("names", [["reference"], ["reference", "ragged"], ["ragged", "reference"]])
def test_the_figures_are_those_of_the_sacrebleu_command(shared: Path, tmp_path: Path, names: list[str]) -> None:
    references = [shared / name for name in names]
    given = [item for path in references for item in ("--reference", path)]
    out = tmp_path / "out.json"
    assert run_here("--hypotheses", shared / "bad", "--source", shared / "source", *given, "--json", out) == 0
    ours = json.loads(out.read_text(encoding="utf-8"))
    cased, lower = ["--ter-case-sensitive"], ["-lc", "--chrf-lowercase"]
    theirs = dict(
        zip(
            ("bleu", "chrf", "ter", "bleu_lowercase", "chrf_lowercase", "ter_lowercase", "ter_cased"),
            [
                *sacrebleu(references, "-i", shared / "bad", "-m", "bleu", "chrf", "ter"),
                *sacrebleu(references, "-i", shared / "bad", "-m", "bleu", "chrf", "ter", *lower),
                *sacrebleu(references, "-i", shared / "bad", "-m", "ter", *cased),
            ],
            strict=True,
        )
    )
    for name, expected in theirs.items():
        assert round(ours[name]["score"], 6) == expected["score"], name
        assert ours[name]["signature"] == expected["signature"]
    assert 5 < ours["bleu"]["score"] < ours["bleu_lowercase"]["score"] < 100


def test_text_is_read_as_the_sacrebleu_command_reads_it(shared: Path, tmp_path: Path) -> None:
    lines = ["\ufeffA dog runs.\u00a0", "two\u2028cats sleep  ", "the\x85big house is red", "  an old man and a dog"]
    reference, hypothesis = tmp_path / "reference", tmp_path / "hypothesis"
    reference.write_text("\r\n".join(lines), encoding="utf-8")
    hypothesis.write_text("\n".join(lines).replace("big", "small").removeprefix("\ufeff"), encoding="utf-8")
    ours = score_lines(read_scored_text(hypothesis), make_metrics([read_scored_text(reference)]))
    for expected in sacrebleu([reference], "-i", hypothesis, "-m", "bleu", "chrf", "ter"):
        name = {"BLEU": "bleu", "chrF2": "chrf", "TER": "ter"}[str(expected["name"])]
        assert round(ours[name].score, 6) == expected["score"], name
        assert ours[name].score not in (0, 100)


def test_blank_references_are_left_out_beside() -> None:
    hypotheses = ["A dog runs fast .", "two cats sleep in the house"]
    first, second = ["A big dog runs .", "two cats sleep in a house"], ["", "Two cats are sleeping"]
    found = evaluate(SystemOutput(hypotheses), ["x", "y"], [first, second])
    assert found.blank_references == 1
    assert found.without_blanks is not None
    # edits over words: (2 + 1) / (5 + (6 + 4) / 2) without; the blank halves the first sentence's length
    assert found.without_blanks["ter"].score == pytest.approx(100 * 3 / 10)
    assert found.scores["ter"].score == pytest.approx(100 * 3 / 7.5)
    assert "nrefs:var" in found.without_blanks["bleu"].signature
    assert "nrefs:2" in found.scores["bleu"].signature
    assert evaluate(SystemOutput(hypotheses), ["x", "y"], [first]).without_blanks is None


def test_paired_bootstrap_is_that_of_the_sacrebleu_command(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    systems = "--hypotheses", shared / "bad", "--compare", shared / "good"
    rest = "--source", shared / "source", "--reference", shared / "reference", "--json", out
    done = run_command(*systems, *rest)
    assert done.returncode == 0, done.stderr
    ours = json.loads(out.read_text(encoding="utf-8"))
    command = [BIN / "sacrebleu", shared / "reference", "-i", shared / "good", shared / "bad", "--paired-bs"]
    latex = subprocess.run(
        [*map(str, command), "-m", "bleu", "chrf", "ter", "-f", "latex", "-w", "4"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in ("bleu", "chrf", "ter"):
        row = ours["compare"][name]
        assert row["score"] == ours[name]["score"]
        assert row["difference"] == pytest.approx(row["score"] - row["other"])
        for value in (row["score"], row["other"], row["interval"], row["other_interval"], row["p_value"]):
            assert f"{value:.4f}" in latex, (name, latex)
        assert row["p_value"] < 0.05
        assert "bs:1000" in row["signature"]
        assert "seed:12345" in row["signature"]
    assert ours["seeds"]["bootstrap"] == "12345"
    assert "this - other" in done.stdout


def test_a_system_does_not_differ_from_itself(shared: Path) -> None:
    lines, references = read_scored_text(shared / "bad"), [read_scored_text(shared / "reference")]
    same = SystemOutput(lines, lowercase=True)
    compare = evaluate(same, lines, references, other=SystemOutput(lines)).compare
    assert compare is not None
    assert list(compare) == ["bleu", "bleu_lowercase", "chrf", "ter", "rouge_l"]
    assert all((row.difference, row.p_value) == (0, 1) for row in compare.values())


def test_a_small_difference_is_not_significant(shared: Path) -> None:
    lines, references = read_scored_text(shared / "bad"), [read_scored_text(shared / "reference")]
    # every other sentence better, the rest worse by as much
    one = [line if i % 2 else right for i, (line, right) in enumerate(zip(lines, references[0], strict=True))]
    two = [right if i % 2 else line for i, (line, right) in enumerate(zip(lines, references[0], strict=True))]
    compare = evaluate(SystemOutput(one), lines, references, other=SystemOutput(two)).compare
    assert compare is not None
    assert compare["bleu"].p_value > 0.05
    assert compare["bleu"].difference != 0


def test_outputs_are_counted_and_bucketed_by_source_length() -> None:
    sources = ["a b", "a b c d e", "a b c d e f", " ".join("a" * 31), ""]
    lines = ["one two three four", "one two three four", "ONE two three four five", "", ""]
    references = [["one two three four", "one two three four", "one two three four five", "six", "seven"]]
    found = evaluate(SystemOutput(lines, lowercase=True), sources, references)
    assert (found.sentences, found.distinct, found.empty) == (5, 3, 2)
    assert [(bucket.words, bucket.sentences) for bucket in found.buckets] == [
        ("1-5", 2), ("6-10", 1), ("11-15", 0), ("16-20", 0), ("21-30", 0), ("31-", 1),
    ]  # fmt: skip
    assert [bucket.bleu for bucket in found.buckets] == pytest.approx([100, 100, None, None, None, 0])
    assert found.length_ratio == pytest.approx(13 / 15)
    cased = evaluate(SystemOutput(lines), sources, references)
    assert (cased.buckets[1].bleu or 0) < 99


def test_json_is_strict_and_ends_its_line() -> None:
    text = format_json(evaluate(SystemOutput(["é"]), ["x"], [["y"]]), {"seeds": {"search": 1}})
    assert text.endswith("}\n")
    assert json.loads(text, parse_constant=pytest.fail)["seeds"] == {"search": 1}


def test_a_model_is_evaluated_with_one_command(shared: Path, tmp_path: Path) -> None:
    out, output = tmp_path / "scores.json", tmp_path / "scores.translations.txt"
    text = "--source", shared / "source", "--reference", shared / "reference"
    models = "--model", shared / "lower", "--compare", shared / "model"
    done = run_command(*models, *text, "--json", out, "--threads", "1", "--search.beam", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert len(read_scored_text(output)) == 40
    (expected,) = sacrebleu([shared / "reference"], "-i", output, "-lc")
    assert round(found["bleu_lowercase"]["score"], 6) == expected["score"]
    assert found["lowercase"] is True
    assert "lower case only" in done.stdout
    assert set(found["compare"]) == {"bleu", "bleu_lowercase", "chrf", "ter", "rouge_l"}
    assert f"perplexity of the references: {found['perplexity']:.2f} a token" in done.stdout
    for name, path in (("source", shared / "source"), ("reference1", shared / "reference"), ("output", output)):
        assert found["data"][name]["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert found["search"]["beam"] == 2
    assert found["versions"]["sacrebleu"]
    assert found["decoding"]["source_unknown_rate"] == 0
    assert found["decoding"]["output_unknown_rate"] == 0
    assert found["decoding"]["sentences_per_second"] > 0
    assert run_here(*models, *text, "--json", out, "--search.beam", "2", "--overwrite") == 0
    second = json.loads(out.read_text(encoding="utf-8"))
    del found["decoding"], second["decoding"]  # holds the time taken
    assert second == found


def test_models_translate_together_and_unknown_source_tokens_are_told(shared: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=7)
    source = write(tmp_path / "source", ["Ein Hund läuft wohin", "das rote Haus schläft im Haus"] * 20)
    out, output = tmp_path / "out.json", tmp_path / "out.txt"
    models = "--model", shared / "model", "--model", other
    text = "--source", source, "--reference", shared / "reference", "--json", out, "--output", output
    done = run_command(*models, *text)
    assert done.returncode == 0, done.stderr
    assert "warning" in done.stderr
    assert "10.0% of the tokens" in done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["decoding"]["source_unknown_rate"] == pytest.approx(0.1)
    assert len(read_scored_text(output)) == 40
    assert [model["training_seed"] for model in found["models"]] == [1, 7]


class FixedTranslator(Translator):
    """Writes the same for everything."""

    def __init__(self) -> None:
        pass

    def translate(self, texts: Sequence[str], *_: object, **__: object) -> list[Translation]:  # type: ignore[override]
        tokens = ["\u2581A", UNKNOWN_TEXT, "\u2581runs", "."]
        written = WrittenHypothesis("A <unk> runs.", tokens, -1.0, -1.0, False)
        return [Translation(text, written.text, [written], 0, 1, 1) for text in texts]


def test_unknown_tokens_of_the_output_are_counted() -> None:
    output = System(FixedTranslator(), False, 0.0).translate(["a", "b"], SearchOptions())
    assert output.lines == ["A <unk> runs."] * 2
    assert output.decoding is not None
    assert output.decoding.output_unknown_rate == 0.25
    assert output.decoding.unfinished == 2


def with_change(shared: Path, change: dict[str, str]) -> list[str]:
    """A good command line but for one thing."""
    write(shared / "short", ["one", "two", "three"])
    write(shared / "english", ["Nobody here speaks another language"] * 40)
    options = {"--model": "model", "--source": "source", "--reference": "reference"} | change
    given = [part for name, value in options.items() for part in (name, value) if part]
    return [str(shared / part) if (shared / part).exists() else part for part in given]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--reference": "short"}, "source has 40 lines but"),
        ({"--reference": "nowhere"}, "nowhere: "),
        ({"--json": "good"}, "good: exists already"),
        ({"--source": "english"}, "probably trained on another language or casing"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(shared: Path, change: dict[str, str], said: str) -> None:
    before = (shared / "good").read_bytes()
    done = run_command(*with_change(shared, change))
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert before == (shared / "good").read_bytes()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"--source": "nowhere"}, 1, "nowhere: "),
        ({"--model": "nowhere"}, 1, "nowhere: no model directory here"),
        ({"--compare": "nowhere"}, 1, "nowhere: "),
        ({"--compare": "short"}, 1, "short has 3:"),
        ({"--output": "good"}, 1, "good: exists already"),
        ({"--output": "model", "--overwrite": ""}, 1, "model: is a folder"),
        ({"--output": "source", "--overwrite": ""}, 1, "source: this file has another use"),
        ({"--output": "new", "--json": "new"}, 1, "new: this file has another use"),
        ({"--hypotheses": "good"}, 2, "give either --model or --hypotheses"),
        ({"--search.beam": "0"}, 2, "must be at least 1"),
    ],
)
def test_what_a_user_may_get_wrong(
    shared: Path, change: dict[str, str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (shared / "good").read_bytes(), (shared / "source").read_bytes()
    assert run_here(*with_change(shared, change)) == code
    stderr = capsys.readouterr().err
    assert said in stderr
    assert stderr.count("\n") == 1
    assert before == ((shared / "good").read_bytes(), (shared / "source").read_bytes())


def test_line_counts_that_differ_are_named() -> None:
    with pytest.raises(UserError, match="a has 2 lines but b has 1"):
        check_line_counts({Path("a"): ["1", "2"], Path("b"): ["1"]})


def test_the_bootstrap_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    assert bootstrap_seed() == "12345"
    for seed, known in (("7", "7"), ("None", "none")):
        monkeypatch.setenv("SACREBLEU_SEED", seed)
        assert bootstrap_seed() == known
    for seed in ("0", "-1", "x"):
        monkeypatch.setenv("SACREBLEU_SEED", seed)
        with pytest.raises(UserError, match="SACREBLEU_SEED"):
            bootstrap_seed()


def test_exact_match_counts_outputs_that_are_a_reference():
    assert exact_match(["a b", "c", "", "d"], [["a b", "x", "", "d."], ["z", "c", "y", "e"]]) == 75
    assert exact_match(["", ""], [["a", ""], ["", ""]]) == 50  # a blank line of a later file is no reference
    assert exact_match([], [[]]) == 0


def test_perplexity_of_the_references_is_that_of_each_different_one(shared: Path) -> None:
    """Each source with each of its different references, blank ones left out, as two systems' tokens are counted."""
    trained = load_model(shared / "model")
    sources = ["Ein Hund läuft", "das Haus", " "]
    first, second = ["A dog runs.", "the house", "a cat"], ["A dog runs.", "the big house", ""]
    pairs = [("Ein Hund läuft", "A dog runs."), ("das Haus", "the house"), ("das Haus", "the big house")]
    nll = tokens = 0.0
    for source, target in pairs:
        count = len(trained.target.encode(target)) + 1
        nll += count * math.log(reference_perplexity(trained, [source], [[target]]) or 0)
        tokens += count
    expected = pytest.approx(math.exp(nll / tokens), rel=1e-4)
    assert reference_perplexity(trained, sources, [first, second]) == expected
    assert reference_perplexity(trained, ["", " "], [["a", "b"]]) is None
    # as in training, only so many tokens of a side count
    cut = reference_perplexity(replace(trained, max_length=2), sources[:1], [["A dog"]])
    assert reference_perplexity(replace(trained, max_length=2), ["Ein Hund"], [["A dog runs."]]) == cut
    assert reference_perplexity(trained, sources[:1], [["A dog"]]) != cut
