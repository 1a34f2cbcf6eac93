"""The scores that captioning papers report, as coco-caption computes them, without Java.

All are the fractions of coco-caption (Chen et al. 2015, "Microsoft COCO Captions: Data Collection and Evaluation
Server"): BLEU, ROUGE-L and METEOR from 0 to 1, CIDEr from 0 to 10. They are taken from raw captions on both sides,
which are tokenized by `captioning.coco_tokenizer`.

What is called CIDEr: Vedantam et al. (2015) define CIDEr (stemmed words) and CIDEr-D (no stemming, clipped counts,
length penalty). The class named Cider in coco-caption and pycocoevalcap, and so the figure that papers print as
CIDEr, computes CIDEr-D, line for line as the later ciderD code that self-critical training uses does. `cider` and
`cider_d` are therefore the same number here; both keys are there because both are asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from captioning.cider import CiderD
from captioning.coco_tokenizer import tokenize
from captioning.meteor import Corpus, MeteorError
from captioning.meteor import meteor as meteor_score
from nmt.rouge import rouge_l

_BETA = 1.2  # of ROUGE-L in coco-caption: how much more recall counts than precision
_CONFIDENCE = 95  # per cent of the resamples that an interval holds
_TOKENS = "lower-cased words as coco-caption's PTBTokenizer splits them, without punctuation"

_WITHOUT_JAVA = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider", "cider_d")

Words = Sequence[str]


@dataclass(frozen=True)
class CaptionScores:
    """Scores of one caption for each of `images` images; `computed` says for each key how it came about."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge_l: float
    cider: float
    cider_d: float
    meteor: float | None
    images: int
    computed: dict[str, str]


@dataclass(frozen=True)
class CiderComparison:
    """CIDEr of two systems on the same images.

    Args:
        score, other: Of the two.
        difference: score - other.
        low, high: Ends of the interval with 95 % of the differences of the resamples.
        p_value: How often resampling alone would give a difference so large; 1 for two equal scores.
        samples: How many resamples that rests on.
    """

    score: float
    other: float
    difference: float
    low: float
    high: float
    p_value: float
    samples: int


def score_captions(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, meteor: bool = True
) -> CaptionScores:
    """Score one caption for each image against that image's references, all of them raw text.

    Args:
        meteor: Start Java for METEOR, if it is there; it takes some seconds.

    Raises:
        ValueError: there is no image, an image has no reference, or the two are not equally many.
    """
    images = [[tokenize(text) for text in image] for image in references]
    corpus = [tokenize(text) for text in candidates], images
    scores = _score(*corpus)
    return _with_meteor(scores, [corpus]) if meteor else scores


def cider_by_image(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Float[np.ndarray, " images"]:
    """CIDEr of each image's caption, raw text; the mean is `score_captions(...).cider`. Errors as there."""
    _check(candidates, references)
    images = [[tokenize(text) for text in image] for image in references]
    return CiderD(images).scores([tokenize(text) for text in candidates], images)


def human_agreement(references: Sequence[Sequence[str]], *, meteor: bool = True) -> CaptionScores:
    """How well people agree: every reference in turn is scored against the others of its image (leave one out).

    Pass k takes the k-th reference of each image as its caption and the rest as its references; an image with fewer
    references begins again with its first. Each score is the mean over as many passes as the largest number of
    references. A model is usually scored against one reference more, which flatters it in BLEU and ROUGE-L.

    Raises:
        ValueError: there is no image, or one has fewer than two references.
    """
    images = [[tokenize(text) for text in image] for image in references]
    for row, image in enumerate(images):
        if len(image) < 2:
            raise ValueError(f"image {row} (counted from 0) has {len(image)} references: agreement needs two or more")
    passes: list[Corpus] = []
    for k in range(max(map(len, images), default=0)):
        chosen = [k % len(image) for image in images]
        rest = [[*image[:i], *image[i + 1 :]] for image, i in zip(images, chosen, strict=True)]
        passes.append(([image[i] for image, i in zip(images, chosen, strict=True)], rest))
    if not passes:
        raise ValueError("there are no captions to score")
    scores = [_score(*corpus) for corpus in passes]
    means: dict[str, Any] = {name: float(np.mean([getattr(one, name) for one in scores])) for name in _WITHOUT_JAVA}
    found = replace(scores[0], **means)
    if meteor:
        found = _with_meteor(found, passes)
    manner = f"mean of {len(passes)} passes, one reference against the others: "
    computed = {name: how if name == "words" else manner + how for name, how in found.computed.items()}
    return replace(found, computed=computed)


def compare(
    candidates: Sequence[str],
    other: Sequence[str],
    references: Sequence[Sequence[str]],
    samples: int = 1000,
    seed: int = 1,
) -> CiderComparison:
    """Paired bootstrap resampling (Koehn 2004) of the images for CIDEr of two systems, raw text.

    Document frequencies stay those of all images. The p-value is sacrebleu's, as for translations: the share of
    resamples, 1 added above and below, whose difference is as far from the resamples' mean as the real one from zero.

    Raises:
        ValueError: as `score_captions`.
    """
    scores, others = cider_by_image(candidates, references), cider_by_image(other, references)
    differences = scores - others
    generator = np.random.default_rng(seed)
    resampled = np.array(
        [differences[generator.integers(len(scores), size=len(scores))].mean() for _ in range(samples)]
    )
    difference = float(differences.mean())
    extreme = int((np.abs(resampled - resampled.mean()) >= abs(difference)).sum())
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return CiderComparison(
        score=float(scores.mean()),
        other=float(others.mean()),
        difference=difference,
        low=float(low),
        high=float(high),
        p_value=1.0 if difference == 0 else (extreme + 1) / (samples + 1),
        samples=samples,
    )


def _check(candidates: Sequence[object], references: Sequence[Sequence[object]]) -> None:
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} captions for {len(references)} images")
    if not references:
        raise ValueError("there are no captions to score")
    for row, image in enumerate(references):
        if not image:
            raise ValueError(f"image {row} (counted from 0) has no reference")


