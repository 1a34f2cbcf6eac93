"""All stages of captioning, as commands, on a few drawn scenes."""

import json
import os
import sys

import pytest
from rich.console import Console
from tiny import ROOT, weights
from tiny import run as run_to_end

from scripts import evaluate_captioning
from scripts.run import read_recipe

TINY_RECIPE = """
task: captioning
scenes: {train: 40, valid: 6, test: 8, captions: 2}
prepare:
  train: {captions: captions.txt, images: images, list: train.txt}
  valid: {captions: captions.txt, images: images, list: valid.txt}
  test: {captions: captions.txt, images: images, list: test.txt}
  text: {lowercase: true, min_count: 1}
  network: efficientnet_lite0
  views: 2
model: {layers: 1, hidden: 24, embedding: 24, dropout: 0.1}
training: {max_updates: 30, batch_tokens: 128, learning_rate: 0.01, metric: cider, warmup_updates: 0}
search: {beam: 2, mirror: true}
"""
SCORES = {"bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "cider_d"}


@pytest.fixture(scope="module", autouse=True)
def no_java(tmp_path_factory):
    """A Java that fails at once: METEOR would take it ten seconds to start, four times for each evaluation."""
    java = tmp_path_factory.mktemp("bin") / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{java.parent}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, python):
    folder = tmp_path_factory.mktemp("captioning")
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    ended = run_to_end([python, "scripts/run.py", str(folder / "tiny.yaml"), "--out", str(folder / "run")])
    assert ended.returncode == 0, ended.stderr
    return folder / "run", ended.stdout


@pytest.fixture(scope="module")
def python():
    return sys.executable


def test_a_recipe_runs_all_stages_and_leaves_everything_in_its_place(run):
    out, said = run
    for name in ("model/MANIFEST", "data/features/features.npy", "data/text/report.json", "evaluation.json",
                 "gallery.html", "test.captions.jsonl", "curves.png"):  # fmt: skip
        assert (out / name).is_file(), name
    found = json.loads((out / "evaluation.json").read_text())
    assert found.keys() >= SCORES
    for row in ("nearest_image", "wrong_image", "human"):
        assert found[row].keys() == SCORES
    assert found["images"] == 8 and 1 <= found["distinct"] <= 8 and 0 <= found["from_train"] <= 1
    assert found["computed"]["cider"] and found["model"]["manifest_sha256"]
    for text in ("nearest image", "wrong image", "gallery.html", "distinct captions"):
        assert text in said
    assert len((out / "test.captions.jsonl").read_text().splitlines()) == 8


def test_a_single_caption_loads_no_library_that_it_can_do_without(run, python):
    """What a caption from a cold start takes is imports: see scripts/benchmark.py caption."""
    image = next((run[0] / "corpus" / "images").iterdir())
    command = [python, "-X", "importtime", "scripts/caption.py", "--model", str(run[0] / "model"), str(image)]
    ended = run_to_end(command)
    assert ended.returncode == 0 and ended.stdout.startswith(f"{image}\t")
    loaded = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
    assert "torch" in loaded and "captioning.captioner" in loaded
    assert not loaded & {"torchvision", "timm", "datasets", "pandas", "matplotlib", "torch._dynamo", "sacrebleu"}


def test_what_a_caption_is_made_of_and_a_report(run, python, tmp_path):
    images = sorted(map(str, (run[0] / "corpus" / "images").iterdir()))[:2]
    command = [python, "scripts/caption.py", "--model", str(run[0] / "model"), *images, "--beam", "2"]
    page = tmp_path / "page.html"
    ended, plain = run_to_end([*command, "--explain", str(page)]), run_to_end(command)
    assert (ended.returncode, ended.stdout) == (0, plain.stdout)
    assert page.read_text().count("<section>") == 2 and "a model without attention" in page.read_text()
    again = run_to_end([*command, "--explain", str(page)])
    assert (again.returncode, again.stdout) == (1, "") and "exists already" in again.stderr
    report = tmp_path / "report.html"
    ended = run_to_end([python, "scripts/report.py", str(run[0]), "--out", str(report)])
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{report}\n", "")
    for text in ("nearest image", "CIDEr-D (sigma 6", "People wrote", "words of its references", "model.hidden"):
        assert text in report.read_text()


def test_a_second_run_skips_what_is_done_and_another_recipe_is_refused(run, python):
    out, _ = run
    before = weights(out / "model")
    recipe = str(out.parent / "tiny.yaml")
    again = run_to_end([python, "scripts/run.py", recipe, "--out", str(out)])
    assert again.returncode == 0
    for text in ("Prepared already", "Trained already", "Evaluated already"):
        assert text in again.stdout
    assert weights(out / "model") == before
    other = run_to_end([python, "scripts/run.py", recipe, "--out", str(out), "--model.hidden", "25"])
    assert other.returncode == 1
    assert "model.hidden was 24 and is 25" in other.stderr and "Traceback" not in other.stderr


