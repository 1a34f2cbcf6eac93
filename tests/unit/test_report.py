"""A report of a run: what stands in it, and what is said of a run that lacks something."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from test_gallery import Page as Html

from captioning.captioned import write_captioned
from captioning.corpus import SplitImage
from captioning.report import caption_sections
from data.errors import UserError
from data.tokenizer import Tokenizer, TokenizerConfig
from nmt.report import data_figures, frame_sections, translation_sections, write_report

TESTS = [
    ("ein Hund schläft", "a dog sleeps", "A dog sleeps"),
    ("ein <Zebra> rennt", "a dog runs", "a zebra runs"),
    ("ein Hund rennt und bellt laut im Garten", "the dog", "a dog runs and barks in the garden"),
]
BLEU = {"score": 12.345, "signature": "nrefs:1|case:mixed"}
EVALUATION = {
    "bleu": BLEU, "exact": 33.3, "length_ratio": 0.75, "sentences": 3, "distinct": 3, "empty": 0, "lowercase": True,
    "decoding": {"source_unknown_rate": 0.25, "output_unknown_rate": 0.0}, "search": {"beam": 5},
}  # fmt: skip
REPORT = {"splits": {"train": {"read": 1234, "source": {"tokens": 99}, "fingerprints": {"a": "b"}},
                     "valid": {"read": 5}}, "target": {"size": 77}, "notes": ["said <so>"]}  # fmt: skip


def tokenizer(text: str) -> Tokenizer:
    return Tokenizer.train(Counter(dict.fromkeys(text.split(), 9)), TokenizerConfig(lowercase=True))


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    for name in ("data", "model"):
        (folder / name).mkdir(parents=True)
    for name, column in (("data/test.source", 0), ("test.translations.txt", 1), ("data/test.reference", 2)):
        (folder / name).write_text("".join(f"{row[column]}\n" for row in TESTS), encoding="utf-8")
    tokenizer("ein hund schläft rennt und im").save(folder / "model" / "source.model")
    tokenizer("a dog sleeps runs and the").save(folder / "model" / "target.model")
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    (folder / "data" / "report.json").write_text(json.dumps(REPORT))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"model": {"hidden": 7, "layers": 1}, "training": {"seed": 1}}))
    Image.new("RGB", (4, 4)).save(folder / "curves.png")
    return folder


def page(run: Path, sections=translation_sections) -> tuple[Html, list[str], str]:
    out = run.parent / "page.html"
    missing = write_report(run, out, sections(run), overwrite=True)
    found = Html(out.read_text(encoding="utf-8").replace("<br>", ""))
    assert found.open == [] and not found.all("script") and not found.all("link")
    return found, missing, out.read_text(encoding="utf-8")


def test_a_translation_run(run):
    found, missing, _ = page(run)
    assert missing == []
    assert found.texts("h2") == ["Scores", "Curves", "Outputs", "Length", "Unknown words", "Data", "Configuration"]
    cells = found.texts("td")
    assert cells[:3] == ["bleu", "12.35", "nrefs:1|case:mixed"]
    assert found.all("img")[0]["src"].startswith("data:image/png")
    outputs = [text for text in found.texts("dd") if text in [row[1] for row in TESTS]]
    assert outputs[:3] == [TESTS[i][1] for i in (0, 1, 2)]  # the best first
    assert "ein <Zebra> rennt" in found.texts("dd")
    row = cells[cells.index("1-5") :]
    assert row[1] == "2" and row[4] == "50.0 %" and row[5] == "1.000"  # lower-cased, as the model writes
    facts = dict(zip([text.strip() for text in found.texts("span")], found.texts("b"), strict=True))
    assert facts["source unknown rate"] == "25.00%" and facts["zebra"] == "1" and facts["garden"] == "1"
    assert float(facts["chrF of the 2 with unknown words"]) < float(facts["chrF of the 1 without"]) == 100
    assert cells[cells.index("read") :][:3] == ["read", "1,234", "5"]
    assert cells[cells.index("source tokens") :][:3] == ["source tokens", "99", "-"]
    assert facts["target size"] == "77" and "said <so>" in found.texts("p")
    assert cells[cells.index("model.hidden") :][:3] == ["model.hidden", "7", "512"] and "model.layers" not in cells


def test_what_a_run_lacks_is_said(run):
    for name in ("evaluation.json", "curves.png", "model/target.model", "data/report.json", "recipe.yaml"):
        path = run / name
        kept = path.read_bytes()
        path.unlink()
        found, missing, _ = page(run)
        assert missing and str(path).removesuffix("/recipe.yaml") in missing[0]
        assert any(text.startswith("Not in this run: ") for text in found.texts("p"))
        assert len(found.texts("h2")) == 7
        path.write_bytes(kept)
    (run / "evaluation.json").write_text("{")
    assert "evaluation.json: cannot be read" in page(run)[1][0]
    (run / "test.translations.txt").write_text("a dog\n")
    shutil.copy(run / "data" / "report.json", run / "evaluation.json")
    assert any("differ in their number of lines" in line for line in page(run)[1])


def test_what_is_no_run_is_refused_and_a_page_is_not_lost(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run here"):
        write_report(tmp_path / "empty", tmp_path / "page.html", [])
    assert not (tmp_path / "page.html").exists()
    write_report(run, tmp_path / "page.html", [])
    with pytest.raises(UserError, match="exists already"):
        write_report(run, tmp_path / "page.html", [])


def test_a_captioning_run(run, tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (8, 8), "teal").save(tmp_path / f"{name}.png")
    text = run / "data" / "text"
    text.mkdir()
    images = [
        SplitImage(f"{name}.png", tmp_path / f"{name}.png", 0, [f"a dog {name} runs", "a zebra"]) for name in "abc"
    ]
    captions = ["a dog a", "a dog b runs", "nothing at all here today"]
    write_captioned(run / "valid.captions.jsonl", images, captions)
    evaluation = {"bleu1": 0.5, "cider": 1.25, "computed": {"bleu1": "so", "cider": "thus"}, "human": None,
                  "nearest_image": {"cider": 0.125}, "images": 3, "distinct": 3, "from_train": None, "unfinished": 0,
                  "output": "valid.captions.jsonl"}  # fmt: skip
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    (text / "report.json").write_text(json.dumps({"splits": {"valid": {"images": 3}}, "vocabulary": 9}))
    found, missing, _ = page(run, caption_sections)
    assert missing == []
    cells = found.texts("td")
    assert cells[cells.index("CIDEr") :][:5] == ["CIDEr", "1.250", "0.125", "-", "-"] and "BLEU-1: so" in found.texts(
        "p"
    )
    names = list(found.texts("bdi"))
    assert names[0] == "b.png" and names[3] == "c.png"  # the best of the best, the worst of the worst
    assert found.texts("div").count("no picture") == 2  # c.png is gone
    facts = dict(zip([text.strip() for text in found.texts("span")], found.texts("b"), strict=True))
    assert facts["zebra"] == "3"
    (run / "valid.captions.jsonl").write_text('{"image": "a.png", "path": "a.png", "caption": "a dog"}\n')
    assert any("has no 'references': evaluate the model again" in line for line in page(run, caption_sections)[1])


def test_what_was_evaluated_elsewhere_is_found(run, tmp_path):
    """As scripts/evaluate_translation.py leaves it, which writes where it is told to."""
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("data/test.source", "data/test.reference", "test.translations.txt"):
        (run / name).rename(moved / name.rpartition("/")[2])
    names = {"source": "test.source", "reference1": "test.reference", "output": "test.translations.txt"}
    noted = {"data": {key: {"path": str(moved / name)} for key, name in names.items()}}
    (run / "evaluation.json").write_text(json.dumps(EVALUATION | noted))
    _, missing, text = page(run)
    assert missing == [] and TESTS[0][0] in text


def test_a_run_on_frames(run):
    (run / "data" / "test.source").unlink()
    np.save(run / "data" / "test.npy", np.zeros((2 * len(TESTS) + 1, 3), np.float32))
    np.save(run / "data" / "test.lengths.npy", np.array([3] + [2] * (len(TESTS) - 1)))
    _, missing, text = page(run, frame_sections)
    assert missing == [] and "3 frames" in text and "2 frames" in text


def test_numbers_of_a_report_that_has_none_for_a_split(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({"splits": {}}))
    assert Html(data_figures(tmp_path / "report.json")).open == []
