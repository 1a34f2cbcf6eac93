import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.scene_sentences import (
    Form,
    Telling,
    english,
    german,
    random_telling,
    sentence_pairs,
    world_size,
    write_parallel,
)
from data.scenes import COLOURS, RELATIONS, SHAPES, SIZES, Detail, Relation, Scene, Thing, random_scene

NUMBERS = {"two": 2, "three": 3, "four": 4}


def thing(words: str) -> Thing:
    """ "two small red circles" as the thing it names."""
    *before, colour, noun = words.split()
    return Thing(
        next(shape for shape in SHAPES if noun in (shape.english, shape.english + "s")),
        next(quality for quality in COLOURS if quality.english == colour),
        next((size for size in SIZES if size.english in before), None),
        next((NUMBERS[word] for word in before if word in NUMBERS), 1),
    )


def relation(word: str) -> Relation:
    return next(relation for relation in RELATIONS if relation.english == word)


def scene(subject: str, word: str, object_: str, detail: Detail | None = None) -> Scene:
    return Scene(thing(subject), relation(word), thing(object_), detail)


def about_subject(word: str, other: str, inverted: bool = False) -> Detail:
    return Detail("subject", relation(word), thing(other), inverted)


def about_object(word: str, other: str, inverted: bool = False) -> Detail:
    return Detail("object", relation(word), thing(other), inverted)


KNOWN, NEW = True, False

