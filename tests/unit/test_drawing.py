import random
from itertools import combinations, groupby
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from data.drawing import (
    PAINT,
    PICTURE_SCALE,
    converse,
    draw,
    picture_scene,
    picture_scenes,
    picture_tellings,
    picture_world_size,
    write_captioned_scenes,
)
from data.layout import MARGIN, PlacedShape, layout
from data.scenes import COLOURS, RELATIONS, SHAPES, Detail, Relation, Scene, Thing, random_scene

SIDE = 400  # of the masks, in pixels
Mask = Bool[np.ndarray, "side side"]


def shape(name: str, colour: str, count: int = 1) -> Thing:
    return Thing(
        next(s for s in SHAPES if s.english == name), next(c for c in COLOURS if c.english == colour), count=count
    )


def relation(name: str) -> Relation:
    return next(r for r in RELATIONS if r.english == name)


ABOVE = Scene(shape("circle", "red"), relation("above"), shape("star", "blue", 2))


def mask(placed: PlacedShape) -> Mask:
    """The pixels of a shape, found by another way than that of the layout."""
    image = Image.new("1", (SIDE, SIDE))
    ImageDraw.Draw(image).polygon((placed.outline * SIDE).ravel().tolist(), fill=1)
    return np.asarray(image)


def grown(pixels: Mask) -> Mask:
    """With two pixels more on every side."""
    return np.asarray(Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.MaxFilter(5))) > 0


def extent(masks: list[Mask], axis: int) -> tuple[int, int]:
    """First and last pixel of all of them along x (0) or y (1)."""
    found = np.flatnonzero(np.any(masks, 0).any(axis))
    return int(found[0]), int(found[-1])


def beyond(first: list[Mask], second: list[Mask], axis: int) -> bool:
    """Whether all of the first comes before all of the second along the axis, in line with it across the axis."""
    (a, b), (c, d) = extent(first, 1 - axis), extent(second, 1 - axis)
    return extent(first, axis)[1] < extent(second, axis)[0] and a <= d and c <= b


@pytest.fixture(scope="module")
def layouts() -> list[tuple[Scene, list[PlacedShape]]]:
    scenes = [random_scene(random.Random(seed)) for seed in range(40)]
    return [(scene, layout(scene, random.Random(seed))) for seed, scene in enumerate(scenes)]


def check_facts(scene: Scene, placed: list[PlacedShape]) -> list[bool]:
    """Fails unless the facts can be seen, and nothing touches or covers but what they say.

    Returns, for each fact of touching or covering, whether every shape of either side takes part in it.
    """
    masks: dict[Thing, list[Mask]] = {}
    for item in placed:
        masks.setdefault(item.thing, []).append(mask(item))
    assert all(len(found) == thing.count for thing, found in masks.items())
    assert set(masks) == {thing for first, _, second in scene.facts for thing in (first, second)}
    every = [(thing, i) for thing in masks for i in range(thing.count)]
    larger = {(thing, i): grown(masks[thing][i]) for thing, i in every}
    met = set()
    complete = []
    for first, how, second in scene.facts:
        a, b, name = masks[first], masks[second], how.english
        if name in ("above", "below"):
            assert beyond(a, b, 1) if name == "above" else beyond(b, a, 1), scene
        elif name in ("left of", "right of"):
            assert beyond(a, b, 0) if name == "left of" else beyond(b, a, 0), scene
        elif name == "next to":
            left, right = (a, b) if beyond(a, b, 0) else (b, a)
            assert beyond(left, right, 0), scene
            assert extent(right, 0)[0] - extent(left, 0)[1] < 0.1 * SIDE, scene
        else:
            found = np.zeros((len(a), len(b)), bool)
            for i, j in np.ndindex(found.shape):
                shared = np.sum(a[i] & b[j]) / min(a[i].sum(), b[j].sum())
                near = bool((larger[first, i] & b[j]).any())
                found[i, j] = shared > 0.06 if name == "cover" else near and shared < 0.05
            assert found.any(), scene
            complete.append(bool(found.any(0).all() and found.any(1).all()))
            met |= {frozenset(((first, i), (second, j))) for i, j in np.argwhere(found).tolist()}
    for one, other in combinations(every, 2):
        if frozenset((one, other)) not in met:
            assert not (larger[one] & masks[other[0]][other[1]]).any(), scene
    return complete


