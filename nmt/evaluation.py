"""How good a system's translations are: their scores, and what explains them.

What the scores mean, and why blank lines in reference files matter, is said in nmt/metrics.py.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from data.batching import plan_in_order
from data.dialogues import clip
from data.errors import UserError
from data.pool import Pool
from data.source import Ragged
from data.text_files import fingerprint
from data.tokenizer import UNK_ID, UNKNOWN_TEXT
from nmt.checkpoint import TrainedModel, load_model, versions
from nmt.frame_translator import FrameTranslator
from nmt.metrics import (
    Bucket,
    Difference,
    Score,
    compare_systems,
    exact_match,
    make_metrics,
    score_by_length,
    score_lines,
)
from nmt.search_options import SearchOptions
from nmt.translation_options import TranslationOptions
from nmt.translator import Translator
from nmt.validation import perplexity

_MOST_UNKNOWN = 0.5  # share of the source's tokens
_ABOUT_BOOTSTRAP = (
    "Paired bootstrap; ± holds 95 % of the resampled test sets. With a p-value under 0.05 a difference is commonly "
    "taken to be more than an accident of which sentences are in the test set."
)


@dataclass(frozen=True)
class Decoding:
    """What is known about translations that a model has just made.

    Args:
        source_unknown_rate: Share of the source's tokens that the model does not know, 0 to 1; None of what is no text.
        output_unknown_rate: The same for the tokens it wrote.
        unfinished: Translations cut off at the length limit.
        seconds: Wall-clock time, without loading the model.
        replaced_unknown: How many unknown tokens of the output have words of the source in their place; None if they
            were not to be replaced.
    """

    source_unknown_rate: float | None
    output_unknown_rate: float
    unfinished: int
    seconds: float
    replaced_unknown: int | None = None


@dataclass(frozen=True)
class SystemOutput:
    """Translations as `translate` writes them, a line for each; `lowercase` if they come from a model that lower-cases.

    perplexity: What the references have a token under that model; None where no single model is known.
    """

    lines: list[str]
    lowercase: bool = False
    decoding: Decoding | None = None
    perplexity: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """All figures of one system.

    Args:
        scores: bleu, chrf and ter as the sacrebleu command gives them by default, which is cased but for TER; and
            each with _lowercase. TER counts case only in ter_cased. rouge_l is lower-cased.
        blank_references: Blank lines in the second and later reference files.
        without_blanks: `scores` with those left out instead of counted as translations; None if there are none.
        exact: Percentage of the output lines that are one of their references, lower-cased if the model lower-cases.
        length_ratio: Words of the output for each word of the closest references, as BLEU counts both.
        perplexity: Of the references under the model, a token of its vocabulary.
        buckets: BLEU by source length, lower-cased if the model lower-cases.
        compare: The same metrics against another system's.
    """

    scores: dict[str, Score]
    blank_references: int
    without_blanks: dict[str, Score] | None
    exact: float
    length_ratio: float
    perplexity: float | None
    buckets: list[Bucket]
    sentences: int
    distinct: int
    empty: int
    lowercase: bool
    decoding: Decoding | None
    compare: dict[str, Difference] | None


def check_line_counts(texts: Mapping[Path, Sequence[str]]) -> None:
    """Raises UserError naming files and counts if not all have as many lines as the first."""
    first, *rest = texts
    for path in rest:
        if len(texts[path]) != len(texts[first]):
            raise UserError(
                f"{first} has {len(texts[first])} lines but {path} has {len(texts[path])}: each line of one must "
                "belong to the same line of the other"
            )


@dataclass(frozen=True)
class System:
    """A model, or several that translate together; `source_unknown_rate` is theirs on the text to translate, 0 to 1,
    and None where they read frames.

    model: The only one, if there is one only.
    """

    translator: Translator | FrameTranslator
    lowercase: bool
    source_unknown_rate: float | None
    model: TrainedModel | None = None

    @classmethod
    def load(cls, folders: Sequence[Path], lines: Sequence[str], source: Path) -> "System":
        """Read model directories and look at the text they are to translate; `source` is its name.

        Raises:
            UserError: a directory is no model, is damaged or does not fit the others; or the models do not know more
                than half of the text's tokens, so that scores would say nothing about them.
        """
        models = [load_model(folder) for folder in folders]
        tokenizer = models[0].source
        assert tokenizer is not None  # load_model refuses what reads no text
        ids = [tokenizer.encode(line) for line in lines]
        rate = sum(each.count(UNK_ID) for each in ids) / max(1, sum(map(len, ids)))
        if rate > _MOST_UNKNOWN:
            raise UserError(
                f"{source}: {folders[0]} does not know {rate:.0%} of the tokens: it was probably trained on another "
                "language or casing; check that source and reference are not swapped"
            )
        translator = Translator(models, [str(folder) for folder in folders])
        return cls(translator, models[0].target.lowercase, rate, models[0] if len(models) == 1 else None)

    def translate(
        self, lines: Sequence[Any], options: SearchOptions, references: Sequence[Sequence[str]] = ()
    ) -> SystemOutput:
        """The best translation of each line, or sequence of frames, and how likely the `references` (a list for each
        file) are instead."""
        started = time.perf_counter()
        found = self.translator.translate(lines, options)
        seconds = time.perf_counter() - started
        best = [translation.hypotheses[0] for translation in found]
        tokens = [token for hypothesis in best for token in hypothesis.tokens]
        unknown = tokens.count(UNKNOWN_TEXT) / max(1, len(tokens))
        unfinished = sum(not hypothesis.finished for hypothesis in best)
        asked = TranslationOptions.of(options).replace_unknown
        replaced = sum(hypothesis.replaced for hypothesis in best) if asked else None
        decoding = Decoding(self.source_unknown_rate, unknown, unfinished, seconds, replaced)
        expected = reference_perplexity(self.model, lines, references) if self.model else None
        return SystemOutput([translation.text.rstrip() for translation in found], self.lowercase, decoding, expected)


def reference_perplexity(
    trained: TrainedModel, sources: Sequence[str], references: Sequence[Sequence[str]]
) -> float | None:
    """Perplexity a target token over every source with each of its different references; None if there are none.

    Blank sides are left out and long ones cut at the model's `max_length`, as in training.
    """
    rows = dict.fromkeys(row for stream in references for row in enumerate(zip(sources, stream, strict=True)))
    most, end = trained.max_length, trained.history > 0
    source, target = trained.source, trained.target
    assert source is not None  # load_model refuses what reads no text
    ids = [(clip(source.encode(one), most, end=end), target.encode(two)[:most]) for _, (one, two) in rows]
    kept = [pair for pair in ids if all(pair)]
    if not kept:
        return None
    pool = Pool(Ragged.of([one for one, _ in kept]), Ragged.of([two for _, two in kept]), np.arange(len(kept)))
    return perplexity(trained.model, plan_in_order([pool], batch_tokens=2048))


def evaluate(
    system: SystemOutput,
    sources: Sequence[str] | None,
    references: Sequence[Sequence[str]],
    *,
    other: SystemOutput | None = None,
) -> Evaluation:
    """Score a system, and test its difference from another if one is given.

    Args:
        sources: The raw source, for the lengths only; None if it is no text.
        references: The lines of each reference file, in sacrebleu's terms; see nmt/metrics.py for blank ones.
    """
    metrics = make_metrics(references)
    first, *more = references
    blanks = sum(not line for stream in more for line in stream)
    without = make_metrics([first, *([line or None for line in stream] for stream in more)]) if blanks else None
    lowercase = system.lowercase or (other is not None and other.lowercase)
    # words that were copied from the source are cased even so
    written, *expected = _lower([system.lines, *references]) if system.lowercase else [system.lines, *references]
    return Evaluation(
        scores=score_lines(system.lines, metrics),
        blank_references=blanks,
        without_blanks=score_lines(system.lines, without) if without else None,
        exact=exact_match(written, expected),
        length_ratio=float(metrics["bleu"].corpus_score(system.lines, None).ratio),
        perplexity=system.perplexity,
        buckets=score_by_length(system.lines, sources, references, lowercase=system.lowercase) if sources else [],
        sentences=len(system.lines),
        distinct=len(set(system.lines)),
        empty=sum(not line for line in system.lines),
        lowercase=system.lowercase,
        decoding=system.decoding,
        compare=compare_systems(system.lines, other.lines, metrics, lowercase=lowercase) if other else None,
    )


def _lower(references: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[line.lower() for line in each] for each in references]


def format_json(evaluation: Evaluation, provenance: Mapping[str, Any]) -> str:
    """The evaluation as strict JSON: scores at the top, `provenance` (files, seeds, versions) at the end."""
    fields = asdict(evaluation)
    scores, decoding = fields.pop("scores"), evaluation.decoding
    if decoding:
        fields["decoding"]["sentences_per_second"] = evaluation.sentences / decoding.seconds
    return json.dumps({**scores, **fields, **provenance}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def describe(files: Mapping[str, Path], folders: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Where figures come from: versions, and what identifies text files and model directories."""
    return {
        "data": {name: {"path": str(path), "sha256": fingerprint(path)} for name, path in files.items()},
        **{name: [_describe_model(path) for path in paths] for name, paths in folders.items()},
        "versions": versions(),
    }