# Scene, telling, English, German. Between them: each gender and the plural, in each case, after each article.
TABLE = [
    (
        scene("small red circle", "touch", "blue square"),
        Telling(Form.PLAIN, NEW, KNOWN),
        "A small red circle touches the blue square.",
        "Ein kleiner roter Kreis berührt das blaue Quadrat.",
    ),
    (
        scene("green heart", "touch", "large black arrow"),
        Telling(Form.PLAIN, KNOWN, NEW),
        "The green heart touches a large black arrow.",
        "Das grüne Herz berührt einen großen schwarzen Pfeil.",
    ),
    (
        scene("yellow ellipse", "cover", "orange star"),
        Telling(Form.PLAIN, KNOWN, KNOWN),
        "The yellow ellipse covers the orange star.",
        "Die gelbe Ellipse verdeckt den orangefarbenen Stern.",
    ),
    (
        scene("orange triangle", "cover", "purple diamond"),
        Telling(Form.PLAIN, NEW, NEW),
        "An orange triangle covers a purple diamond.",
        "Ein orangefarbenes Dreieck verdeckt eine violette Raute.",
    ),
    (
        scene("large red arrow", "cover", "small green triangle"),
        Telling(Form.SETTING, KNOWN, NEW),
        "In the picture the large red arrow covers a small green triangle.",
        "Auf dem Bild verdeckt der große rote Pfeil ein kleines grünes Dreieck.",
    ),
    (
        scene("two small red hearts", "cover", "blue ellipse"),
        Telling(Form.PLAIN, NEW, KNOWN),
        "Two small red hearts cover the blue ellipse.",
        "Zwei kleine rote Herzen verdecken die blaue Ellipse.",
    ),
    (
        scene("three green arrows", "touch", "four large yellow diamonds"),
        Telling(Form.REPORTED, KNOWN, KNOWN),
        "I see that the three green arrows touch the four large yellow diamonds.",
        "Ich sehe, dass die drei grünen Pfeile die vier großen gelben Rauten berühren.",
    ),
    (
        scene("large black diamond", "touch", "two orange squares"),
        Telling(Form.REPORTED, NEW, NEW),
        "I see that a large black diamond touches two orange squares.",
        "Ich sehe, dass eine große schwarze Raute zwei orangefarbene Quadrate berührt.",
    ),
    (
        scene("red circle", "above", "blue square"),
        Telling(Form.FRONTED, NEW, KNOWN),
        "Above the blue square lies a red circle.",
        "Über dem blauen Quadrat liegt ein roter Kreis.",
    ),
    (
        scene("small purple heart", "left of", "yellow star"),
        Telling(Form.FRONTED, NEW, NEW),
        "Left of a yellow star lies a small purple heart.",
        "Links von einem gelben Stern liegt ein kleines violettes Herz.",
    ),
    (
        scene("two blue squares", "next to", "red heart"),
        Telling(Form.SETTING, KNOWN, NEW),
        "In the picture the two blue squares lie next to a red heart.",
        "Auf dem Bild liegen die zwei blauen Quadrate neben einem roten Herzen.",
    ),
    (
        scene("black circle", "right of", "small green ellipse"),
        Telling(Form.REPORTED, KNOWN, NEW),
        "I see that the black circle lies right of a small green ellipse.",
        "Ich sehe, dass der schwarze Kreis rechts von einer kleinen grünen Ellipse liegt.",
    ),
    (
        scene("four yellow triangles", "below", "orange diamond"),
        Telling(Form.FRONTED, NEW, KNOWN),
        "Below the orange diamond lie four yellow triangles.",
        "Unter der orangefarbenen Raute liegen vier gelbe Dreiecke.",
    ),
    (
        scene("green diamond", "above", "three large red circles"),
        Telling(Form.PLAIN, NEW, NEW),
        "A green diamond lies above three large red circles.",
        "Eine grüne Raute liegt über drei großen roten Kreisen.",
    ),
    (
        scene("two black stars", "below", "three small blue hearts"),
        Telling(Form.PLAIN, NEW, KNOWN),
        "Two black stars lie below the three small blue hearts.",
        "Zwei schwarze Sterne liegen unter den drei kleinen blauen Herzen.",
    ),
    (
        scene("red star", "touch", "blue ellipse"),
        Telling(Form.FRONTED, KNOWN, NEW),
        "A blue ellipse is touched by the red star.",
        "Eine blaue Ellipse wird von dem roten Stern berührt.",
    ),
    (
        scene("small green ellipse", "cover", "two red squares", about_subject("above", "black star")),
        Telling(Form.FRONTED, NEW, KNOWN, NEW),
        "The two red squares are covered by a small green ellipse that lies above a black star.",
        "Die zwei roten Quadrate werden von einer kleinen grünen Ellipse verdeckt, "
        "die über einem schwarzen Stern liegt.",
    ),
    (
        scene("red circle", "cover", "green heart", about_object("touch", "blue arrow", inverted=True)),
        Telling(Form.FRONTED, NEW, KNOWN, KNOWN),
        "The green heart that is touched by the blue arrow is covered by a red circle.",
        "Das grüne Herz, das von dem blauen Pfeil berührt wird, wird von einem roten Kreis verdeckt.",
    ),
    (
        scene("red arrow", "touch", "blue diamond", about_subject("cover", "black circle")),
        Telling(Form.PLAIN, KNOWN, NEW, KNOWN),
        "The red arrow that covers the black circle touches a blue diamond.",
        "Der rote Pfeil, der den schwarzen Kreis verdeckt, berührt eine blaue Raute.",
    ),
    (
        scene("two red stars", "above", "large blue ellipse", about_object("above", "green star", inverted=True)),
        Telling(Form.PLAIN, NEW, KNOWN, NEW),
        "Two red stars lie above the large blue ellipse above which lies a green star.",
        "Zwei rote Sterne liegen über der großen blauen Ellipse, über der ein grüner Stern liegt.",
    ),
    (
        scene("red heart", "next to", "two blue circles", about_object("left of", "two green stars", True)),
        Telling(Form.FRONTED, NEW, NEW, KNOWN),
        "Next to two blue circles left of which lie the two green stars lies a red heart.",
        "Neben zwei blauen Kreisen, links von denen die zwei grünen Sterne liegen, liegt ein rotes Herz.",
    ),
    (
        scene("orange square", "below", "red circle", about_object("touch", "two yellow arrows")),
        Telling(Form.REPORTED, NEW, KNOWN, NEW),
        "I see that an orange square lies below the red circle that touches two yellow arrows.",
        "Ich sehe, dass ein orangefarbenes Quadrat unter dem roten Kreis liegt, der zwei gelbe Pfeile berührt.",
    ),
    (
        scene("two purple ellipses", "cover", "red star", about_subject("right of", "green triangle")),
        Telling(Form.REPORTED, KNOWN, KNOWN, KNOWN),
        "I see that the two purple ellipses that lie right of the green triangle cover the red star.",
        "Ich sehe, dass die zwei violetten Ellipsen, die rechts von dem grünen Dreieck liegen, "
        "den roten Stern verdecken.",
    ),
    (
        scene("blue star", "above", "red diamond", about_subject("next to", "green circle", inverted=True)),
        Telling(Form.SETTING, NEW, KNOWN, NEW),
        "In the picture a blue star next to which lies a green circle lies above the red diamond.",
        "Auf dem Bild liegt ein blauer Stern, neben dem ein grüner Kreis liegt, über der roten Raute.",
    ),
    (
        scene("small red circle", "below", "blue heart"),
        Telling(Form.DEPICTED, NEW, KNOWN),
        "The picture shows a small red circle that lies below the blue heart.",
        "Das Bild stellt einen kleinen roten Kreis dar, der unter dem blauen Herzen liegt.",
    ),
    (
        scene("red diamond", "touch", "blue heart", about_object("cover", "green star")),
        Telling(Form.DEPICTED, KNOWN, NEW, KNOWN),
        "The picture shows the red diamond that touches a blue heart that covers the green star.",
        "Das Bild stellt die rote Raute dar, die ein blaues Herz berührt, das den grünen Stern verdeckt.",
    ),
    (
        scene("red square", "touch", "blue arrow", about_subject("left of", "four green hearts")),
        Telling(Form.DEPICTED, NEW, KNOWN, NEW),
        "The picture shows a red square that lies left of four green hearts and that touches the blue arrow.",
        "Das Bild stellt ein rotes Quadrat dar, das links von vier grünen Herzen liegt "
        "und das den blauen Pfeil berührt.",
    ),
    (
        scene("two red stars", "cover", "blue heart", about_subject("above", "green circle", inverted=True)),
        Telling(Form.DEPICTED, KNOWN, KNOWN, NEW),
        "The picture shows the two red stars above which lies a green circle and which cover the blue heart.",
        "Das Bild stellt die zwei roten Sterne dar, über denen ein grüner Kreis liegt "
        "und die das blaue Herz verdecken.",
    ),
]


