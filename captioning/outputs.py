"""Captions as text, JSON, JSON lines, CSV or a text file per image, each batch as soon as it is there.

Every image that was given has its place in the output, in order, also if it could not be captioned.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from captioning.inputs import ImageInput
from data.errors import UserError
from nmt.page import printable


@runtime_checkable
class Hypothesis(Protocol):
    """What is written about one caption of an image."""

    @property
    def text(self) -> str:
        """The caption, on one line."""

    @property
    def log_prob(self) -> float:
        """Natural logarithm of the probability that the model gives to it."""

    @property
    def score(self) -> float:
        """What captions of an image are ranked by."""


@runtime_checkable
class Result(Protocol):
    """What a captioner gives for an image."""

    @property
    def hypotheses(self) -> Sequence[Hypothesis]:
        """Its captions, best first; none where there is an error."""

    @property
    def error(self) -> str | None:
        """Why it could not be read."""


@dataclass(frozen=True)
class Captioned:
    """An image and what became of it.

    Args:
        image: What was given.
        hypotheses: Its captions, best first; none if it has none.
        error: Why it has none, in a few words.
    """

    image: ImageInput
    hypotheses: Sequence[Hypothesis]
    error: str | None = None

    @property
    def caption(self) -> str | None:
        return self.hypotheses[0].text if self.hypotheses else None


Batches: TypeAlias = Iterable[Sequence[Captioned]]


def caption_batches(
    caption: Callable[[list[Path], int], Sequence[Result]], batches: Iterable[Sequence[ImageInput]]
) -> Iterator[list[Captioned]]:
    """Each batch with its captions.

    Args:
        caption: Given paths and how many came before them, captions each. It is not asked about inputs with an error.
        batches: The images.
    """
    number = 0
    for batch in batches:
        readable = [image.path for image in batch if image.error is None]
        results = caption(readable, number) if readable else []
        number += len(readable)
        found = dict(zip((i for i, image in enumerate(batch) if image.error is None), results, strict=True))
        yield [
            Captioned(image, found[i].hypotheses, found[i].error) if i in found else Captioned(image, [], image.error)
            for i, image in enumerate(batch)
        ]


def text_lines(batches: Batches, n_best: int = 1) -> Iterator[str]:
    r"""Lines of name, tab, caption; if several captions are asked for, of name, rank, score, log-probability, caption.

    In a name, a tab, a line feed, a carriage return and a backslash are written as \t, \n, \r and \\. An image without
    caption has one line all the same.
    """
    for batch in batches:
        rows = []
        for one in batch:
            name = _tab_separated(one.image.name)
            if n_best == 1:
                rows.append(f"{name}\t{one.caption or ''}")
                continue
            rows += [
                f"{name}\t{rank}\t{hypothesis.score:.4f}\t{hypothesis.log_prob:.4f}\t{hypothesis.text}"
                for rank, hypothesis in enumerate(one.hypotheses, 1)
            ] or [f"{name}\t1\t\t\t"]
        yield "".join(f"{row}\n" for row in rows)


def json_lines(batches: Batches) -> Iterator[str]:
    """An object a line: see `record`."""
    for batch in batches:
        yield "".join(f"{record(one)}\n" for one in batch)


def json_array(batches: Batches) -> Iterator[str]:
    """The same objects as one array."""
    before = "[\n"
    for batch in batches:
        if batch:
            yield before + ",\n".join(map(record, batch))
            before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def record(one: Captioned) -> str:
    r"""{"image", "caption", "captions": [{"text", "log_prob", "score"}], "error"} on one line.

    "caption" is null where there is none, "error" where there is one. Bytes of a name that are no UTF-8 are written
    as "\udcff" for the byte ff, which Python's `json` and `os.fsencode` turn back into the name.
    """
    hypotheses = [{"text": h.text, "log_prob": h.log_prob, "score": h.score} for h in one.hypotheses]
    value = {"image": one.image.name, "caption": one.caption, "captions": hypotheses, "error": one.error}
    text = json.dumps(value, ensure_ascii=False)
    # beside those bytes, what some readers take for the end of a line
    return re.sub("[\x85\u2028\u2029\ud800-\udfff]", lambda one: f"\\u{ord(one[0]):04x}", text)


def csv_rows(batches: Batches) -> Iterator[str]:
    """A header, and a row for each caption, and for each image without one."""
    yield "image,rank,caption,log_prob,score,error\n"
    for batch in batches:
        buffer = io.StringIO(newline="")
        # text is always quoted: the writer would otherwise leave a bare carriage return, which readers take for a row
        writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        for one in batch:
            name, error = one.image.name, one.error or ""
            writer.writerows(
                [name, rank, h.text, h.log_prob, h.score, error] for rank, h in enumerate(one.hypotheses, 1)
            )
            if not one.hypotheses:
                writer.writerow([name, "", "", "", "", error])
        yield buffer.getvalue()


class TextFiles:
    """A text file for each image, beside it or in a folder: one caption a line."""

    def __init__(self, folder: Path | None = None, *, overwrite: bool = False) -> None:
        """Plan where captions go.

        Args:
            folder: Where to, in folders as the images were found in; by default beside each image.
            overwrite: Whether files that are there already are replaced.
        """
        self._folder = folder
        self._overwrite = overwrite
        self._taken: dict[Path, str] = {}

    def place(self, image: ImageInput) -> Path:
        """Where the captions of an image go: its name with .txt in place of its suffix."""
        return (self._folder / image.inside if self._folder else image.path).with_suffix(".txt")

    def reserve(self, image: ImageInput) -> ImageInput:
        """The image, with an error if the place of its captions is taken: asked before it is captioned."""
        if image.error:
            return image
        place = self.place(image)
        if place in self._taken:
            reason = f"its captions would replace those of {printable(self._taken[place])}: give them different names"
        elif place == image.path:
            reason = "its captions would replace it: give it another name"
        elif not self._overwrite and os.path.lexists(place):
            reason = f"{printable(str(place))} exists already: allow it to be replaced with --overwrite"
        else:
            self._taken[place] = image.name
            return image
        return replace(image, error=reason)

    def write(self, batch: Sequence[Captioned]) -> None:
        """Write the captions of images that have some; raises UserError if a file cannot be written."""
        for one in batch:
            if one.hypotheses:
                place = self.place(one.image)
                try:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_text("".join(f"{h.text}\n" for h in one.hypotheses), encoding="utf-8")
                except OSError as error:
                    name = printable(str(place))
                    raise UserError(f"{name}: cannot be written ({error.strerror or error})") from error


_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _tab_separated(name: str) -> str:
    return name.translate(_ESCAPES)


# what turns batches into text, by the option that asks for it
FORMATS: dict[str, Callable[[Batches], Iterator[str]]] = {"json": json_array, "jsonl": json_lines, "csv": csv_rows}