def test_every_fact_of_every_scene_can_be_seen(layouts: list[tuple[Scene, list[PlacedShape]]]) -> None:
    complete = [found for scene, placed in layouts for found in check_facts(scene, placed)]
    assert np.mean(complete) > 0.75  # where there is no room, some only stand by


@pytest.mark.parametrize("seed", [1765, 3606, 3658, 5429])  # found by search among thousands
def test_finds_room_in_the_most_crowded_scenes(seed: int) -> None:
    rng = random.Random(seed)
    scene = random_scene(rng)
    check_facts(scene, layout(scene, rng))


def test_covering_shapes_are_painted_last_and_leave_most_of_the_others_visible(
    layouts: list[tuple[Scene, list[PlacedShape]]],
) -> None:
    covered = 0
    for scene, placed in layouts:
        covering = [(first, second) for first, how, second in scene.facts if how.english == "cover"]
        order = [thing for thing, _ in groupby(item.thing for item in placed)]
        assert all(order.index(first) > order.index(second) for first, second in covering)
        masks = [mask(item) for item in placed] if covering else []
        for i, lower in enumerate(masks[:-1]):
            hidden = np.sum(lower & np.any(masks[i + 1 :], 0)) / lower.sum()
            assert hidden < 0.58, scene
            covered += bool(hidden > 0.02)
    assert covered > 12


def test_sizes_are_clearly_different_and_everything_is_inside_the_frame(
    layouts: list[tuple[Scene, list[PlacedShape]]],
) -> None:
    bounds = {"small": (0.07, 0.1), "": (0.11, 0.155), "large": (0.18, 0.25)}
    for _, placed in layouts:
        for item in placed:
            left, top, right, bottom = item.box
            assert min(left, top) >= MARGIN - 1e-9 and max(right, bottom) <= 1 - MARGIN + 1e-9
            low, high = bounds[item.thing.size.english if item.thing.size else ""]
            assert low < max(right - left, bottom - top) < high


@pytest.mark.parametrize("name", [s.english for s in SHAPES])
def test_outlines_have_the_look_of_their_names(name: str) -> None:
    scene = Scene(shape(name, "red"), relation("above"), shape("circle", "blue"))
    item = next(i for i in layout(scene, random.Random(3)) if i.thing.shape.english == name)
    points = (item.outline - item.outline.mean(0)) / np.ptp(item.outline, 0).max()
    box = np.prod(np.ptp(item.outline, 0))
    fullness = item.area / box  # pi / 4 for circles and ellipses, half for triangles and diamonds
    low, high = {
        "circle": (0.76, 0.80),
        "ellipse": (0.70, 0.80),
        "square": (0.80, 1.0),
        "diamond": (0.44, 0.52),
        "triangle": (0.42, 0.52),
        "star": (0.25, 0.40),
        "heart": (0.55, 0.72),
        "arrow": (0.40, 0.60),
    }[name]
    assert low <= fullness <= high
    assert len(points) == len(np.unique(points.round(6), axis=0)) >= 20


def test_draws_each_thing_in_its_colour_so_that_it_can_be_counted_and_found() -> None:
    """From the pixels alone: a picture shows as many patches of each colour as the scene says, where it says."""
    paints = np.array(list(PAINT.values()))
    for seed in range(20):
        rng = random.Random(seed)
        scene = picture_scene(rng)
        if scene.subject.colour == scene.object.colour:
            continue
        image = draw(scene, rng, scale=PICTURE_SCALE)
        assert (image.mode, image.size) == ("RGB", (224, 224))
        pixels = np.asarray(image).astype(int)
        assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] >= 225).all()  # the corners belong to the background
        distances = np.abs(pixels[:, :, None] - paints).max(-1)
        middles = []
        for thing in (scene.subject, scene.object):
            near = distances[..., list(PAINT).index(thing.colour.english)] <= 12
            labels, _ = ndimage.label(near)
            patches = np.bincount(labels.ravel())[1:]
            assert np.sum(patches > 60) == thing.count, (seed, scene)
            middles.append(np.argwhere(near).mean(0))
        axis, sign = {"above": (0, -1), "below": (0, 1), "left of": (1, -1), "right of": (1, 1)}[scene.relation.english]
        assert (middles[0][axis] - middles[1][axis]) * sign > 20, (seed, scene)


