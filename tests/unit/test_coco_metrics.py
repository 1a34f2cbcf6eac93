import importlib.util
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning import coco_metrics
from captioning import meteor as meteor_module
from captioning.cider import CiderD
from captioning.coco_metrics import cider_by_image, compare, human_agreement, score_captions
from captioning.coco_tokenizer import tokenize

FLICKR = Path(__file__).parents[3] / "shared" / "data" / "flickr8k"
KEYS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="there is no java command")
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("pycocoevalcap") is None, reason="the package pycocoevalcap is not installed"
)
needs_flickr = pytest.mark.skipif(not FLICKR.is_dir(), reason="Flickr8k's captions are not beside the repository")

REFERENCES = [
    ["A dog runs in the snow.", "The brown dog runs through deep snow.", "A dog, running."],
    ["Two men play football.", "Men playing on grass in the rain.", "Two men play a game"],
    ["A child's red-and-white ball lies there.", "A ball on the floor.", "Someone lost a ball!"],
    ["A woman sits on a bench.", "An old woman rests on a wooden bench.", "A woman sitting on a bench"],
]
CANDIDATES = ["a dog runs in the deep snow", "two men play", "a ball lies on the bench", "a woman sits on a bench"]


def captions(name: str, images: int) -> list[list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in (FLICKR / name).read_text(encoding="utf-8").splitlines():
        key, caption = line.split("\t")
        found[key.split("#")[0]].append(caption)
    return list(found.values())[:images]


def stanford(texts: Sequence[str]) -> list[list[str]]:
    """What pycocoevalcap's tokenizer makes of the texts, by Java."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    found = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    return [found[i][0].split() for i in range(len(texts))]


def original(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores by pycocoevalcap, of captions that are tokenized already."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    given = {i: list(image) for i, image in enumerate(references)}, {i: [text] for i, text in enumerate(candidates)}
    bleu, _ = Bleu(4).compute_score(*given, verbose=0)
    return {
        **{f"bleu{n}": score for n, score in enumerate(bleu, 1)},
        "rouge_l": Rouge().compute_score(*given)[0],
        "cider": Cider().compute_score(*given)[0],
    }


def joined(texts: Sequence[str]) -> list[str]:
    return [" ".join(tokenize(text)) for text in texts]


# What the Java program gave for these, so that this holds without it too.
TOKENIZED = {
    "A man's dog doesn't bark, it can't.": "a man 's dog does n't bark it ca n't",
    "I'm sure they've said he'd come; we'll see!": "i 'm sure they 've said he 'd come we 'll see",
    "The dogs' bowls and the children’s toys": "the dogs bowls and the children 's toys",
    "You cannot, I'm gonna; 'tis": "you can not i 'm gon na 't is",
    'a red-and-white t-shirt - "No Fear" -- (left)': "a red-and-white t-shirt no fear -lrb- left -rrb-",
    "a [blurred] dog {x} & a man/woman w/ AT&T": "a -lsb- blurred -rsb- dog -lcb- x -rcb- & a man/woman w / at&t",
    "Mr. Smith and Dr. Jones in the U.S. at 5 p.m. etc": "mr. smith and dr. jones in the u.s. at 5 p.m. etc",
    "It costs £5, 10€ or $1,000.50!! What?!": "it costs # 5 10 $ or $ 1,000.50 !! what ?!",
    "a 5'10\" man, 3-year-olds of the '80s, 1980's": "a 5 10 man 3-year-olds of the '80s 1980 's",
    "rock 'n' roll at O'Brien's, 5 o'clock, ma'am, y'all": "rock 'n' roll at o'brien 's 5 o'clock ma'am y' all",
    "Ein Mädchen im weiß/roten Kleid, Größe 3½.": "ein mädchen im weiß / roten kleid größe 3 1/2",
    "rot/weiß und U-Bahn-Fahrer-Übung „hier“": "rot/wei ß und u-bahn-fahrer-übung „ hier",
    "A dog.The end ...and on… no": "a dog.the end and on no",
    "smile :) #dog @home_2 www.x.com, a_b 50% 1st C++": "smile :-rrb- #dog @home_2 www.x.com a_b 50 % 1st c++",
    "<unk> dog < unk > &amp; cat*": "<unk> dog < unk > & cat *",
    "a\u00a0dog  \t 😀 soft\u00adly cafe\u0301 x": "a dog softly cafe\u0301 x",
    "etwas., l'arrière-plan d'une chef-d'œuvre": "etwas. l'arrière-plan d'une chef-d'œuvre",
    "": "",
    " . , ' ": "",
}


@pytest.mark.parametrize(("text", "tokens"), TOKENIZED.items())
def test_tricky_captions_are_split_as_by_the_java_program(text: str, tokens: str) -> None:
    assert tokenize(text) == tokens.split()


@needs_java
@needs_package
def test_the_java_program_still_says_so() -> None:
    # a full stop first: Java writes nothing for a blank line at the end
    assert stanford([*TOKENIZED, "."]) == [tokens.split() for tokens in TOKENIZED.values()] + [[]]


@needs_java
@needs_package
@needs_flickr
@pytest.mark.parametrize("name", ["captions.txt", "captions.de.txt"])
def test_real_captions_are_split_as_by_the_java_program(name: str) -> None:
    texts = [text for image in captions(name, 800) for text in image]
    assert len(texts) > 3000
    assert [tokenize(text) for text in texts] == stanford(texts)


@given(st.text())
def test_any_text_becomes_words_without_spaces(text: str) -> None:
    for token in tokenize(text):
        assert token and not any(character.isspace() for character in token)


@needs_package
def test_scores_equal_the_original_on_a_few_captions() -> None:
    found = score_captions(CANDIDATES, REFERENCES, meteor=False)
    expected = original(joined(CANDIDATES), [joined(image) for image in REFERENCES])
    assert {key: getattr(found, key) for key in KEYS} == pytest.approx(expected, abs=1e-6)
    assert found.images == 4


@needs_package
def test_scores_equal_the_original_with_unequal_references_and_empty_captions() -> None:
    references = [REFERENCES[0][:1], REFERENCES[1], REFERENCES[2][:2], REFERENCES[3]]
    candidates = ["", CANDIDATES[1], CANDIDATES[2] + " and lies there and there and there and there", CANDIDATES[3]]
    found = score_captions(candidates, references, meteor=False)
    expected = original(joined(candidates), [joined(image) for image in references])
    assert {key: getattr(found, key) for key in KEYS} == pytest.approx(expected, abs=1e-6)


@needs_package
@needs_flickr
@pytest.mark.parametrize("name", ["captions.txt", "captions.de.txt"])
def test_scores_equal_the_original_on_real_captions(name: str) -> None:
    images = captions(name, 200)
    candidates, references = [image[0] for image in images], [image[1:] for image in images]
    found = score_captions(candidates, references, meteor=False)
    expected = original(joined(candidates), [joined(image) for image in references])
    assert {key: getattr(found, key) for key in KEYS} == pytest.approx(expected, abs=5e-4)
    assert found.cider_d == found.cider > 0.3


@needs_java
@needs_package
def test_meteor_equals_the_original() -> None:
    # The numbers are those of pycocoevalcap's Meteor: to start Java twice, 10 s of computing each, would be too slow.
    sets = {0.460347: (CANDIDATES, REFERENCES)}
    if FLICKR.is_dir():
        images = captions("captions.txt", 300)
        sets[0.260843] = [image[0] for image in images], [image[1:] for image in images]
    sets[0.0] = ["", ""], [["a dog"], ["a cat", "two cats"]]
    corpora = [
        ([tokenize(text) for text in texts], [[tokenize(text) for text in image] for image in references])
        for texts, references in sets.values()
    ]
    assert meteor_module.meteor(corpora) == pytest.approx(list(sets), abs=5e-6)


def test_meteor_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_metrics, "meteor_score", lambda corpora: [0.2 + 0.1 * i for i in range(len(corpora))])
    found = score_captions(CANDIDATES, REFERENCES)
    assert found.meteor == pytest.approx(0.2) and found.computed["meteor"].startswith("METEOR 1.5")
    assert human_agreement(REFERENCES).meteor == pytest.approx(0.3)
    monkeypatch.setattr(coco_metrics, "meteor_score", lambda corpora: [float("nan")])
    assert score_captions(CANDIDATES, REFERENCES).meteor is None


def test_meteor_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor_module.shutil, "which", lambda _: None)
    found = score_captions(CANDIDATES, REFERENCES)
    assert found.meteor is None
    assert found.computed["meteor"] == "skipped: no java command was found"
    monkeypatch.setattr(meteor_module.shutil, "which", lambda _: sys.executable)
    monkeypatch.setattr(meteor_module.importlib.util, "find_spec", lambda _: None)
    assert "pycocoevalcap" in score_captions(CANDIDATES, REFERENCES).computed["meteor"]
    assert score_captions(CANDIDATES, REFERENCES, meteor=False).computed["meteor"] == "skipped: not asked for"


def test_a_failing_java_is_a_skip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripts = {"echo no memory >&2; exit 3": "no memory", "exec cat": "failed", "exec sleep 30": "failed"}
    for script, said in scripts.items():
        java = tmp_path / "java"
        java.write_text(f"#!/bin/sh\n{script}\n")
        java.chmod(0o755)
        monkeypatch.setattr(meteor_module, "_find", lambda: (str(tmp_path / "java"), tmp_path))
        monkeypatch.setattr(meteor_module, "_LIMIT", 0.5)
        found = score_captions(CANDIDATES, REFERENCES)
        assert found.meteor is None
        assert (
            found.computed["meteor"].startswith("skipped: the Java program failed") and said in found.computed["meteor"]
        )


def test_bleu_of_no_match_is_zero_and_of_a_copy_one() -> None:
    copied = score_captions([image[0] for image in REFERENCES], REFERENCES, meteor=False)
    assert (copied.bleu1, copied.bleu4, copied.rouge_l) == pytest.approx((1, 1, 1))
    assert 0 < copied.cider < 10
    nothing = score_captions(["zebra"] * 4, REFERENCES, meteor=False)
    assert [getattr(nothing, key) for key in KEYS] == [0] * 6


@pytest.mark.parametrize(
    ("candidates", "references", "said"),
    [(["a"], [], "1 captions for 0 images"), ([], [], "no captions"), (["a"], [[]], "image 0 .* no reference")],
)
def test_what_cannot_be_scored_is_said(candidates: list[str], references: list[list[str]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        score_captions(candidates, references, meteor=False)
    with pytest.raises(ValueError, match=said):
        cider_by_image(candidates, references)


def test_cider_of_a_hand_computed_case() -> None:
    # Two images, every n-gram in one of them: all weights are log 2. The caption "a b" against "a b c": cosines
    # 2/sqrt(6) and 1/sqrt(2) of 1- and 2-grams, no longer ones, and one word too few.
    metric = CiderD([[["a", "b", "c"]], [["x", "y"]]])
    expected = 10 / 4 * (2 / np.sqrt(2 * 3) + 1 / np.sqrt(1 * 2)) * np.exp(-1 / 72)
    assert metric.scores([["a", "b"]], [[["a", "b", "c"]]]) == pytest.approx([expected])


def test_cider_clips_repeated_words() -> None:
    metric = CiderD([[["a", "b"]], [["x"]]])
    plain, repeated = metric.scores([["a", "b"], ["a", "a", "a", "b"]], [[["a", "b"]]] * 2)
    assert repeated < plain


def test_cider_takes_ids_and_does_not_depend_on_the_order() -> None:
    images = [[tokenize(text) for text in image] for image in REFERENCES]
    ids: dict[str, int] = {}
    as_ids = [[[ids.setdefault(word, len(ids)) for word in words] for words in image] for image in images]
    rows = [0, 1, 2, 3, 0, 2, 2, 1]
    words, numbers = CiderD(images), CiderD(as_ids)
    found = words.scores([images[row][i % 3] for i, row in enumerate(rows)], [images[row] for row in rows])
    same = numbers.scores([as_ids[row][i % 3] for i, row in enumerate(rows)], [as_ids[row] for row in rows])
    assert found == pytest.approx(same)
    alone = [words.scores([images[row][i % 3]], [images[row]])[0] for i, row in enumerate(rows)]
    assert found == pytest.approx(alone)


@needs_package
def test_cider_with_counts_of_its_own_references_is_that_of_the_original() -> None:
    images = [[tokenize(text) for text in image] for image in REFERENCES]
    found = CiderD(images).scores([tokenize(text) for text in CANDIDATES], images)
    expected = original(joined(CANDIDATES), [joined(image) for image in REFERENCES])
    assert found.mean() == pytest.approx(expected["cider"])


def test_cider_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        CiderD([])
    with pytest.raises(ValueError, match="caption 1"):
        CiderD([[["a"]]]).scores([["a"], ["a"]], [[["a"]], []])


def drawn(images: int, seed: int) -> list[list[str]]:
    """Five captions of a made-up scene for each image, and some people write more than others."""
    source = random.Random(seed)
    things, colors = [f"thing{i}" for i in range(12)], ["red", "blue", "green"]
    scenes = [(source.choice(colors), *source.sample(things, 2)) for _ in range(images)]
    forms = [
        "a {} {} near a {}",
        "the {} {} and the {}",
        "{} {} beside {}",
        "there is a {} {} by a {}",
        "one {} {}, a {}",
    ]
    return [[form.format(*scene) for form in forms] for scene in scenes]


def test_bootstrap_tells_a_better_system_from_an_equal_one() -> None:
    references = drawn(60, seed=1)
    good = [image[0] for image in references]
    bad = [references[(i + 1) % 60][0] if i % 3 == 0 else image[0] for i, image in enumerate(references)]
    found = compare(good, bad, references, samples=300)
    assert found.difference == pytest.approx(found.score - found.other) and found.difference > 0
    assert 0 < found.low < found.difference < found.high
    assert found.p_value == pytest.approx(1 / 301)
    assert found == compare(good, bad, references, samples=300)
    assert compare(bad, good, references, samples=300).difference == pytest.approx(-found.difference)
    assert score_captions(good, references, meteor=False).cider == pytest.approx(found.score)

    same = compare(good, good, references, samples=100)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    first, second = list(good), list(good)  # as often better as worse
    first[0], second[1] = "zebra", "zebra"
    assert compare(first, second, references, samples=300).p_value > 0.3


def test_human_agreement_leaves_each_reference_out_once() -> None:
    found = human_agreement(REFERENCES, meteor=False)
    passes = [
        score_captions([im[k] for im in REFERENCES], [im[:k] + im[k + 1 :] for im in REFERENCES], meteor=False)
        for k in range(3)
    ]
    for key in KEYS:
        assert getattr(found, key) == pytest.approx(np.mean([getattr(one, key) for one in passes]))
    assert "3 passes" in found.computed["cider"] and found.meteor is None and found.images == 4
    mixed = human_agreement([REFERENCES[0][:2], *REFERENCES[1:]], meteor=False)
    assert "3 passes" in mixed.computed["cider"]
    with pytest.raises(ValueError, match=r"image 1 .* has 1 references"):
        human_agreement([["a", "b"], ["a"]])
    with pytest.raises(ValueError, match="no captions"):
        human_agreement([])
