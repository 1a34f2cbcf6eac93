"""Pictures of scenes, and captioned pictures to learn from.

The captioned pictures show `picture_scene`s and say of them, in `picture_tellings`, only what can be seen: which
of two things is new to the hearer, or told first, is no property of a picture and would have to be guessed.
"""

import random
from pathlib import Path

from PIL import Image, ImageDraw

from data.layout import layout
from data.scene_sentences import Form, SentencePair, Telling, english, german
from data.scenes import COLOURS, PLACES, SHAPES, Scene, Thing

PICTURE_SCALE = 1.3  # `picture_scene`s leave room for shapes that are larger by this factor
_OVERSAMPLING = 4
PAINT = {
    "red": (214, 40, 40),
    "blue": (40, 90, 215),
    "green": (40, 160, 70),
    "yellow": (246, 208, 40),
    "black": (32, 32, 32),
    "purple": (132, 50, 170),
    "orange": (246, 132, 30),
}
_OPPOSITES = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
_PICTURE_PLACES = tuple(place for place in PLACES if place.english in _OPPOSITES)
# What a small model can learn to see from some thousand pictures: no sizes, and no shapes that look alike.
_PICTURE_COUNTS = (1, 2)
_PICTURE_SHAPES = tuple(s for s in SHAPES if s.english in ("circle", "star", "heart", "square", "triangle", "ellipse"))
_PICTURE_COLOURS = tuple(c for c in COLOURS if c.english not in ("orange", "purple"))
_PICTURE_FORMS = (Form.PLAIN, Form.FRONTED)


def draw(scene: Scene, rng: random.Random, size: int = 224, *, scale: float = 1.0) -> Image.Image:
    """The scene as an RGB picture of `size` times `size` pixels on a light background.

    Raises:
        ValueError: there is no room in the frame, which happens only at a `scale` above 1
    """
    side = size * _OVERSAMPLING
    grey = rng.randint(232, 255)
    image = Image.new("RGB", (side, side), _shade((grey, grey, grey), rng, 3))
    canvas = ImageDraw.Draw(image)
    paints: dict[Thing, tuple[int, int, int]] = {}
    for shape in layout(scene, rng, scale):
        paint = paints.setdefault(shape.thing, _shade(PAINT[shape.thing.colour.english], rng, 10))
        # A darker edge, or a lighter one around black, parts shapes of one colour that touch or cover.
        edge = (120, 120, 120) if max(paint) < 60 else (paint[0] * 3 // 5, paint[1] * 3 // 5, paint[2] * 3 // 5)
        points: list[float] = (shape.outline * side).ravel().tolist()
        canvas.polygon(points, fill=paint)
        canvas.line(points + points[:4], fill=edge, width=side // 224, joint="curve")
    return image.reduce(_OVERSAMPLING)


def _shade(colour: tuple[int, int, int], rng: random.Random, spread: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, value + rng.randint(-spread, spread))) for value in colour)
    return red, green, blue


def picture_scene(rng: random.Random) -> Scene:
    """One or two shapes of a kind above, below, left of or right of one or two of another kind."""
    kinds = rng.sample([(shape, colour) for shape in _PICTURE_SHAPES for colour in _PICTURE_COLOURS], 2)
    counts = rng.choices(_PICTURE_COUNTS, weights=(2, 1), k=2)
    subject, object_ = (Thing(*kind, count=count) for kind, count in zip(kinds, counts, strict=True))
    return Scene(subject, rng.choice(_PICTURE_PLACES), object_)


def converse(scene: Scene) -> Scene:
    """The same picture seen from its object: of "A lies above B", "B lies below A".

    Raises:
        ValueError: the scene has a detail, or a relation without an opposite
    """
    opposite = _OPPOSITES.get(scene.relation.english)
    if scene.detail is not None or opposite is None:
        raise ValueError(f"only scenes without detail, in {' or '.join(_OPPOSITES)}, can be turned round: {scene}")
    return Scene(scene.object, next(place for place in PLACES if place.english == opposite), scene.subject)


def picture_tellings(scene: Scene, n: int, rng: random.Random) -> list[SentencePair]:
    """`n` different ways, in random order, to tell what a picture of a `picture_scene` shows.

    There are four: plain or fronted, from either of the two things; all of their nouns are indefinite.

    Raises:
        ValueError: `n` is not between 1 and 4, or `picture_scene` cannot have made the scene
    """
    tellings = [(side, Telling(form)) for side in (scene, converse(scene)) for form in _PICTURE_FORMS]
    if not 1 <= n <= len(tellings):
        raise ValueError(f"a picture can be told in 1 to {len(tellings)} ways, not {n}")
    return [SentencePair(english(side, telling), german(side, telling)) for side, telling in rng.sample(tellings, n)]


def picture_world_size() -> int:
    """How many different pictures `picture_scene` makes; a scene and its converse are one."""
    kinds = len(_PICTURE_SHAPES) * len(_PICTURE_COLOURS)
    return kinds * (kinds - 1) * len(_PICTURE_COUNTS) ** 2 * len(_PICTURE_PLACES) // 2


def picture_scenes(count: int, seed: int) -> list[Scene]:
    """`count` scenes of which no two, and no two converses, are the same; the same ones for the same seed."""
    if not 0 <= count <= picture_world_size():
        raise ValueError(f"cannot make {count} different pictures: there are {picture_world_size()}")
    rng = random.Random(seed)
    scenes: dict[Scene, None] = {}
    while len(scenes) < count:
        scene = picture_scene(rng)
        if converse(scene) not in scenes:
            scenes[scene] = None
    return list(scenes)


def write_captioned_scenes(
    directory: Path, sizes: dict[str, int], seed: int, captions_per_image: int = 4, *, size: int = 224
) -> None:
    """Writes captioned pictures in the layout of Flickr8k; the same ones for the same seed.

    `images/NAME.png`, `size` pixels square; `captions.txt` (English) and `captions.de.txt` (German, line by line its
    translation) with lines `NAME.png#K`, a tab and a caption; and for each split of `sizes`, which gives the number
    of its pictures, its names in `SPLIT.txt`. No scene is in two splits, not even as its converse.

    Raises:
        ValueError: a split of less than no pictures, more pictures than there are, or not 1 to 4 captions each
    """
    for split, number in sizes.items():
        if number < 0:
            raise ValueError(f"the split {split!r} cannot hold {number} pictures")
    rng = random.Random(seed)
    scenes = iter(picture_scenes(sum(sizes.values()), seed))
    (directory / "images").mkdir(parents=True, exist_ok=True)
    texts: dict[str, list[str]] = {"captions.txt": [], "captions.de.txt": []}
    for split, number in sizes.items():
        names = [f"{split}_{i:05d}.png" for i in range(number)]
        texts[f"{split}.txt"] = names
        for name, scene in zip(names, scenes, strict=False):
            draw(scene, rng, size, scale=PICTURE_SCALE).save(directory / "images" / name)
            for k, pair in enumerate(picture_tellings(scene, captions_per_image, rng)):
                texts["captions.txt"].append(f"{name}#{k}\t{pair.english}")
                texts["captions.de.txt"].append(f"{name}#{k}\t{pair.german}")
    for file, lines in texts.items():
        text = "".join(f"{line}\n" for line in lines)
        (directory / file).write_text(text, encoding="utf-8", newline="\n")
