"""Scenes said in English and in German.

A `Telling` is the way a scene is said: the form of the sentence, and which things count as known. Every scene can be
told in every way, and no sentence of either language has two partners in the other, so a translation is either right
or wrong.
"""

import random
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from data.scenes import (
    COLOURS,
    NUMERALS,
    RELATIONS,
    SHAPES,
    SIZES,
    Agreement,
    Deed,
    Detail,
    Place,
    Relation,
    Scene,
    Thing,
    random_scene,
)  # fmt: skip

Case = Literal["nominative", "accusative", "dative"]
_DEFINITE: dict[Case, dict[Agreement, str]] = {
    "nominative": {"masculine": "der", "feminine": "die", "neuter": "das", "plural": "die"},
    "accusative": {"masculine": "den", "feminine": "die", "neuter": "das", "plural": "die"},
    "dative": {"masculine": "dem", "feminine": "der", "neuter": "dem", "plural": "den"},
}
_INDEFINITE: dict[Case, dict[Agreement, str]] = {  # no word at all stands before an unknown plural
    "nominative": {"masculine": "ein", "feminine": "eine", "neuter": "ein", "plural": ""},
    "accusative": {"masculine": "einen", "feminine": "eine", "neuter": "ein", "plural": ""},
    "dative": {"masculine": "einem", "feminine": "einer", "neuter": "einem", "plural": ""},
}
# After `der` the article has shown the case and the adjective need not; after `ein`, or nothing, it must.
_WEAK: dict[Case, dict[Agreement, str]] = {
    "nominative": {"masculine": "e", "feminine": "e", "neuter": "e", "plural": "en"},
    "accusative": {"masculine": "en", "feminine": "e", "neuter": "e", "plural": "en"},
    "dative": {"masculine": "en", "feminine": "en", "neuter": "en", "plural": "en"},
}
_STRONG: dict[Case, dict[Agreement, str]] = {
    "nominative": {"masculine": "er", "feminine": "e", "neuter": "es", "plural": "e"},
    "accusative": {"masculine": "en", "feminine": "e", "neuter": "es", "plural": "e"},
    "dative": {"masculine": "en", "feminine": "en", "neuter": "en", "plural": "en"},
}


class Form(Enum):
    """The forms a sentence takes; the examples tell one scene."""

    PLAIN = "A red circle lies above the blue square."
    FRONTED = "Above the blue square lies a red circle."  # a deed is put in the passive: "is touched by"
    SETTING = "In the picture a red circle lies above the blue square."
    REPORTED = "I see that a red circle lies above the blue square."
    DEPICTED = "The picture shows a red circle that lies above the blue square."


@dataclass(frozen=True)
class Telling:
    """A way of saying a scene: the form, and which things take the definite article."""

    form: Form = Form.PLAIN
    definite_subject: bool = False
    definite_object: bool = False
    definite_detail: bool = False


@dataclass(frozen=True)
class SentencePair:
    """One scene, told in the same way in both languages."""

    english: str
    german: str


def english(scene: Scene, telling: Telling) -> str:
    """The scene as an English sentence."""
    passive = telling.form is Form.FRONTED and isinstance(scene.relation, Deed)
    subject = _english_noun(scene.subject, telling.definite_subject)
    object_ = _english_noun(scene.object, telling.definite_object)
    aside = _english_aside(scene.detail, scene, telling) if scene.detail else ""
    about_subject = scene.detail is not None and scene.detail.host == "subject"
    if telling.form is Form.DEPICTED and about_subject:
        # Two clauses about one noun are joined, under one and the same pronoun where English allows it.
        pronoun = "which" if " which " in aside else "that"
        verb = _english_verb(scene.relation, scene.subject, passive)
        return _sentence("the picture shows", subject, aside, "and", pronoun, verb, object_)
    subject, object_ = (f"{subject} {aside}", object_) if about_subject else (subject, f"{object_} {aside}")
    if passive:
        return _sentence(object_, _english_verb(scene.relation, scene.object, passive), subject)
    verb = _english_verb(scene.relation, scene.subject, passive)
    if telling.form is Form.FRONTED:
        lie = "lie" if scene.subject.plural else "lies"
        return _sentence(scene.relation.english, object_, lie, subject)
    if telling.form is Form.DEPICTED:
        return _sentence("the picture shows", subject, "that", verb, object_)
    opening = {Form.SETTING: "in the picture", Form.REPORTED: "I see that"}.get(telling.form, "")
    return _sentence(opening, subject, verb, object_)


