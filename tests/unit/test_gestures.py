import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.gestures import GESTURES, draw, example, write_gestures

SEEDS = st.integers(0, 2**32)
WAYS = {"swipe right": (1, 0), "swipe left": (-1, 0), "swipe up": (0, 1), "swipe down": (0, -1)}


def drawn(name: str, seed: int) -> np.ndarray:
    return np.array(draw(GESTURES[name], random.Random(seed)))


@given(st.sampled_from(sorted(GESTURES)), SEEDS)
def test_a_gesture_is_some_points_on_the_pad(name, seed):
    points = drawn(name, seed)
    assert 14 <= len(points) <= 24 and points.shape[1] == 2
    assert points.min() > -0.1 and points.max() < 1.1


@given(st.sampled_from(sorted(WAYS)), SEEDS)
def test_swipes_go_their_way(name, seed):
    points = drawn(name, seed)
    way = points[-1] - points[0]
    assert way @ WAYS[name] > 0.9 * np.hypot(*way)


@given(st.sampled_from(["circle clockwise", "circle anticlockwise"]), SEEDS)
def test_circles_turn_their_way_and_close(name, seed):
    points = drawn(name, seed)
    (x, y), (following_x, following_y) = points.T, np.roll(points, -1, 0).T
    area = ((x * following_y - following_x * y).sum()) / 2  # negative if clockwise
    width, height = np.ptp(points, axis=0)
    assert bool(area < 0) is (name == "circle clockwise")
    assert 0.6 < abs(area) / (width * height) < 0.95  # of a circle it is 0.79
    assert np.hypot(*(points[-1] - points[0])) < 0.3 * max(width, height)


@pytest.mark.parametrize(
    ("name", "corners"), [("triangle", 2), ("square", 3), ("zigzag", 3), ("caret", 1), ("check mark", 1)]
)
def test_figures_have_their_corners(name, corners, monkeypatch):
    """Drawn with a steady hand in many points; the corner at which a closed figure begins and ends is not turned at."""

    class Steady(random.Random):
        def gauss(self, mu=0.0, sigma=1.0):
            return 0.0

    monkeypatch.setattr("data.gestures._FEWEST_POINTS", 100)
    monkeypatch.setattr("data.gestures._MOST_POINTS", 100)
    for seed in range(20):
        steps = np.diff(np.array(draw(GESTURES[name], Steady(seed))), axis=0)
        angles = np.arctan2(*steps.T[::-1])
        turned = np.abs((np.diff(angles) + np.pi) % (2 * np.pi) - np.pi) > 0.4
        # a corner between two points shows as two lesser turns
        assert np.count_nonzero(np.diff(np.concatenate([[False], turned]).astype(int)) == 1) == corners


def test_a_sequence_says_the_words_of_its_gestures_in_order():
    phrases = {gesture.words for gesture in GESTURES.values()}
    assert len(phrases) == len(GESTURES) == 12
    lengths = set()
    for seed in range(60):
        rng = random.Random(seed)
        points, words = example(rng)
        rng = random.Random(seed)
        chosen = rng.choices(list(GESTURES.values()), k=rng.randint(1, 3))
        lengths.add(len(chosen))
        assert words == " ".join(one.words for one in chosen)
        assert points == [point for one in chosen for point in draw(one, rng)]
    assert lengths == {1, 2, 3}


def test_files_depend_on_the_seed_and_no_drawing_stands_twice(tmp_path):
    sizes = {"train": 60, "valid": 5, "test": 7}
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        write_gestures(tmp_path / folder, sizes, seed)
    texts = [{split: (tmp_path / f / f"{split}.jsonl").read_text() for split in sizes} for f in "abc"]
    assert texts[0] == texts[1] != texts[2]
    records = [json.loads(line) for split in sizes for line in texts[0][split].splitlines()]
    assert len(records) == 72 and len({str(record["frames"]) for record in records}) == 72