def _score(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> CaptionScores:
    """All but METEOR, of tokenized captions."""
    _check(candidates, references)
    bleu = _bleu(candidates, references)
    # to coco-caption no words are one empty word
    rouge = [
        rouge_l(candidate or [""], [reference or [""] for reference in image], _BETA)
        for candidate, image in zip(candidates, references, strict=True)
    ]
    cider = float(CiderD(references).scores(candidates, references).mean())
    cider_d = "CIDEr-D (sigma 6, times 10, document frequencies of these references)"
    computed = {
        "words": _TOKENS,
        **{f"bleu{n}": "corpus level, closest reference length, no smoothing (sacrebleu)" for n in range(1, 5)},
        "rouge_l": f"beta {_BETA}, mean over images",
        "cider": f"what coco-caption reports as CIDEr, which is {cider_d}",
        "cider_d": f"{cider_d}, the same as cider",
        "meteor": "skipped: not asked for",
    }
    return CaptionScores(
        bleu1=bleu[0],
        bleu2=bleu[1],
        bleu3=bleu[2],
        bleu4=bleu[3],
        rouge_l=float(np.mean(rouge)),
        cider=cider,
        cider_d=cider,
        meteor=None,
        images=len(candidates),
        computed=computed,
    )


def _bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """BLEU-1 to BLEU-4 (Papineni et al. 2002) by sacrebleu, whose counts and reference lengths are coco-caption's.

    Without a single match of some order, coco-caption gives a trace above zero; this gives zero.
    """
    from sacrebleu.metrics.bleu import BLEU  # slow to import, and training by perplexity has no use for it

    most = max(map(len, references))
    texts = [[" ".join(words) for words in image] for image in references]
    streams = [[image[k] if k < len(image) else None for image in texts] for k in range(most)]
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    found = metric.corpus_score([" ".join(words) for words in candidates], streams)  # type: ignore[arg-type]
    scores, product = [], 1.0
    for n, precision in enumerate(found.precisions, 1):
        product *= precision / 100
        scores.append(float(found.bp * product ** (1 / n)))
    return scores


def _with_meteor(scores: CaptionScores, corpora: Sequence[Corpus]) -> CaptionScores:
    """The scores with the mean METEOR of the corpora, or with the reason why there is none."""
    how = "METEOR 1.5 for English by its Java program, with pycocoevalcap's jar"
    found: float | None = None
    try:
        found = float(np.mean(meteor_score(corpora)))
    except MeteorError as error:
        how = f"skipped: {error}"
    if found is not None and not math.isfinite(found):
        found, how = None, f"skipped: the Java program gave {found}"
    return replace(scores, meteor=found, computed={**scores.computed, "meteor": how})