def test_a_picture_depends_on_the_seed_alone() -> None:
    first, again, other = (draw(ABOVE, random.Random(seed), 96).tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_pictures_of_any_size() -> None:
    for size in (16, 50, 260):
        assert draw(ABOVE, random.Random(0), size).size == (size, size)


def test_refuses_what_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.layout._ATTEMPTS", 20)
    with pytest.raises(ValueError, match="no room"):
        draw(ABOVE, random.Random(0), scale=5.0)
    with pytest.raises(ValueError, match="the same"):
        layout(Scene(ABOVE.subject, ABOVE.relation, ABOVE.subject), random.Random(0))


def test_tells_what_can_be_seen_from_either_side() -> None:
    pairs = picture_tellings(ABOVE, 4, random.Random(0))
    assert {(pair.english, pair.german) for pair in pairs} == {
        ("A red circle lies above two blue stars.", "Ein roter Kreis liegt über zwei blauen Sternen."),
        ("Above two blue stars lies a red circle.", "Über zwei blauen Sternen liegt ein roter Kreis."),
        ("Two blue stars lie below a red circle.", "Zwei blaue Sterne liegen unter einem roten Kreis."),
        ("Below a red circle lie two blue stars.", "Unter einem roten Kreis liegen zwei blaue Sterne."),
    }
    assert len(set(picture_tellings(ABOVE, 2, random.Random(0)))) == 2
    for n in (0, 5):
        with pytest.raises(ValueError, match="1 to 4"):
            picture_tellings(ABOVE, n, random.Random(0))


def test_only_simple_scenes_can_be_turned_round() -> None:
    assert converse(converse(ABOVE)) == ABOVE
    touching = Scene(ABOVE.subject, relation("touch"), ABOVE.object)
    detailed = Scene(ABOVE.subject, ABOVE.relation, ABOVE.object, Detail("object", relation("below"), ABOVE.subject))
    for scene in (touching, detailed):
        with pytest.raises(ValueError, match="turned round"):
            converse(scene)


def test_no_two_pictures_show_the_same() -> None:
    scenes = picture_scenes(800, seed=5)
    sides = {side for scene in scenes for side in (scene, converse(scene))}
    assert len(sides) == 2 * len(scenes) == 1600
    assert scenes[:50] == picture_scenes(50, seed=5) != picture_scenes(50, seed=6)
    with pytest.raises(ValueError, match=str(picture_world_size())):
        picture_scenes(picture_world_size() + 1, seed=0)


def test_writes_captioned_pictures_whose_splits_share_no_scene(tmp_path: Path) -> None:
    sizes = {"train": 12, "valid": 3, "test": 4}
    write_captioned_scenes(tmp_path / "a", sizes, seed=7, captions_per_image=3, size=64)
    write_captioned_scenes(tmp_path / "b", sizes, seed=7, captions_per_image=3, size=64)
    written = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    for path in written:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    names = {split: (tmp_path / "a" / f"{split}.txt").read_text(encoding="utf-8").split() for split in sizes}
    assert {split: len(found) for split, found in names.items()} == sizes
    every = [name for found in names.values() for name in found]
    assert sorted(every) == [path.name for path in written if path.suffix == ".png"]
    for file in ("captions.txt", "captions.de.txt"):
        captions: dict[str, list[str]] = {name: [] for name in every}
        for line in (tmp_path / "a" / file).read_text(encoding="utf-8").splitlines():
            name_and_number, caption = line.split("\t")
            name, number = name_and_number.split("#")
            assert int(number) == len(captions[name])
            captions[name].append(caption)
        assert all(len(set(found)) == 3 for found in captions.values())
        told = [caption for found in captions.values() for caption in found]
        assert len(set(told)) == len(told)


@pytest.mark.parametrize(("sizes", "captions", "what"), [({"train": -1}, 2, "train"), ({"train": 1}, 5, "1 to 4")])
def test_refuses_impossible_orders(tmp_path: Path, sizes: dict[str, int], captions: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        write_captioned_scenes(tmp_path, sizes, 0, captions)
