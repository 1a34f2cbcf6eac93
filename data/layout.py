"""Where the shapes of a scene stand in its picture, so that every fact of a `data.scenes.Scene` can be seen.

Shapes are outlines in a frame of side 1, y pointing down. What the words mean here, for groups as for single shapes:

- above, below, left of, right of: all of one group lies beyond all of the other, and roughly in line with it;
- next to: the same, to the left or the right, close by and with nothing in between;
- touch: outlines meet and do not cross; cover: a part of a shape is hidden, the greater part stays visible.
  Every shape of either group has a partner in the other where there is room. Where there is none (four large
  circles cannot all touch one small star), as many as possible have one, and the others stand close by.

Shapes that are not said to touch or cover keep apart, so that a group can be counted.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from jaxtyping import Bool, Float

from data.scenes import Deed, Place, Scene, Thing

Outline = Float[np.ndarray, "corners 2"]
Points = Float[np.ndarray, "points 2"]

SIZES = {"small": 0.085, "": 0.135, "large": 0.215}  # width of the square that a shape fills, of the frame's
MARGIN = 0.03  # that stays empty at the edges of the frame
GAP = 0.018  # least distance between shapes that do not touch
MOST_HIDDEN = 0.5  # share of a shape that others may cover
_TILT = math.radians(6)  # small enough for a square to stay a square and not become a diamond
_ATTEMPTS = 1500
_PATIENCE = 8  # attempts, after which one shape less needs to touch or cover
_DIRECTIONS = {"above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0)}


@dataclass(frozen=True, eq=False)
class PlacedShape:
    """One of the shapes of a thing; the outline is a closed polygon in a frame of side 1, y pointing down."""

    thing: Thing
    outline: Outline

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        (left, top), (right, bottom) = self.outline.min(0).tolist(), self.outline.max(0).tolist()
        return left, top, right, bottom

    @cached_property
    def area(self) -> float:
        (x, y), (next_x, next_y) = self.outline.T, np.roll(self.outline, -1, 0).T
        return float(abs(x @ next_y - y @ next_x)) / 2

    @cached_property
    def inner_points(self) -> Points:
        """A grid of points inside the outline, to measure areas by."""
        left, top, right, bottom = self.box
        grid: Points = np.stack(np.meshgrid(np.linspace(left, right, 12), np.linspace(top, bottom, 12)), -1).reshape(
            -1, 2
        )
        points: Points = grid[_inside(grid, self.outline)]
        return points

    def moved(self, x: float, y: float) -> "PlacedShape":
        return PlacedShape(self.thing, self.outline + np.array((x, y)))


class _NoRoomError(Exception):
    """This attempt at a layout has failed; the next one is made with other random choices."""


def layout(scene: Scene, rng: random.Random, scale: float = 1.0) -> list[PlacedShape]:
    """Places for all shapes of the scene, in the order in which they are to be painted.

    Args:
        scale: factor of all sizes; with 1 there is room for every scene of `random_scene`

    Raises:
        ValueError: two things of the scene are the same, or there is no room in the frame
    """
    things = [scene.subject, scene.object, *([scene.detail.thing] if scene.detail else [])]
    if len(set(things)) < len(things):
        raise ValueError(f"two things of the scene are the same: {scene}")
    for attempt in range(_ATTEMPTS):
        try:
            return _attempt(scene, rng, scale, attempt)
        except _NoRoomError:
            continue
    raise ValueError(f"no room for the scene at scale {scale}: {scene}")


@cache
def _unit_outline(name: str) -> Outline:
    """The outline of a shape inside the square from -0.5 to 0.5, its points about 0.065 apart."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if name == "heart":
        bow = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack((16 * np.sin(turn) ** 3, -bow - 2.5), 1) / 33
    if name in ("circle", "ellipse"):
        return np.stack((np.cos(turn), np.sin(turn) * (1 if name == "circle" else 0.58)), 1) / 2
    tips = np.arange(10) * np.pi / 5
    corners = {
        "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.44,
        "diamond": np.array([(0, -0.5), (0.36, 0), (0, 0.5), (-0.36, 0)]),
        "triangle": np.array([(0, -0.46), (0.5, 0.42), (-0.5, 0.42)]),
        "star": np.stack((np.sin(tips), -np.cos(tips)), 1) * np.where(np.arange(10) % 2, 0.21, 0.5)[:, None],
        "arrow": np.array([(-3, -1), (0, -1), (0, -2.3), (3, 0), (0, 2.3), (0, 1), (-3, 1)]) / 6,
    }[name]
    edges = zip(corners, np.roll(corners, -1, 0), strict=True)
    parts = [np.linspace(a, b, math.ceil(math.dist(a, b) / 0.065), endpoint=False) for a, b in edges]
    return np.concatenate(parts)