def _english_noun(thing: Thing, definite: bool) -> str:
    size = thing.size.english if thing.size else ""
    noun = thing.shape.english + ("s" if thing.plural else "")
    words = _words(NUMERALS[thing.count][0], size, thing.colour.english, noun)
    if definite:
        return f"the {words}"
    if thing.plural:
        return words
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _english_verb(relation: Relation, subject: Thing, passive: bool) -> str:
    """All that stands between the subject and the other thing."""
    if isinstance(relation, Place):
        return f"{'lie' if subject.plural else 'lies'} {relation.english}"
    if passive:
        return f"{'are' if subject.plural else 'is'} {relation.english_participle} by"
    return relation.english if subject.plural else relation.english_singular


def _english_aside(detail: Detail, scene: Scene, telling: Telling) -> str:
    host = scene.subject if detail.host == "subject" else scene.object
    thing = _english_noun(detail.thing, telling.definite_detail)
    if detail.inverted and isinstance(detail.relation, Place):
        return f"{detail.relation.english} which {'lie' if detail.thing.plural else 'lies'} {thing}"
    return f"that {_english_verb(detail.relation, host, detail.inverted)} {thing}"


def german(scene: Scene, telling: Telling) -> str:
    """The scene as a German sentence, the partner of the English one."""
    passive = telling.form is Form.FRONTED and isinstance(scene.relation, Deed)
    aside = _german_aside(scene.detail, scene, telling) if scene.detail else ""
    about_subject = scene.detail is not None and scene.detail.host == "subject"
    first, second = scene.subject, scene.object
    first_definite, second_definite = telling.definite_subject, telling.definite_object
    if passive:
        first, second, first_definite, second_definite = second, first, second_definite, first_definite
    # A clause about the first noun follows it at once. One about the second waits for the end of the sentence
    # (`tail`): German would sooner part it from its noun than leave a lone verb behind it.
    own_aside, tail = ("", f", {aside},") if about_subject == passive else (f", {aside},", "")
    if not aside:
        own_aside = tail = ""
    noun = _german_noun(first, first_definite, "nominative") + own_aside
    finite, other, participle = _german_verb(scene.relation, first, second, second_definite, passive)
    if telling.form is Form.SETTING:
        return _sentence("auf dem Bild", finite, noun, other + tail)
    if telling.form is Form.REPORTED:
        return _sentence("ich sehe, dass", noun, other, finite + tail)
    if telling.form is Form.DEPICTED:
        shown = _german_noun(first, first_definite, "accusative")
        joined = f"{aside} und" if about_subject else ""
        pronoun = _german_pronoun(first, "nominative")
        return _sentence("das Bild stellt", shown, "dar,", joined, pronoun, other, finite + tail)
    if telling.form is Form.FRONTED and not passive:
        return _sentence(other + tail, finite, noun)
    return _sentence(noun, finite, _words(other, participle) + tail)


def _german_noun(thing: Thing, definite: bool, case: Case) -> str:
    article = (_DEFINITE if definite else _INDEFINITE)[case][thing.agreement]
    ending = (_WEAK if definite else _STRONG)[case][thing.agreement]
    size = thing.size.german + ending if thing.size else ""
    noun = thing.shape.german
    if thing.plural:
        noun = thing.shape.german_plural
        if case == "dative" and not noun.endswith("n"):
            noun += "n"
    elif case == "dative":
        noun = thing.shape.dative or noun
    return _words(article, NUMERALS[thing.count][1], size, thing.colour.german + ending, noun)


