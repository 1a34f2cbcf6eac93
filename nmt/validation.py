"""How good a model is on the validation part: perplexity, and scores of what it really decodes."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import sacrebleu
import torch

from data.batching import Plan, plan_in_order
from data.corpus import PreparedCorpus, RowCorpus
from data.errors import UserError
from data.text_files import read_lines
from nmt.checkpoint import TrainedModel
from nmt.metrics import exact_match
from nmt.model import SequenceModel
from nmt.rouge import RougeL
from nmt.search_options import SearchOptions


@dataclass(frozen=True)
class Validation:
    """Perplexity over all validation tokens, and scores by name, of which a better one is always larger."""

    perplexity: float
    scores: dict[str, float]

    def value(self, metric: str) -> float:
        """What to compare validations by, perplexity or one of the scores."""
        return -self.perplexity if metric == "perplexity" else self.scores[metric]

    def record(self) -> dict[str, float]:
        """All figures side by side, for logs."""
        return {"perplexity": self.perplexity, **self.scores}

    @classmethod
    def of_record(cls, record: dict[str, float]) -> "Validation":
        return cls(record["perplexity"], {name: value for name, value in record.items() if name != "perplexity"})


@runtime_checkable
class Validator(Protocol):
    """Scores the model as it stands; called by every process.

    metrics: the names of its scores beside perplexity
    """

    metrics: ClassVar[tuple[str, ...]]

    def __call__(self) -> Validation: ...


def reference_files(prepared: Path, split: str) -> list[Path]:
    """NAME.reference, NAME.reference1 ... of a prepared directory; raises UserError if there is none."""
    found = sorted(prepared.glob(f"{split}.reference*"), key=lambda path: (len(path.name), path.name))
    if not found:
        raise UserError(f"{prepared}: no {split}.reference here: prepare it again")
    return found


@torch.no_grad()
def perplexity(model: SequenceModel, plans: Iterable[Plan]) -> float:
    """Perplexity a target token over all batches; leaves the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    nll, tokens = 0.0, 0
    for plan in plans:
        batch = plan.collate(reverse_source=model.config.reverse_source).to(device)
        nll += model(batch).nll.item()
        tokens += plan.target_tokens
    return math.exp(min(nll / tokens, 100.0))


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
class TranslationValidator:
    """Scores a translator: `bleu` as sacrebleu gives it, the percentage of outputs that are `exact`ly one of their
    references, both lower-cased for a lower-casing model, and `rouge_l`.

    decode: the best outputs for what the references belong to
    """

    metrics: ClassVar[tuple[str, ...]] = ("bleu", "exact", "rouge_l")

    trained: TrainedModel
    corpus: PreparedCorpus | RowCorpus
    references: list[list[str]]
    decode: Callable[[SearchOptions], Sequence[str]]
    beam: int
    batch_tokens: int

    def __call__(self) -> Validation:
        found = perplexity(self.trained.model, plan_in_order(self.corpus.in_order(), batch_tokens=self.batch_tokens))
        hypotheses = self.decode(SearchOptions(beam=self.beam))
        lowercase, references = self.trained.target.lowercase, self.references
        bleu = sacrebleu.corpus_bleu(hypotheses, references, lowercase=lowercase)
        if lowercase:
            references = [[line.lower() for line in each] for each in references]
        exact = exact_match(hypotheses, references)
        rouge = float(RougeL(self.references).corpus_score(hypotheses, None).score)
        return Validation(found, {"bleu": float(bleu.score), "exact": exact, "rouge_l": rouge})