def _size(thing: Thing) -> float:
    return SIZES[thing.size.english if thing.size else ""]


def _shapes(thing: Thing, rng: random.Random, scale: float) -> list[PlacedShape]:
    """The shapes of a thing, all about the origin."""
    quarter = rng.randrange(4) * math.pi / 2 if thing.shape.english == "arrow" else 0.0
    shapes = []
    for _ in range(thing.count):
        angle = quarter + rng.uniform(-_TILT, _TILT)
        turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
        shapes.append(PlacedShape(thing, _unit_outline(thing.shape.english) @ turn * (_size(thing) * scale)))
    return shapes


def _group(thing: Thing, rng: random.Random, scale: float, pitch: float) -> list[PlacedShape]:
    """The shapes of a thing in a row, a column or two rows, `pitch` apart from centre to centre."""
    per_row = rng.choice({1: (1,), 2: (1, 2), 3: (1, 2, 3), 4: (1, 2, 4)}[thing.count])
    stagger = rng.uniform(0, 0.5) if per_row * 2 > thing.count > per_row else 0.0  # three: a triangle
    loose = 0.4 * GAP
    return [
        shape.moved(
            (i % per_row + i // per_row * stagger) * pitch + rng.uniform(-loose, loose),
            i // per_row * pitch + rng.uniform(-loose, loose),
        )
        for i, shape in enumerate(_shapes(thing, rng, scale))
    ]


def _attempt(scene: Scene, rng: random.Random, scale: float, attempt: int) -> list[PlacedShape]:
    scale *= rng.uniform(0.94, 1.03)
    placed: dict[Thing, list[PlacedShape]] = {}
    # What stands apart comes last, since it can go farther out; unless that fails, as it may for "next to".
    apart_last = attempt < 4 * _PATIENCE or rng.random() < 0.5
    facts = sorted(scene.facts, key=lambda fact: (apart_last and isinstance(fact[1], Place), rng.random()))
    for first, relation, second in facts:
        if not placed:
            start = min((first, second), key=lambda thing: thing.count)
            partners = [t for a, deed, b in facts for t in (a, b) if isinstance(deed, Deed) and start in (a, b)]
            loose = rng.uniform(1, 1.6) if partners else 1.0
            pitch = max(_size(thing) for thing in (start, *partners)) * scale * loose + 1.5 * GAP
            placed[start] = _group(start, rng, scale, pitch)
        anchor, newcomer = (first, second) if first in placed else (second, first)
        if isinstance(relation, Place):
            block = _group(newcomer, rng, scale, _size(newcomer) * scale + 1.5 * GAP)
            placed[newcomer] = _beside(block, relation, newcomer is first, anchor, placed, rng)
        else:
            shapes = _shapes(newcomer, rng, scale)
            hides = None if relation.english == "touch" else newcomer is first
            placed[newcomer] = _attached(shapes, hides, anchor, placed, rng, attempt)
    levels = dict.fromkeys(placed, 0)
    for first, relation, second in scene.facts * 2:  # twice, since one fact may build on the other
        if relation.english == "cover":
            levels[first] = max(levels[first], levels[second] + 1)
    shapes = [shape for thing in sorted(placed, key=levels.__getitem__) for shape in placed[thing]]
    if any(levels.values()):
        _check_visible(shapes)
    left, top, right, bottom = _bounds(shapes)
    if max(right - left, bottom - top) > 1 - 2 * MARGIN:
        raise _NoRoomError
    x, y = rng.uniform(MARGIN - left, 1 - MARGIN - right), rng.uniform(MARGIN - top, 1 - MARGIN - bottom)
    return [shape.moved(x, y) for shape in shapes]


def _beside(
    block: list[PlacedShape],
    relation: Place,
    is_first: bool,
    anchor: Thing,
    placed: dict[Thing, list[PlacedShape]],
    rng: random.Random,
) -> list[PlacedShape]:
    """The block moved to its place beside the anchor, or farther out if others stand there already."""
    close = relation.english == "next to"
    x, y = rng.choice(((-1, 0), (1, 0))) if close else _DIRECTIONS[relation.english]
    along, sign = (0, x) if x else (1, y)
    sign = sign if is_first else -sign
    across = 1 - along
    box, goal = _bounds(block), _bounds(placed[anchor])
    width, goal_width = box[across + 2] - box[across], goal[across + 2] - goal[across]
    shift = [0.0, 0.0]
    shift[across] = (goal[across] + goal[across + 2] - box[across] - box[across + 2]) / 2
    shift[across] += rng.uniform(-0.3, 0.3) * max(width, goal_width)
    low, high = box[across] + shift[across] - GAP, box[across + 2] + shift[across] + GAP
    near, far = (along, along + 2) if sign > 0 else (along + 2, along)  # the block's near side, the others' far one
    edge = goal[far] * sign
    others = [s.box[far] * sign for t in placed for s in placed[t] if s.box[across] < high and s.box[across + 2] > low]
    beyond = max([edge, *others])
    if close and beyond > edge + GAP:
        raise _NoRoomError  # something would stand in between
    shift[along] = (beyond + (rng.uniform(0.03, 0.06) if close else rng.uniform(0.05, 0.12))) * sign - box[near]
    return [shape.moved(*shift) for shape in block]


def _needed(newcomers: int, hosts: int, attempt: int) -> int:
    """How many of the newcomers must touch or cover: all of them, or fewer where there seems to be no room."""
    fewest = min(newcomers, hosts) if attempt < _ATTEMPTS // 10 else 1
    return max(fewest, newcomers - attempt // _PATIENCE)


def _attached(
    shapes: list[PlacedShape],
    hides: bool | None,
    anchor: Thing,
    placed: dict[Thing, list[PlacedShape]],
    rng: random.Random,
    attempt: int,
) -> list[PlacedShape]:
    """The shapes brought to the anchor's until they touch; if `hides` is not None, until they hide or are hidden."""
    needed = _needed(len(shapes), anchor.count, attempt)
    hosts = rng.sample(placed[anchor], len(placed[anchor]))
    others = [shape for thing in placed for shape in placed[thing]]
    middle = _centre(others)
    start, outward = rng.uniform(0, 2 * math.pi), rng.random() < 0.5
    done: list[PlacedShape] = []
    for i, shape in enumerate(shapes):
        host, turn = hosts[i % len(hosts)], i // len(hosts)
        around = len(range(i % len(hosts), len(shapes), len(hosts)))  # how many come to this host
        # The more shapes there are around one, and the less room, the less is hidden, since they must keep apart.
        share = max(0.08, rng.uniform(0.24, 0.32) * 2 / (around + 1) * (1 - min(attempt, 100) / 150))
        x, y = _centre([host])
        first = math.atan2(y - middle[1], x - middle[0]) if outward else start
        for _ in range(6):
            angle = first + 2 * math.pi * turn / around + rng.uniform(-0.6, 0.6)
            candidate = _brought(shape, host, angle)
            if hides is not None:
                candidate = _pushed_over(candidate, host, angle, hides, share)
            if all(_apart(candidate, other) for other in (*others, *done) if other is not host):
                done.append(candidate)
                break
        else:
            if i < needed:
                raise _NoRoomError
            done.append(_standing_by(shape, done, others, rng))
    return done


def _standing_by(
    shape: PlacedShape, fellows: list[PlacedShape], others: list[PlacedShape], rng: random.Random
) -> PlacedShape:
    for _ in range(20):
        candidate = _brought(shape, rng.choice(fellows), rng.uniform(0, 2 * math.pi), short_by=1.5 * GAP)
        if all(_apart(candidate, other) for other in (*others, *fellows)):
            return candidate
    raise _NoRoomError


def _brought(shape: PlacedShape, host: PlacedShape, angle: float, short_by: float = 0.0) -> PlacedShape:
    """The shape moved from afar, at that angle, towards the centre of the host until it touches, or just before."""
    x, y = math.cos(angle), math.sin(angle)
    centre_x, centre_y = _centre([host])
    far = shape.moved(centre_x + 2 * x, centre_y + 2 * y)
    turn = np.array([(-x, y), (-y, -x)])  # makes the way to the host the first axis
    mover, goal = far.outline @ turn, host.outline @ turn
    # Polygons first meet where a corner of the one hits an edge of the other.
    way = min(float(np.nanmin(_crossings(mover, goal))), float(np.nanmin(-_crossings(goal, mover)))) - short_by
    return far.moved(-x * way, -y * way)


def _pushed_over(shape: PlacedShape, host: PlacedShape, angle: float, hides: bool, share: float) -> PlacedShape:
    """The shape moved on from where it touches the host until `share` of the lower of the two is hidden."""
    upper, lower = (shape, host) if hides else (host, shape)
    wanted = min(2 * share * upper.area, share * lower.area)  # a small shape need not lie on a large one wholly
    way = np.array((-math.cos(angle), -math.sin(angle)))
    low, high = 0.0, math.dist(_centre([shape]), _centre([host]))
    for _ in range(6):
        middle = (low + high) / 2
        if shape.area < host.area:
            covered = float(_inside(shape.inner_points + way * middle, host.outline).mean()) * shape.area
        else:
            covered = float(_inside(host.inner_points - way * middle, shape.outline).mean()) * host.area
        low, high = (middle, high) if covered < wanted else (low, middle)
    return shape.moved(*(way * high).tolist())


def _crossings(points: Points, outline: Outline) -> Float[np.ndarray, "points corners"]:
    """How far to the right of each point each edge of the outline lies at the point's height; NaN where it does not."""
    x, y = points[:, :1], points[:, 1:]
    (x1, y1), (x2, y2) = outline.T, np.roll(outline, -1, 0).T
    crosses = (y1 <= y) != (y2 <= y)
    rise = np.where(y2 == y1, 1, y2 - y1)  # a level edge crosses nothing
    distances: Float[np.ndarray, "points corners"] = np.where(crosses, x1 + (y - y1) * (x2 - x1) / rise - x, np.nan)
    return distances


def _inside(points: Points, outline: Outline) -> Bool[np.ndarray, " points"]:
    inside: Bool[np.ndarray, " points"] = (_crossings(points, outline) > 0).sum(1) % 2 == 1
    return inside


def _apart(a: PlacedShape, b: PlacedShape) -> bool:
    """Whether there is a gap between two shapes."""
    (left, top, right, bottom), other = a.box, b.box
    if left > other[2] + GAP or other[0] > right + GAP or top > other[3] + GAP or other[1] > bottom + GAP:
        return True
    distances = ((a.outline[:, None] - b.outline) ** 2).sum(-1)  # points stand closely enough to tell
    one_in_other = _inside(a.outline[:1], b.outline)[0] or _inside(b.outline[:1], a.outline)[0]
    return bool(distances.min() > GAP**2 and not one_in_other)


def _check_visible(shapes: list[PlacedShape]) -> None:
    """Raises _NoRoomError if too much of a shape is hidden by those that are painted after it."""
    for i, shape in enumerate(shapes):
        hidden = np.zeros(len(shape.inner_points), bool)
        for upper in shapes[i + 1 :]:
            hidden |= _inside(shape.inner_points, upper.outline)
        if hidden.mean() > MOST_HIDDEN:
            raise _NoRoomError


def _centre(shapes: Iterable[PlacedShape]) -> tuple[float, float]:
    left, top, right, bottom = _bounds(shapes)
    return (left + right) / 2, (top + bottom) / 2


def _bounds(shapes: Iterable[PlacedShape]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of all of them."""
    lefts, tops, rights, bottoms = zip(*(shape.box for shape in shapes), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