@pytest.mark.parametrize(
    ("content", "telling", "expected_english", "expected_german"), TABLE, ids=[row[2] for row in TABLE]
)
def test_says_a_scene_in_both_languages(
    content: Scene, telling: Telling, expected_english: str, expected_german: str
) -> None:
    assert english(content, telling) == expected_english
    assert german(content, telling) == expected_german


# What may stand before a noun: its article, and the ending of its adjectives.
MASCULINE = {"der -e", "den -en", "dem -en", "ein -er", "einen -en", "einem -en"}
FEMININE = {"die -e", "der -en", "eine -e", "einer -en"}
NEUTER = {"das -e", "ein -es"}
NEUTER_DATIVE = {"dem -en", "einem -en"}
PLURAL = {"die -en", "- -e"}
PLURAL_DATIVE = {"den -en", "- -en"}
SINGULARS = {
    "Kreis": MASCULINE,
    "Stern": MASCULINE,
    "Pfeil": MASCULINE,
    "Raute": FEMININE,
    "Ellipse": FEMININE,
    "Quadrat": NEUTER | NEUTER_DATIVE,
    "Dreieck": NEUTER | NEUTER_DATIVE,
    "Herz": NEUTER,
    "Herzen": NEUTER_DATIVE,
}
PLURALS = {
    **dict.fromkeys(("Kreise", "Sterne", "Pfeile", "Quadrate", "Dreiecke"), PLURAL),
    **dict.fromkeys(("Kreisen", "Sternen", "Pfeilen", "Quadraten", "Dreiecken"), PLURAL_DATIVE),
    **dict.fromkeys(("Rauten", "Ellipsen", "Herzen"), PLURAL | PLURAL_DATIVE),
}
STEMS = ("rot", "blau", "grün", "gelb", "schwarz", "violett", "orangefarben", "klein", "groß")
NOUN_PHRASE = re.compile(
    r"(?:\b(?P<one>der|die|das|den|dem|ein|eine|einen|einem|einer) "
    r"|(?:\b(?P<many>die|den) )?\b(?P<number>zwei|drei|vier) )"
    rf"(?P<adjectives>(?:(?:{'|'.join(STEMS)})(?:er|es|en|e) )+)(?P<noun>[A-Z]\w+)",
    re.IGNORECASE,
)


@given(st.integers(min_value=0))
def test_every_german_noun_has_its_article_and_ending(seed: int) -> None:
    rng = random.Random(seed)
    content, telling = random_scene(rng), random_telling(rng)
    sentence = german(content, telling)
    phrases = list(NOUN_PHRASE.finditer(sentence))
    assert len(phrases) == len([word for word in re.findall(r"\b[A-Z]\w+", sentence[1:]) if word != "Bild"])
    assert len(phrases) == (3 if content.detail else 2)
    for phrase in phrases:
        allowed = (PLURALS if phrase["number"] else SINGULARS)[phrase["noun"]]
        articles = [(phrase["one"] or phrase["many"] or "-").lower()]
        if phrase["many"] and sentence[: phrase.start()].endswith((", ", "und ")):
            articles.append("-")  # perhaps no article but a pronoun: ", die zwei rote Kreise berühren"
        adjectives = phrase["adjectives"].lower().split()
        endings = [word.removeprefix(next(s for s in STEMS if word.startswith(s))) for word in adjectives]
        assert any(all(f"{one} -{end}" in allowed for end in endings) for one in articles), sentence


