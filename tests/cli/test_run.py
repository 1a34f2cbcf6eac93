"""scripts/run.py: every recipe is sound, and a tiny one runs through all stages once."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from tiny import launch

from data.errors import UserError
from nmt.config import ModelConfig
from nmt.recipe import DryRun, claim_run
from nmt.translation_recipe import GenerateConfig, TranslationRecipe, generate
from scripts.command import run as run_command
from scripts.run import RECIPES, main, read_recipe

SCRIPT = Path(__file__).parents[2] / "scripts" / "run.py"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
TINY = [
    "--generate.train=40", "--generate.valid=4", "--generate.test=6",
    "--model.hidden=8", "--model.embedding=8", "--training.max_updates=3", "--training.validate_every=2",
]  # fmt: skip


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, in this process: it would import torch for seconds each time."""
    words, out, messages, code = [str(SCRIPT), *map(str, arguments)], io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(messages):
        patch.setattr(sys, "argv", words)
        patch.setenv("COLUMNS", "100")
        try:
            run_command("run.py", main)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), messages.getvalue())


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_builds_and_takes_two_batches_without_values(name: str) -> None:
    made = read_recipe([name]).recipe.dry_run(torch.device("meta"))
    assert made.parameters > made.softmax > 0


def test_the_paper_recipe_has_the_papers_size() -> None:
    # section 3.4: 384 M parameters; 80,000 output words of 1,000 weights (and here a bias) each
    made = read_recipe(["sutskever2014_wmt14_en_fr"]).recipe.dry_run(torch.device("meta"))
    assert made.parameters == pytest.approx(384e6, rel=0.01)
    assert made.softmax == 80_000 * 1_001


def test_the_caption_paper_recipe_has_the_papers_size() -> None:
    """Show and Tell, section 4.3.1: embeddings and LSTM of 512."""
    recipe = read_recipe(["show_and_tell_2015_coco"]).recipe
    assert (recipe.model.hidden, recipe.model.embedding, recipe.prepare.text.min_count) == (512, 512, 5)
    made = recipe.dry_run(torch.device("meta"))
    assert made.softmax == 9_000 * 513


def test_a_dry_run_computes_a_loss_near_that_of_guessing() -> None:
    made: DryRun = read_recipe(["demo", "--model.hidden=8"]).recipe.dry_run(torch.device("cpu"))
    assert len(made.losses) == 2
    assert made.losses[0] == pytest.approx(torch.tensor(30_000.0).log().item(), abs=0.5)


