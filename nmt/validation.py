"""How good a model is on the validation text: perplexity, and BLEU of what it really decodes."""

import math
from dataclasses import dataclass
from pathlib import Path

import sacrebleu
import torch

from data.batching import plan_in_order
from data.corpus import PreparedCorpus
from data.errors import UserError
from data.readers import read_lines
from nmt.checkpoint import TranslationModel
from nmt.search import SearchOptions
from nmt.translator import Translator


def reference_files(prepared: Path, split: str) -> list[Path]:
    """NAME.reference, NAME.reference1 ... of a prepared directory; raises UserError if there is none."""
    found = sorted(prepared.glob(f"{split}.reference*"), key=lambda path: (len(path.name), path.name))
    if not found:
        raise UserError(f"{prepared}: no {split}.reference here: prepare it again")
    return found


@dataclass(frozen=True)
class ValidationText:
    """Untouched sentences and their references; a sentence that has fewer than others repeats its first."""

    sources: list[str]
    references: list[list[str]]

    @classmethod
    def read(cls, prepared: Path, limit: int) -> "ValidationText":
        """The first `limit` sentences of a prepared directory's validation text."""
        sources = list(read_lines(prepared / "valid.source"))[:limit]
        references = [list(read_lines(path))[:limit] for path in reference_files(prepared, "valid")]
        return cls(sources, references)


@dataclass(frozen=True)
class Validation:
    """Perplexity over all validation tokens; BLEU as sacrebleu gives it, lower-cased for a lower-casing model."""

    perplexity: float
    bleu: float


def validate(
    trained: TranslationModel,
    corpus: PreparedCorpus,
    text: ValidationText,
    *,
    beam: int,
    batch_tokens: int,
    lowercase: bool,
) -> Validation:
    """Score a model on the validation pairs; leaves it in evaluation mode."""
    model = trained.model
    model.eval()
    device = next(model.parameters()).device
    nll = torch.zeros((), dtype=torch.float64, device=device)
    tokens = 0
    with torch.no_grad():
        for plan in plan_in_order(corpus.in_order(), batch_tokens=batch_tokens):
            batch = plan.collate(reverse_source=model.config.reverse_source).to(device)
            nll += model(batch).nll
            tokens += plan.target_tokens
    options = SearchOptions(beam=beam)
    hypotheses = [one.text for one in Translator([trained]).translate(text.sources, options)]
    bleu = sacrebleu.corpus_bleu(hypotheses, text.references, lowercase=lowercase)
    return Validation(math.exp(min(nll.item() / tokens, 100.0)), float(bleu.score))
