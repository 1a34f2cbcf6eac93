"""The page of a captioning run: see nmt/report.py."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from captioning.captioned import Captioned, read_captioned
from captioning.coco_metrics import cider_by_image
from captioning.evaluation import METRICS, how_computed
from captioning.gallery import GalleryEntry, card
from captioning.recipe import CaptionRecipe
from data.errors import UserError
from data.tokenizer import Tokenizer
from nmt.metrics import rows_by_length
from nmt.page import chips, escaped, table
from nmt.report import (
    SAMPLES,
    configuration,
    counted,
    curves,
    data_figures,
    evaluated,
    read_json,
    unknown_tokens,
)

_ROWS = {"nearest_image": "nearest image", "wrong_image": "wrong image", "human": "a person"}


def caption_sections(run: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """The sections of a captioning run, for `nmt.report.write_report`."""
    found = CaptionedSplit(run)
    yield "Scores", found.scores
    yield "Curves", lambda: curves(run)
    yield "Best captions by CIDEr", lambda: found.cards(best=True)
    yield "Worst captions by CIDEr", lambda: found.cards(best=False)
    yield "Length", found.lengths
    yield "Unknown words", found.unknown
    yield "Data", lambda: data_figures(run / "data" / "text" / "report.json")
    yield "Configuration", lambda: configuration(run, asdict(CaptionRecipe()))


class CaptionedSplit:
    """The images that a run was evaluated on, with their captions, read when they are asked for."""

    def __init__(self, run: Path) -> None:
        self._run = run

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        return read_json(self._run / "evaluation.json")

    @cached_property
    def images(self) -> list[Captioned]:
        if "output" not in self.evaluation:
            raise UserError(f"{self._run}: evaluated by an earlier version: delete evaluation.json, and run it again")
        return read_captioned(self._run / self.evaluation["output"])

    @cached_property
    def cider(self) -> list[float]:
        scores = cider_by_image([one.caption for one in self.images], [one.references for one in self.images])
        return [float(one) for one in scores]

    def scores(self) -> str:
        found = self.evaluation
        rows = []
        for name, title in METRICS.items():
            values = [found.get(name), *((found.get(row) or {}).get(name) for row in _ROWS)]
            if name != "cider_d":  # which equals cider
                rows.append((title, *("-" if value is None else f"{value:.3f}" for value in values)))
        facts = {"images": f"{found['images']:,}", "distinct captions": f"{found['distinct']:,}",
                 "cut off": f"{found['unfinished']:,}"}  # fmt: skip
        if found["from_train"] is not None:
            facts["word for word in train"] = f"{found['from_train']:.0%}"
        how = "".join(f"<p>{escaped(line)}</p>" for line in how_computed(found["computed"]))
        return chips(facts) + table(("captions of", "model", *_ROWS.values()), rows) + how + evaluated(found)

    def cards(self, *, best: bool) -> str:
        order = sorted(range(len(self.cider)), key=lambda i: self.cider[i], reverse=best)
        entries = (
            GalleryEntry(self.images[i].path, self.images[i].caption, (), self.images[i].references,
                         {"CIDEr": self.cider[i]}, name=self.images[i].name)
            for i in order[:SAMPLES]
        )  # fmt: skip
        return f'<div class="cards">{"".join(map(card, entries))}</div>'

    def lengths(self) -> str:
        rows = []
        for words, places in rows_by_length([one.caption for one in self.images]).items():
            if places:
                cider = sum(self.cider[i] for i in places) / len(places)
                wanted = [len(text.split()) for i in places for text in self.images[i].references]
                rows.append((words, f"{len(places):,}", f"{cider:.3f}", f"{sum(wanted) / len(wanted):.1f}"))
        return table(("words of the caption", "images", "mean CIDEr", "words of its references"), rows)

    def unknown(self) -> str:
        target = Tokenizer.load(self._run / "model" / "target.model")
        texts = [text for image in self.images for text in image.references]
        lacking = Counter(token for text in texts for token in unknown_tokens(target, text))
        tokens = sum(len(target.encode(text)) for text in texts)
        share = {"of the references' words, unknown to the model": f"{lacking.total() / max(1, tokens):.2%}"}
        return f"{chips(share)}<h3>Most frequent that cannot be written</h3>{counted(lacking)}"