def test_evaluate_gives_the_scores_of_the_recipe_from_the_image_files(run, python, tmp_path):
    out, _ = run
    corpus = out / "corpus"
    command = [
        python, "scripts/evaluate_captioning.py", "--model", str(out / "model"), "--images", str(corpus / "images"),
        "--captions", str(corpus / "captions.txt"), "--list", str(corpus / "test.txt"), "--json",
        str(tmp_path / "out.json"), "--search.beam", "2", "--compare", str(out / "model"),
    ]  # fmt: skip
    ended = run_to_end([*command, "--search.mirror", "true"])
    assert ended.returncode == 0, ended.stderr
    found, before = (json.loads(path.read_text()) for path in (tmp_path / "out.json", out / "evaluation.json"))
    for name in SCORES:
        assert found[name] == pytest.approx(before[name], abs=0.02)
        assert found["nearest_image"][name] == pytest.approx(before["nearest_image"][name], abs=0.02)
    assert found["compare"]["difference"] == 0 and found["compare"]["p_value"] == 1
    assert found["data"]["list"]["sha256"] and found["left_out"] == {}
    again = run_to_end(command)
    assert again.returncode == 1 and "exists already" in again.stderr


class LookedAtError(Exception):
    """Ends an evaluation as soon as it is known how many views it looks at."""


@pytest.mark.parametrize(("mirror", "views"), [("true", 2), ("false", 1)])
def test_mirror_images_are_looked_at_where_they_are_asked_for(run, monkeypatch, mirror, views):
    out, _ = run

    def evaluate_captions(models, features, *rest):
        raise LookedAtError(features.shape[1])

    monkeypatch.setattr("captioning.evaluation.evaluate_captions", evaluate_captions)
    monkeypatch.setattr("captioning.recipe.evaluate_captions", evaluate_captions)
    corpus = out / "corpus"
    command = ["evaluate", "--model", out / "model", "--images", corpus / "images", "--list", corpus / "test.txt",
               "--captions", corpus / "captions.txt", "--search.mirror", mirror]  # fmt: skip
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    with pytest.raises(LookedAtError, match=str(views)):
        evaluate_captioning.evaluate()
    recipe = read_recipe([str(out.parent / "tiny.yaml"), "--search.mirror", mirror]).recipe
    with pytest.raises(LookedAtError, match=str(views)):
        recipe.evaluate(out, "test", Console(quiet=True))


def test_the_stages_can_be_run_one_by_one_without_a_recipe(run, python, tmp_path):
    corpus = run[0] / "corpus"
    splits = []
    for split in ("train", "valid"):
        splits += [
            f"--{split}.captions",
            str(corpus / "captions.de.txt"),
            f"--{split}.list",
            str(corpus / f"{split}.txt"),
        ]
        splits += [f"--{split}.images", str(corpus / "images")]
    prepare = [python, "scripts/prepare_captioning.py", *splits, "--network", "efficientnet_lite0"]
    ended = run_to_end([*prepare, "--text.min_count", "1", "--out", str(tmp_path / "run" / "data")])
    assert ended.returncode == 0, ended.stderr
    assert "Captioned images" in ended.stdout and "MB" in ended.stdout
    train = [python, "scripts/train_captioning.py", "--data", str(tmp_path / "run" / "data")]
    train += ["--out", str(tmp_path / "run"), "--training.max_updates", "2", "--model.hidden", "8"]
    ended = run_to_end([*train, "--training.valid_sentences", "3"])
    assert ended.returncode == 0, ended.stderr
    assert "The best model is in" in ended.stdout and "M frozen" in ended.stdout
    assert (tmp_path / "run" / "model" / "MANIFEST").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny.yaml", "--task", "translation"], "the recipe is one of another kind"),
        (["tiny.yaml", "--image.frist_input", "true"], "Did you mean --image.first_input?"),
        (["tiny.yaml", "--image.first_input", "false"], "the decoder would never see the image"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, python, arguments, message):
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE)
    arguments = [str(tmp_path / each) if each.endswith(".yaml") else each for each in arguments]
    ended = run_to_end([python, str(ROOT / "scripts" / "run.py"), *arguments])
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert message in " ".join(ended.stderr.split())


def test_a_task_that_there_is_not_is_refused(tmp_path, python):
    (tmp_path / "tiny.yaml").write_text("task: swimming\n")
    ended = run_to_end([python, str(ROOT / "scripts" / "run.py"), str(tmp_path / "tiny.yaml")])
    assert ended.returncode == 2
    assert "task is 'swimming': it must be translation or captioning" in ended.stderr