def test_what_is_generated_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "dates", GenerateConfig(task="dates", train=30, valid=3, test=4))
    assert len((tmp_path / "dates" / "train.source").read_text().splitlines()) == 30
    generate(tmp_path / "long", GenerateConfig(task="add_integers", train=30, valid=3, test=4, length=9))
    assert max(len(line) for line in (tmp_path / "long" / "train.source").read_text().split()) > 15
    generate(tmp_path / "scenes", GenerateConfig(train=5, valid=3, test=4))
    assert sorted(path.name for path in (tmp_path / "scenes").iterdir())[0] == "test.de"
    monkeypatch.setattr("data.tasks.TRIES", 0)
    with pytest.raises(UserError, match=r"add_integers was asked for .* came up: lower generate\.train"):
        generate(tmp_path / "sums", GenerateConfig(task="add_integers", train=1, valid=1, test=1))
    assert not (tmp_path / "sums").exists()


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Options that it did not have yet count as their defaults."""
    settings, defaults = asdict(TranslationRecipe(model=ModelConfig(hidden=8))), asdict(TranslationRecipe())
    claim_run(settings, defaults, tmp_path)
    (tmp_path / "data").mkdir()
    noted = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    del noted["model"]["attention"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(noted))
    claim_run(settings, defaults, tmp_path)
    settings["model"]["attention"] = "dot"
    with pytest.raises(UserError, match=r"model\.attention was 'none' and is 'dot'"):
        claim_run(settings, defaults, tmp_path)


def test_a_dry_run_of_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    for recipe, *options in (
        ("flickr8k", "--model.attention=general"),
        ("demo", "--model.tied=all", "--prepare.target.vocab_size=100"),
        ("demo", "--training.subword_sampling=0.1"),
        ("flickr8k", "--training.subword_sampling=0.1"),
        ("gestures", "--training.subword_sampling=0.1"),
    ):
        tried = run(recipe, "--out", tmp_path, "--dry_run", *options)
        assert tried.returncode == 1 and "Traceback" not in tried.stderr
        assert tried.stderr.count("\n") == 1
        assert options[0].removeprefix("--").partition("=")[0] in tried.stderr


def test_the_command_line_wins_over_the_recipe() -> None:
    assert read_recipe(["demo"]).recipe.model.hidden != 7
    assert read_recipe(["demo", "--model.hidden=7"]).recipe.model.hidden == 7
    assert read_recipe(["demo"]).recipe.generate != GenerateConfig()


def test_all_stages_run_once_and_the_rest_is_skipped(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run("demo", "--out", out, *TINY)
    assert first.returncode == 0, first.stderr
    scores = json.loads((out / "evaluation.json").read_text())
    assert {"bleu", "bleu_lowercase", "chrf", "ter"} <= scores.keys()
    assert (out / "curves.png").stat().st_size > 1000
    assert len((out / "test.translations.txt").read_text().splitlines()) == 6
    assert "best 1" in first.stdout and str(out / "model") in first.stdout
    report = subprocess.run(
        [sys.executable, str(SCRIPT.with_name("report.py")), str(out)], capture_output=True, text=True, check=False
    )
    assert (report.returncode, report.stdout, report.stderr) == (0, f"{out / 'report.html'}\n", "")
    assert "generate.train" in (out / "report.html").read_text()
    weights = (out / "model" / "model.safetensors").stat().st_mtime_ns
    again = run("demo", "--out", out, *TINY)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already") == 3
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == weights


def test_a_generated_task_ends_with_its_metrics(tmp_path: Path) -> None:
    options = ["--generate.curriculum=naive", "--generate.length=2", "--generate.nesting=1", "--prepare.workers=1"]
    done = run("learning_to_execute", "--out", tmp_path / "run", *TINY, *options)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["sequences"] == 6 and 0 <= metrics["exact"] <= 1
    assert set(metrics["groups"]) <= {"1/1", "2/1"} and "by length/nesting" in done.stdout
    groups = (tmp_path / "run" / "corpus" / "train.group").read_text().split()
    assert groups == ["1/1"] * 20 + ["2/1"] * 20
    assert yaml.safe_load((tmp_path / "run" / "data" / "config.yaml").read_text())["shuffle_within"] == 2048


def test_another_recipe_in_the_same_place_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("demo", "--out", out, *TINY).returncode == 0
    other = run("demo", "--out", out, *TINY, "--model.hidden=9")
    assert other.returncode == 1
    assert other.stderr.count("\n") == 1
    assert "model.hidden was 8 and is 9" in other.stderr


def test_data_is_where_data_says(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for split in ("train", "val", "test_2016_flickr"):
        for language, line in (("de", "Ein Hund .\n"), ("en", "A dog .\n")):
            (corpus / f"{split}.{language}").write_text(line * 5)
    small = ["--model.hidden=8", "--model.embedding=8", "--training.max_updates=2"]
    missing = run("multi30k_de_en", "--out", tmp_path / "a", "--data", tmp_path, *small)
    assert missing.returncode == 1 and "train.de" in missing.stderr and "Traceback" not in missing.stderr
    found = run("multi30k_de_en", "--out", tmp_path / "a", "--data", corpus, *small, "--model.hidden=10")
    assert found.returncode == 0, found.stderr  # nothing was made with the settings of the run that failed


def test_a_limit_that_was_raised_is_noted(tmp_path: Path) -> None:
    settings = asdict(TranslationRecipe())
    claim_run(settings, settings, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    settings["training"]["max_epochs"] = 99
    claim_run(settings, asdict(TranslationRecipe()), tmp_path)
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["training"]["max_epochs"] == 99
    (tmp_path / "model").mkdir()
    claim_run(settings, asdict(TranslationRecipe()), tmp_path)
    settings["training"]["max_epochs"] = 100
    with pytest.raises(UserError, match=r"training\.max_epochs was 99 and is 100"):
        claim_run(settings, asdict(TranslationRecipe()), tmp_path)


def test_of_two_processes_one_prepares_and_evaluates(tmp_path: Path) -> None:
    arguments = [sys.executable, str(SCRIPT), "demo", "--out", str(tmp_path / "run"), *TINY, "--threads=1"]
    done = subprocess.run(launch(arguments), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 process(es) on cpu" in done.stdout
    assert done.stdout.count("Generated") == done.stdout.count("Training reached") == 1
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["sentences"] == 6


SMALL = [
    "--model.hidden=8", "--model.embedding=8", "--training.max_updates=3", "--training.validate_every=2",
    "--prepare.holdout.valid=4", "--prepare.holdout.test=5", "--prepare.source.vocab_size=80",
    "--prepare.source.min_count=1",
]  # fmt: skip


def test_dialogues_are_scored_by_their_perplexity_and_can_be_talked_to(tmp_path: Path) -> None:
    talk = "\n".join(f"- - Hello {n}\n  - Yes\n  - What is {n * n}?\n  - A number" for n in range(20))
    (tmp_path / "a.yml").write_text(f"conversations:\n{talk}\n")
    done = run("conversation", "--out", tmp_path / "run", "--data", tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["sentences"] == 15
    assert 1 < found["perplexity"] < 1000
    assert f"perplexity of the references: {found['perplexity']:.2f}" in done.stdout
    assert f"chat --model {tmp_path / 'run' / 'model'}" in done.stdout


def test_summaries_of_any_fields_are_scored_by_rouge_l(tmp_path: Path) -> None:
    texts = [{"body": f"It was on day {n} that there was rain. " * 30, "head": f"Rain on day {n}"} for n in range(20)]
    (tmp_path / "news.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    names = ("files=news.jsonl", "source_field=body", "target_field=head")
    fields = [f"--prepare.train.{name}" for name in names]
    done = run("summaries", "--out", tmp_path / "run", "--data", tmp_path, *SMALL, *fields)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert 0 <= found["rouge_l"]["score"] <= 100
    assert "f:1|" in found["rouge_l"]["signature"]
    assert "ROUGE-L" in done.stdout
    metrics = json.loads((tmp_path / "run" / "model" / "metrics.json").read_text())
    assert "rouge_l" in str(metrics)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no recipe 'nosuch'"),
        (["--dry_run", "demo"], "demo: the recipe stands first, before all options"),
        (["demo", "--threads=-1"], "threads"),
        (["demo", "--model.hiden=3"], "Did you mean --model.hidden?"),
        (["demo", "--model.layers=0"], "model.layers is 0"),
        (["demo", "--training.learning_rate=fast"], "training.learning_rate"),
        (["demo", "--model.cell=lstn"], "Expected one of 'lstm', 'gru', 'rnn'"),
    ],
)
def test_wrong_words_are_one_line(arguments: list[str], message: str) -> None:
    answer = run(*arguments)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--task=captioning"], "--task captioning: the recipe is one of another kind"),
        (["long_lag", "--generate.lags=[]"], "generate.lags is []"),
        (["learning_to_execute", "--generate.length=0"], "generate.length is 0"),
        (["learning_to_execute", "--generate.nesting=26"], "generate.nesting is 26: it must be 1 to 25"),
    ],
)
def test_what_a_recipe_cannot_be_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        read_recipe(arguments)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_print_config_can_be_read_back(tmp_path: Path) -> None:
    printed = run("demo", "--model.hidden=7", "--print_config")
    settings = yaml.safe_load(printed.stdout)
    assert settings["model"]["hidden"] == 7
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({name: settings[name] for name in ("generate", "prepare", "model", "training")}))
    assert read_recipe([str(path)]).recipe.model.hidden == 7
    assert isinstance(read_recipe([str(path)]).recipe, TranslationRecipe)


def test_a_misspelt_key_in_a_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {hiden: 3}\n")
    answer = run(path, "--out", tmp_path / "run")
    assert answer.returncode == 2
    assert "hiden" in answer.stderr and "Did you mean --model.hidden?" in answer.stderr