def _describe_model(folder: Path) -> dict[str, Any]:
    """The SHA-256 of the manifest stands for all files of a model directory; the seed is None if none is recorded."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    seed = config.get("training", {}).get("seed")
    return {"path": str(folder), "manifest_sha256": fingerprint(folder / "MANIFEST"), "training_seed": seed}


def render(found: Evaluation, compared: str = "another system") -> RenderableType:
    """The evaluation as tables for a terminal; `compared` names the other system."""
    signatures = {name: score.signature for name, score in found.scores.items() if name != "ter_lowercase"}
    width = max(map(len, signatures))
    parts: list[RenderableType] = [_scores_table(found), ""]
    parts += [Text(f"{name:{width}}  {signature}", style="dim") for name, signature in signatures.items()]
    parts += ["", _length_table(found), ""] if found.buckets else [""]
    if found.compare:
        parts += [_compare_table(found.compare, compared), _ABOUT_BOOTSTRAP, ""]
    return Group(*parts, *(Text(remark) for remark in _remarks(found)))


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    return table


def _scores_table(found: Evaluation) -> Table:
    pairs = {"BLEU": ("bleu", "bleu_lowercase"), "chrF": ("chrf", "chrf_lowercase"), "TER": ("ter_cased", "ter")}
    columns = ["metric", "cased", "lower-cased"]
    rest = found.without_blanks
    if rest:
        columns += ["cased, no blanks", "lower-cased, no blanks"]
    table = _table(f"Scores of {found.sentences:,} sentences", columns)
    table.caption = "BLEU, chrF and ROUGE-L: higher is better; TER: lower is better"
    for label, pair in pairs.items():
        scores = [found.scores[name] for name in pair] + [rest[name] for name in pair if rest]
        table.add_row(label, *(f"{score.score:.2f}" for score in scores))
    rouge = [each["rouge_l"].score for each in (found.scores, rest) if each]
    table.add_row("ROUGE-L", *(cell for score in rouge for cell in ("-", f"{score:.2f}")))
    return table


def _length_table(found: Evaluation) -> Table:
    case = "lower-cased" if found.lowercase else "cased"
    table = _table("By source length", ("words", "sentences", f"BLEU, {case}"))
    for bucket in found.buckets:
        table.add_row(bucket.words, f"{bucket.sentences:,}", "-" if bucket.bleu is None else f"{bucket.bleu:.2f}")
    return table


def _compare_table(compare: Mapping[str, Difference], compared: str) -> Table:
    table = _table(f"Compared with {compared}", ("metric", "this", "other", "this - other", "p-value"))
    for name, row in compare.items():
        scores = (f"{row.score:.2f} ± {row.interval:.2f}", f"{row.other:.2f} ± {row.other_interval:.2f}")
        table.add_row(name, *scores, f"{row.difference:+.2f}", f"{row.p_value:.4f}")
    return table


def _remarks(found: Evaluation) -> list[str]:
    remarks = [
        f"{found.exact:.2f} % are exactly a reference; {found.distinct:,} distinct outputs, {found.empty:,} empty; "
        f"{found.length_ratio:.3f} words written for each word of the closest reference"
    ]
    if found.perplexity is not None:
        remarks.append(f"perplexity of the references: {found.perplexity:.2f} a token of the model's vocabulary")
    if how := found.decoding:
        rate = how.source_unknown_rate
        of_source = "" if rate is None else f"{rate:.2%} of the source, "
        copied = how.replaced_unknown
        replaced = "" if copied is None else f" ({copied:,} of them replaced by words of the source)"
        remarks.append(
            f"unknown tokens: {of_source}{how.output_unknown_rate:.2%} of the output{replaced}; {how.unfinished:,} "
            "translations cut off at the length limit"
        )
        remarks.append(f"{found.sentences / how.seconds:,.1f} sentences per second ({how.seconds:.1f} s)")
    if found.lowercase:
        remarks.append("The model writes lower case only, so its cased scores count every capital letter as an error.")
    if found.blank_references:
        remarks.append(
            f"{found.blank_references:,} blank lines in the second and later reference files: sacrebleu counts them as "
            'translations of no words, which distorts TER most; "no blanks" leaves them out.'
        )
    return remarks
