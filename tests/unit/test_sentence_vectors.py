import numpy as np
import pytest

from data.errors import UserError
from nmt.sentence_vectors import draw_map, neighbours, project, read_sets, same_set_share
from nmt.translator import Translator
from tests.tiny import save_translator


def test_blank_lines_part_sets(tmp_path):
    path = tmp_path / "sentences"
    path.write_text("\n\n a dog \na cat\n\n \nthe house\n\n")
    given = read_sets(path)
    assert given.sentences == ["a dog", "a cat", "the house"] and given.sets == [0, 0, 1]


def test_two_sentences_are_no_map(tmp_path):
    path = tmp_path / "sentences"
    path.write_text("a\nb\n")
    with pytest.raises(UserError, match="2 sentences: a map needs three"):
        read_sets(path)


def test_the_plane_holds_the_largest_variances():
    random = np.random.default_rng(0)
    flat = random.normal(size=(30, 2)) * (5, 2)
    turn, _ = np.linalg.qr(random.normal(size=(6, 6)))
    plane = project(flat @ turn[:2] + random.normal(size=6))
    assert sum(plane.shares) == pytest.approx(1) and plane.shares[0] > plane.shares[1]
    distances = [np.linalg.norm(points[:, None] - points, axis=-1) for points in (flat, plane.points)]
    np.testing.assert_allclose(*distances, atol=1e-6)


def test_the_nearest_are_those_of_the_smallest_angle():
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, -0.1]])
    found = neighbours(vectors, 2)
    assert [each[0].row for each in found] == [1, 0, 3, 2] and all(len(each) == 2 for each in found)
    assert all(each[0].cosine > each[1].cosine for each in found)
    assert same_set_share(found, [0, 0, 1, 1]) == 1 and same_set_share(found, [0, 1, 0, 1]) == 0
    assert len(neighbours(vectors, 9)[0]) == 3


def test_vectors_are_those_of_the_text_alone(tmp_path):
    translator = Translator.load(save_translator(tmp_path / "model", 1, layers=2))
    texts = ["a dog runs in the house", "a cat", "the cat sleeps"]
    vectors = translator.sentence_vectors(texts)
    assert vectors.shape == (3, 2 * 16)
    np.testing.assert_allclose(vectors[1], translator.sentence_vectors(["a cat"])[0], atol=1e-6)
    assert np.abs(vectors[1] - vectors[2]).max() > 1e-3
    with pytest.raises(UserError, match="text 2 is blank"):
        translator.sentence_vectors(["a", " "])


def test_a_picture_is_drawn_or_the_name_is_refused(tmp_path):
    path = tmp_path / "sentences"
    path.write_text("a\nb\n\nc\n")
    plane = project(np.random.default_rng(0).normal(size=(3, 4)))
    draw_map(tmp_path / "map.png", read_sets(path), plane)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"cannot be written .*\.png"):
        draw_map(tmp_path / "map.txt", read_sets(path), plane)
