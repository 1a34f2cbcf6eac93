"""Generated gestures: one to three strokes of a pen, as points over time, and the command that they give.

The same gesture is never drawn twice: its place, size, proportions, slant, speed and number of points vary, the hand
trembles, and a closed figure begins anywhere. A frame is a point (x to the right, y upwards, on a pad from 0 to 1) and
the move to it from the point before, as in the data of Ha and Eck (2017). Nothing but the length of a move
tells where one gesture ends and the next begins.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

Points: TypeAlias = Sequence[tuple[float, float]]
MOST_GESTURES = 3
_FEWEST_POINTS, _MOST_POINTS = 14, 24  # of one gesture
_TURN = 24  # corners of what is round
_TREMBLE = 0.015  # standard deviation, in sizes of the gesture
_SLANT = math.radians(12)


def _round(step: int, double: int = 1) -> Points:
    """Once around a circle (`double` 1) or a lying figure eight (2); anticlockwise with step 1, clockwise with -1."""
    angles = [step * 2 * math.pi * i / _TURN for i in range(_TURN)]
    return [(0.5 + math.cos(a) / 2, 0.5 + math.sin(double * a) / 2 / double) for a in angles]


@dataclass(frozen=True)
class Gesture:
    """Corners in a square from 0 to 1; what is `closed` returns to its first corner and may begin at any."""

    words: str
    corners: Points
    closed: bool = False
    either_way: bool = False


GESTURES = {
    "swipe right": Gesture("next page", [(0.0, 0.5), (1.0, 0.5)]),
    "swipe left": Gesture("previous page", [(1.0, 0.5), (0.0, 0.5)]),
    "swipe up": Gesture("open", [(0.5, 0.0), (0.5, 1.0)]),
    "swipe down": Gesture("close", [(0.5, 1.0), (0.5, 0.0)]),
    "circle clockwise": Gesture("redo", _round(-1), closed=True),
    "circle anticlockwise": Gesture("undo", _round(1), closed=True),
    "figure eight": Gesture("play again", _round(1, 2), closed=True, either_way=True),
    "zigzag": Gesture("delete", [(0.0, 1.0), (1.0, 0.75), (0.0, 0.5), (1.0, 0.25), (0.0, 0.0)]),
    "check mark": Gesture("save file", [(0.0, 0.4), (0.3, 0.0), (1.0, 1.0)]),
    "caret": Gesture("zoom in", [(0.0, 0.0), (0.5, 1.0), (1.0, 0.0)]),
    "triangle": Gesture("play", [(0.0, 0.0), (1.0, 0.0), (0.5, 0.9)], closed=True, either_way=True),
    "square": Gesture("stop", [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)], closed=True, either_way=True),
}


def draw(gesture: Gesture, rng: random.Random) -> Points:
    """The points of a gesture, in order."""
    corners = gesture.corners
    if gesture.closed:
        first = rng.randrange(len(corners))
        corners = [*corners[first:], *corners[: first + 1]]
    if gesture.either_way and rng.random() < 0.5:
        corners = corners[::-1]
    shape = np.array(corners) - 0.5
    way = np.concatenate([[0.0], np.hypot(*np.diff(shape, axis=0).T).cumsum()])
    time = np.linspace(0, 1, rng.randint(_FEWEST_POINTS, _MOST_POINTS))
    # fastest in the middle or at both ends, but never backwards
    pace = time + rng.uniform(-0.7, 0.7) * np.sin(2 * math.pi * time) / (2 * math.pi)
    points = np.stack([np.interp(pace * way[-1], way, axis) for axis in shape.T])
    angle, size = rng.uniform(-_SLANT, _SLANT), rng.uniform(0.15, 0.4)
    turn = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    stretch = np.array([[rng.uniform(0.8, 1.25)], [1.0]])
    middle = np.array([[rng.uniform(0.25, 0.75)], [rng.uniform(0.25, 0.75)]])
    tremble = np.array([[rng.gauss(0, _TREMBLE) for _ in time] for _ in range(2)])
    x, y = (turn @ (points * stretch) + tremble) * size + middle
    return [(round(float(a), 4), round(float(b), 4)) for a, b in zip(x, y, strict=True)]


def example(rng: random.Random) -> tuple[Points, str]:
    """The points of one to three gestures, one after the other, and the words of all of them."""
    chosen = rng.choices(list(GESTURES.values()), k=rng.randint(1, MOST_GESTURES))
    return [point for one in chosen for point in draw(one, rng)], " ".join(one.words for one in chosen)


def frames_of(points: Points) -> list[list[float]]:
    """x, y and the two parts of the move from the point before, for each point; the first has moved nowhere."""
    before = [points[0], *points[:-1]]
    return [[x, y, round(x - a, 4), round(y - b, 4)] for (x, y), (a, b) in zip(points, before, strict=True)]


def write_gestures(folder: Path, sizes: dict[str, int], seed: int) -> None:
    """Write SPLIT.jsonl, records of frames (see `frames_of`) and target (words), for the splits in `sizes`."""
    rng = random.Random(seed)
    for split, size in sizes.items():
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for _ in range(size):
                points, words = example(rng)
                file.write(json.dumps({"frames": frames_of(points), "target": words}) + "\n")
