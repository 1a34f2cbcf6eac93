"""How good a captioner is on the validation images: perplexity, and coco-caption scores of really decoded captions."""

from dataclasses import dataclass
from typing import ClassVar

from captioning.coco_metrics import score_captions
from captioning.corpus import SplitImage
from captioning.decoding import caption_features
from data.batching import plan_in_order
from data.corpus import RowCorpus
from data.source import Column
from nmt.checkpoint import TrainedModel
from nmt.search_options import SearchOptions
from nmt.validation import Validation, perplexity


@dataclass(frozen=True)
class CaptionValidator:
    """Scores a captioner; `images` are decoded, read as `column` says."""

    metrics: ClassVar[tuple[str, ...]] = ("cider", "bleu4")

    trained: TrainedModel
    corpus: RowCorpus
    images: list[SplitImage]
    column: Column
    beam: int
    batch_tokens: int

    def __call__(self) -> Validation:
        plans = plan_in_order(self.corpus.in_order(), batch_tokens=self.batch_tokens)
        found = perplexity(self.trained.model, plans)
        captions = caption_features([self.trained], [self.column], SearchOptions(beam=self.beam))
        scores = score_captions(
            [each[0].text for each in captions], [image.captions for image in self.images], meteor=False
        )
        return Validation(found, {"cider": scores.cider, "bleu4": scores.bleu4})
