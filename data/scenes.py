"""A small world of coloured shapes: a `Scene` is what there is to see, things and how they stand to each other."""

import random
from dataclasses import dataclass
from typing import Literal

Gender = Literal["masculine", "feminine", "neuter"]
Agreement = Literal["masculine", "feminine", "neuter", "plural"]  # the plural has one gender for all nouns


@dataclass(frozen=True)
class Shape:
    """A noun of both languages; `dative` is the singular where it differs from the nominative."""

    english: str
    german: str
    german_plural: str
    gender: Gender
    dative: str | None = None


@dataclass(frozen=True)
class Quality:
    """An adjective, a colour or a size, by its English word and its German stem."""

    english: str
    german: str


@dataclass(frozen=True)
class Place:
    """A relation said with a preposition and the verb lie; the German preposition takes the dative."""

    english: str
    german: str


@dataclass(frozen=True)
class Deed:
    """A relation said with a transitive verb: its forms for many, for one, and its participle."""

    english: str
    english_singular: str
    english_participle: str
    german: str
    german_singular: str
    german_participle: str


Relation = Place | Deed
SHAPES = (
    Shape("circle", "Kreis", "Kreise", "masculine"),
    Shape("star", "Stern", "Sterne", "masculine"),
    Shape("arrow", "Pfeil", "Pfeile", "masculine"),
    Shape("diamond", "Raute", "Rauten", "feminine"),
    Shape("ellipse", "Ellipse", "Ellipsen", "feminine"),
    Shape("square", "Quadrat", "Quadrate", "neuter"),
    Shape("triangle", "Dreieck", "Dreiecke", "neuter"),
    Shape("heart", "Herz", "Herzen", "neuter", dative="Herzen"),
)
COLOURS = (
    Quality("red", "rot"),
    Quality("blue", "blau"),
    Quality("green", "grün"),
    Quality("yellow", "gelb"),
    Quality("black", "schwarz"),
    Quality("purple", "violett"),
    Quality("orange", "orangefarben"),  # bare `orange` takes no ending in careful German
)
SIZES = (Quality("small", "klein"), Quality("large", "groß"))
NUMERALS = {1: ("", ""), 2: ("two", "zwei"), 3: ("three", "drei"), 4: ("four", "vier")}
PLACES = (
    Place("above", "über"),
    Place("below", "unter"),
    Place("left of", "links von"),
    Place("right of", "rechts von"),
    Place("next to", "neben"),
)
DEEDS = (
    Deed("touch", "touches", "touched", "berühren", "berührt", "berührt"),
    Deed("cover", "covers", "covered", "verdecken", "verdeckt", "verdeckt"),
)
RELATIONS: tuple[Relation, ...] = PLACES + DEEDS


@dataclass(frozen=True)
class Thing:
    """One to four shapes of one colour; no `size` is the ordinary size, which goes unsaid."""

    shape: Shape
    colour: Quality
    size: Quality | None = None
    count: int = 1

    def __post_init__(self) -> None:
        if self.count not in NUMERALS:
            raise ValueError(f"a thing counts {min(NUMERALS)} to {max(NUMERALS)} shapes, not {self.count}")

    @property
    def plural(self) -> bool:
        return self.count > 1

    @property
    def agreement(self) -> Agreement:
        """What German articles, adjectives and pronouns of this thing agree with."""
        return "plural" if self.plural else self.shape.gender


@dataclass(frozen=True)
class Detail:
    """A third thing, told in a relative clause about the subject or the object of the scene, its host.

    The host relates to the thing ("that lies above a star"); if `inverted`, the thing relates to the host
    ("above which lies a star").
    """

    host: Literal["subject", "object"]
    relation: Relation
    thing: Thing
    inverted: bool = False


@dataclass(frozen=True)
class Scene:
    """What a picture shows, however it is said."""

    subject: Thing
    relation: Relation
    object: Thing
    detail: Detail | None = None

    @property
    def facts(self) -> tuple[tuple[Thing, Relation, Thing], ...]:
        """Everything that a picture of the scene has to make true: the first thing relates to the second."""
        fact = (self.subject, self.relation, self.object)
        if self.detail is None:
            return (fact,)
        host, thing = self.object if self.detail.host == "object" else self.subject, self.detail.thing
        first, second = (thing, host) if self.detail.inverted else (host, thing)
        return fact, (first, self.detail.relation, second)


def random_scene(rng: random.Random) -> Scene:
    """Two things in a relation, and every second time a third one in a relative clause.

    No two of them share both shape and colour, so that "the red circle" is always one of them. The third is
    of ordinary size, which keeps long sentences short enough to read.
    """
    kinds = rng.sample([(shape, colour) for shape in SHAPES for colour in COLOURS], 3)
    # As many things are single as are several, or the genders, which only the singular has, would be rare.
    counts = rng.choices(tuple(NUMERALS), weights=[len(NUMERALS) - 1] + [1] * (len(NUMERALS) - 1), k=3)
    sizes = rng.choices((None, *SIZES), k=2)
    subject = Thing(*kinds[0], sizes[0], counts[0])
    object_ = Thing(*kinds[1], sizes[1], counts[1])
    relation, other_relation = rng.choices(RELATIONS, k=2)
    if rng.random() < 0.5:
        return Scene(subject, relation, object_)
    host: Literal["subject", "object"] = "subject" if rng.random() < 0.5 else "object"
    third = Thing(*kinds[2], count=counts[2])
    return Scene(subject, relation, object_, Detail(host, other_relation, third, rng.random() < 0.5))