def _german_pronoun(host: Thing, case: Case) -> str:
    """The relative pronoun: the definite article, but for one form."""
    return "denen" if case == "dative" and host.plural else _DEFINITE[case][host.agreement]


def _german_verb(
    relation: Relation, subject: Thing, other: Thing, definite: bool, passive: bool
) -> tuple[str, str, str]:
    """The finite verb, the other thing as the verb wants it, and the participle if there is one."""
    if isinstance(relation, Place):
        place = f"{relation.german} {_german_noun(other, definite, 'dative')}"
        return "liegen" if subject.plural else "liegt", place, ""
    if passive:
        agent = f"von {_german_noun(other, definite, 'dative')}"
        return "werden" if subject.plural else "wird", agent, relation.german_participle
    finite = relation.german if subject.plural else relation.german_singular
    return finite, _german_noun(other, definite, "accusative"), ""


def _german_aside(detail: Detail, scene: Scene, telling: Telling) -> str:
    host = scene.subject if detail.host == "subject" else scene.object
    if detail.inverted and isinstance(detail.relation, Place):
        thing = _german_noun(detail.thing, telling.definite_detail, "nominative")
        lie = "liegen" if detail.thing.plural else "liegt"
        return f"{detail.relation.german} {_german_pronoun(host, 'dative')} {thing} {lie}"
    # An inverted deed goes into the passive, since "das das Herz berührt" would not tell who touches whom.
    finite, other, participle = _german_verb(
        detail.relation, host, detail.thing, telling.definite_detail, detail.inverted
    )
    return _words(_german_pronoun(host, "nominative"), other, participle, finite)


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _sentence(*parts: str) -> str:
    text = " ".join(_words(*parts).split()).rstrip(",")  # a comma that closes a clause gives way to the stop
    return text[0].upper() + text[1:] + "."


def random_telling(rng: random.Random) -> Telling:
    """Any of the ways to tell a scene, all equally likely."""
    return Telling(rng.choice(tuple(Form)), *(rng.random() < 0.5 for _ in range(3)))


def world_size() -> int:
    """How many different sentences `random_scene` and `random_telling` make in each language."""
    kinds = len(SHAPES) * len(COLOURS)
    looks = (len(SIZES) + 1) * len(NUMERALS)
    plain = kinds * looks * (kinds - 1) * looks * len(RELATIONS)
    detailed = plain * (kinds - 2) * len(NUMERALS) * len(RELATIONS) * 2 * 2  # either host, either direction
    return len(Form) * (plain * 2**2 + detailed * 2**3)  # each thing definite or not


def sentence_pairs(count: int, seed: int) -> list[SentencePair]:
    """`count` pairs that share no sentence of either language, the same ones for the same seed."""
    if not 0 <= count <= world_size():
        raise ValueError(
            f"cannot make {count} different sentence pairs: the count must lie between 0 and {world_size()}, "
            "which is all that the shapes, colours, sizes, counts, relations and forms can say"
        )
    rng = random.Random(seed)
    pairs: dict[str, SentencePair] = {}
    taken: set[str] = set()
    while len(pairs) < count:
        scene, telling = random_scene(rng), random_telling(rng)
        pair = SentencePair(english(scene, telling), german(scene, telling))
        if pair.english not in pairs and pair.german not in taken:
            pairs[pair.english] = pair
            taken.add(pair.german)
    return list(pairs.values())


def write_parallel(directory: Path, sizes: dict[str, int], seed: int) -> None:
    """Writes `train.en`, `train.de` and so on for the splits in `sizes`, which have no sentence in common."""
    for split, size in sizes.items():
        if size < 0:
            raise ValueError(f"the split {split!r} cannot hold {size} sentence pairs")
    pairs = iter(sentence_pairs(sum(sizes.values()), seed))
    directory.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        chosen = [next(pairs) for _ in range(size)]
        for suffix, lines in (("en", [p.english for p in chosen]), ("de", [p.german for p in chosen])):
            text = "".join(f"{line}\n" for line in lines)
            (directory / f"{split}.{suffix}").write_text(text, encoding="utf-8", newline="\n")