@given(st.integers(min_value=0))
def test_sentences_are_well_formed(seed: int) -> None:
    rng = random.Random(seed)
    content, telling = random_scene(rng), random_telling(rng)
    for sentence in (english(content, telling), german(content, telling)):
        assert re.fullmatch(r"[A-ZÜ]\w+(,? \w+)*\.|[AI](,? \w+)*\.", sentence)
        assert 5 <= len(sentence.split()) <= 27


def test_english_article_before_a_vowel() -> None:
    for pair in sentence_pairs(2000, seed=5):
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", pair.english, re.IGNORECASE), pair.english
    assert any(" an orange " in pair.english for pair in sentence_pairs(2000, seed=5))


def test_scene_is_apart_from_the_telling() -> None:
    content = scene("red circle", "above", "blue square", about_object("cover", "green star", inverted=True))
    assert content.facts == (
        (thing("red circle"), relation("above"), thing("blue square")),
        (thing("green star"), relation("cover"), thing("blue square")),
    )
    tellings = [Telling(form, bool(n & 1), bool(n & 2), bool(n & 4)) for form in Form for n in range(8)]
    assert len({english(content, telling) for telling in tellings}) == len(tellings)
    assert len({german(content, telling) for telling in tellings}) == len(tellings)


def test_things_of_a_scene_differ_in_shape_or_colour() -> None:
    rng = random.Random(3)
    for _ in range(500):
        content = random_scene(rng)
        things = [content.subject, content.object] + ([content.detail.thing] if content.detail else [])
        assert len({(one.shape, one.colour) for one in things}) == len(things)


def test_a_sentence_has_one_partner_in_the_other_language() -> None:
    rng = random.Random(11)
    drawn = [(random_scene(rng), random_telling(rng)) for _ in range(20_000)]
    pairs = {(english(*each), german(*each)) for each in drawn}
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)


def test_pairs_are_distinct_on_both_sides() -> None:
    pairs = sentence_pairs(5000, seed=1)
    assert len(pairs) == len({p.english for p in pairs}) == len({p.german for p in pairs}) == 5000


def test_the_seed_decides_the_pairs() -> None:
    assert sentence_pairs(200, seed=1) == sentence_pairs(200, seed=1)
    assert sentence_pairs(200, seed=1) != sentence_pairs(200, seed=2)
    assert sentence_pairs(50, seed=1) == sentence_pairs(200, seed=1)[:50]


def test_every_form_shape_and_relation_occurs() -> None:
    text = " ".join(pair.english.lower() for pair in sentence_pairs(1000, seed=4))
    for word in [entry.english for entry in (*SHAPES, *COLOURS, *SIZES, *RELATIONS)]:
        assert re.search(rf"\b{word}", text)
    for words in ("i see that", "in the picture", "the picture shows", "touched by", "and which", ". above"):
        assert words in text


@pytest.mark.parametrize("count", [-1, world_size() + 1])
def test_refuses_a_count_the_world_does_not_hold(count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot make {count} .*between 0 and {world_size()}"):
        sentence_pairs(count, seed=0)


@pytest.mark.parametrize("count", [0, 5])
def test_refuses_a_thing_that_cannot_be_counted(count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 4 shapes, not {count}"):
        Thing(SHAPES[0], COLOURS[0], count=count)


def test_writes_disjoint_parallel_files(tmp_path: Path) -> None:
    sizes = {"train": 300, "valid": 40, "test": 0}
    write_parallel(tmp_path / "scenes", sizes, seed=7)
    for suffix in ("en", "de"):
        lines: list[str] = []
        for split, size in sizes.items():
            content = (tmp_path / "scenes" / f"{split}.{suffix}").read_bytes()
            assert b"\r" not in content
            assert content.count(b"\n") == size
            assert content == b"" or content.endswith(b".\n")
            lines += content.decode("utf-8").splitlines()
        assert len(set(lines)) == len(lines) == 340
    pairs = sentence_pairs(340, seed=7)
    assert (tmp_path / "scenes/train.de").read_text("utf-8").splitlines() == [p.german for p in pairs[:300]]
    assert (tmp_path / "scenes/valid.en").read_text("utf-8").splitlines() == [p.english for p in pairs[300:]]


def test_refuses_a_split_of_negative_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'valid' cannot hold -1"):
        write_parallel(tmp_path / "scenes", {"train": 5, "valid": -1}, seed=0)
    assert not (tmp_path / "scenes").exists()
