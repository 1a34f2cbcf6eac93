"""What the encoder makes of sentences, as a map (Sutskever, Vinyals and Le 2014, section 3.8 and figure 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from data.errors import UserError
from data.text_files import read_lines

_MOST_LABELS = 60  # more cannot be read


@dataclass(frozen=True)
class SentenceSets:
    """Sentences, and the set that each belongs to, from 0."""

    sentences: list[str]
    sets: list[int]


def read_sets(path: Path) -> SentenceSets:
    """One sentence a line; a blank line begins another set. Raises UserError if the file cannot be read or has less
    than three sentences."""
    sentences: list[str] = []
    sets: list[int] = []
    number, blank = 0, False
    for line in read_lines(path):
        if not line.strip():
            blank = bool(sentences)
            continue
        number += blank
        blank = False
        sentences.append(line.strip())
        sets.append(number)
    if len(sentences) < 3:
        raise UserError(f"{path}: {len(sentences)} sentences: a map needs three or more, one a line")
    return SentenceSets(sentences, sets)


@dataclass(frozen=True)
class Plane:
    """Points on the two principal components, and the share of the variance that each of the two holds, 0 to 1."""

    points: Float[np.ndarray, "sentences 2"]
    shares: tuple[float, float]


def project(vectors: Float[np.ndarray, "sentences features"]) -> Plane:
    """Principal component analysis to two dimensions; the larger half of each axis's weight is on its positive side."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = (left * sizes)[:, :2]
    points *= np.where(np.abs(points.max(0)) < np.abs(points.min(0)), -1, 1)
    shares = (sizes**2 / max(float((sizes**2).sum()), 1e-12)).tolist()
    return Plane(points, (shares[0], shares[1]))


@dataclass(frozen=True)
class Neighbour:
    """Another sentence, and the cosine of the angle between the two (of vectors about their common mean)."""

    row: int
    cosine: float


def neighbours(vectors: Float[np.ndarray, "sentences features"], count: int) -> list[list[Neighbour]]:
    """The nearest others of each sentence, nearest first."""
    centred = vectors - vectors.mean(0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(count, len(vectors) - 1)]
    return [[Neighbour(int(other), float(cosines[row, other])) for other in others] for row, others in enumerate(order)]


def same_set_share(found: Sequence[Sequence[Neighbour]], sets: Sequence[int]) -> float:
    """The share of sentences, of sets of more than one, whose nearest other is of the same set."""
    rows = [row for row in range(len(sets)) if sets.count(sets[row]) > 1]
    return sum(sets[found[row][0].row] == sets[row] for row in rows) / max(1, len(rows))


def draw_map(path: Path, given: SentenceSets, plane: Plane) -> None:
    """Draw the points, a colour for each set, with their sentences if they are few."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.add_subplot()
    for number in dict.fromkeys(given.sets):
        rows = [row for row, one in enumerate(given.sets) if one == number]
        axes.scatter(*plane.points[rows].T, color=f"C{number % 10}", marker="os^Dv<>P*X"[number // 10 % 10])
    if len(given.sentences) <= _MOST_LABELS:
        middle = plane.points[:, 0].mean()
        for sentence, number, (x, y) in zip(given.sentences, given.sets, plane.points, strict=True):
            right = x > middle
            axes.annotate(
                sentence, (x, y), (-6 if right else 6, 0), textcoords="offset points", va="center", fontsize=8,
                ha="right" if right else "left", color=f"C{number % 10}",
            )  # fmt: skip
    names = (f"principal component {i} ({share:.0%} of the variance)" for i, share in enumerate(plane.shares, 1))
    axes.set_xlabel(next(names))
    axes.set_ylabel(next(names))
    axes.margins(0.08)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({error}): give a name that ends in .png, .svg or .pdf") from error
