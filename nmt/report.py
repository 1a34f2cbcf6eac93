"""A run as one page: scores, curves, outputs good and bad, what depends on length and unknown words, data, settings."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from sacrebleu.metrics.chrf import CHRF

from data.errors import UserError
from data.prepare_frames import read_sequences
from data.text_files import read_lines
from data.tokenizer import UNK_ID, Tokenizer
from nmt.config import flat
from nmt.frame_recipe import FrameRecipe
from nmt.metrics import exact_match, read_scored_text, rows_by_length, score_by_length
from nmt.page import Page, chips, data_uri, escaped, table
from nmt.translation_recipe import TranslationRecipe
from nmt.validation import reference_files

SAMPLES = 6  # of each kind
_UNKNOWN_WORDS = 12

# What a section of the page is called, and what makes its HTML or raises UserError where the run lacks something.
Sections: TypeAlias = Iterable[tuple[str, Callable[[], str]]]


@dataclass(frozen=True)
class Line:
    """A test sentence; `chrf` is that of its output alone, `unknown` the tokens of its source that the model lacks."""

    source: str
    output: str
    references: list[str]
    chrf: float
    unknown: list[str]


def write_report(run: Path, out: Path, sections: Sections, *, style: str = "", overwrite: bool = False) -> list[str]:
    """Write the page of a run; returns what that lacks, a line each: it may be going on, or of an earlier version.

    Raises:
        UserError: There is no run, or `out` is taken or cannot be written.
    """
    if not any((run / name).exists() for name in ("recipe.yaml", "metrics.jsonl", "model")):
        raise UserError(f"{run}: no run here: give the directory that training wrote to")
    missing = []
    with Page(out, title=f"Run {run.resolve().name}", note=str(run), style=style + _STYLE, overwrite=overwrite) as page:
        for title, make in sections:
            try:
                body = make()
            except (UserError, KeyError) as error:
                why = f"there is no {error} in its figures" if isinstance(error, KeyError) else str(error)
                missing.append(f"{title}: {why}")
                body = f"<p>Not in this run: {escaped(why)}</p>"
            page.write(f"<section><h2>{escaped(title)}</h2>{body}</section>\n")
    return missing


def read_settings(run: Path) -> dict[str, Any]:
    """What shaped a run: its recipe or, of a training without one, the configuration of its model."""
    for name in ("recipe.yaml", "model/config.yaml"):
        if (run / name).is_file():
            settings: dict[str, Any] = yaml.safe_load((run / name).read_text(encoding="utf-8"))
            return settings
    raise UserError(f"{run}: neither recipe.yaml nor model/config.yaml is there")


def read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return found


def frame_sections(run: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """The sections of a run whose sources are frames."""
    test = TestFrames(run)
    yield "Scores", test.scores
    yield "Curves", lambda: curves(run)
    yield "Outputs", test.samples
    yield "Data", lambda: data_figures(run / "data" / "report.json")
    yield "Configuration", lambda: configuration(run, asdict(FrameRecipe()))


def translation_sections(run: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """The sections of a translation run or a generated task."""
    test = TestText(run)
    yield "Scores", test.scores
    yield "Curves", lambda: curves(run)
    yield "Outputs", test.samples
    yield "Length", test.lengths
    yield "Unknown words", test.unknown
    yield "Data", lambda: data_figures(run / "data" / "report.json")
    yield "Configuration", lambda: configuration(run, asdict(TranslationRecipe()))


@dataclass(frozen=True)
class _TestFiles:
    source: Path
    references: list[Path]
    output: Path


class TestText:
    """The test text of a run with what the model made of it, read when it is asked for."""

    __test__ = False  # no test, whatever its name

    def __init__(self, run: Path) -> None:
        self._run = run

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        return read_json(self._run / "evaluation.json")

    @cached_property
    def files(self) -> "_TestFiles":
        """Where a recipe puts them; otherwise where evaluation.json says that they were."""
        data, output = self._run / "data", self._run / "test.translations.txt"
        if output.exists():
            return _TestFiles(data / "test.source", reference_files(data, "test"), output)
        noted = {name: Path(file["path"]) for name, file in self.evaluation["data"].items()}
        references = [path for name, path in noted.items() if name.startswith("reference")]
        return _TestFiles(noted["source"], references, noted["output"])

    def sources(self) -> list[str]:
        return list(read_lines(self.files.source))

    def unknown_of(self, source: str) -> list[str]:
        """The tokens of a source that the model lacks."""
        return unknown_tokens(self._tokenizer, source)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self._run / "model" / "source.model")

    @cached_property
    def streams(self) -> list[list[str]]:
        """The references, as many lists as there are files."""
        return [read_scored_text(path) for path in self.files.references]

    @cached_property
    def lines(self) -> list[Line]:
        sources, outputs, streams = self.sources(), read_scored_text(self.files.output), self.streams
        chrf = CHRF(lowercase=bool(self.evaluation.get("lowercase")))
        if len({len(sources), len(outputs), *map(len, streams)}) > 1:
            raise UserError(f"{self._run}: test sources, outputs and references differ in their number of lines")
        lines = []
        for source, output, *references in zip(sources, outputs, *streams, strict=True):
            known = [references[0], *filter(None, references[1:])]
            score = float(chrf.sentence_score(output, known).score)
            lines.append(Line(source, output, known, score, self.unknown_of(source)))
        return lines

    def scores(self) -> str:
        found = self.evaluation
        scores = {name: one for name, one in found.items() if isinstance(one, dict) and "signature" in one}
        rows = [(name, f"{one['score']:.2f}", one["signature"]) for name, one in scores.items()]
        facts = {name: f"{found[name]:,}" for name in ("sentences", "distinct", "empty")}
        facts["words written / expected"] = f"{found['length_ratio']:.3f}"
        if "exact" in found:
            facts["exactly a reference"] = f"{found['exact']:.2f} %"
        return chips(facts) + table(("metric", "score", "signature"), rows) + evaluated(found)

    def samples(self) -> str:
        ranked = sorted(self.lines, key=lambda line: (-line.chrf, -len(line.source)))
        middle = max(0, len(ranked) // 2 - SAMPLES // 2)
        wrong = [line for line in reversed(ranked[SAMPLES:]) if line.chrf < 100][:SAMPLES]
        groups = {"Best": ranked[:SAMPLES], "Middle": ranked[middle : middle + SAMPLES], "Worst": wrong}
        return "<p>By chrF of the sentence.</p>" + groups_html(
            {name: "".join(map(_sample, lines)) or "<p>None falls short of its reference.</p>"
             for name, lines in groups.items()}
        )  # fmt: skip

    def lengths(self) -> str:
        lines, lowercase = self.lines, bool(self.evaluation.get("lowercase"))
        sources, outputs = [line.source for line in lines], [line.output for line in lines]
        streams = self.streams
        fold = str.lower if lowercase else str
        rows = []
        buckets = score_by_length(outputs, sources, streams, lowercase=lowercase)
        for bucket, places in zip(buckets, rows_by_length(sources).values(), strict=True):
            if bucket.bleu is None:
                continue
            chosen = [lines[i] for i in places]
            written, wanted = (sum(map(_words, texts)) for texts in
                               ([line.output for line in chosen], [line.references[0] for line in chosen]))  # fmt: skip
            exact = exact_match([fold(outputs[i]) for i in places], [[fold(one[i]) for i in places] for one in streams])
            rows.append((bucket.words, f"{bucket.sentences:,}", f"{bucket.bleu:.2f}", f"{mean_chrf(chosen):.2f}",
                         f"{exact:.1f} %", f"{written / max(1, wanted):.3f}"))  # fmt: skip
        head = ("words of the source", "sentences", "BLEU", "mean chrF", "exact", "words written / expected")
        return table(head, rows)

    def unknown(self) -> str:
        lines = self.lines
        target = Tokenizer.load(self._run / "model" / "target.model")
        lacking = Counter(token for line in lines for token in unknown_tokens(target, line.references[0]))
        met = Counter(token for line in lines for token in line.unknown)
        decoding = self.evaluation.get("decoding") or {}
        facts = {name.replace("_", " "): f"{decoding[name]:.2%}"
                 for name in ("source_unknown_rate", "output_unknown_rate") if name in decoding}  # fmt: skip
        with_, without = [line for line in lines if line.unknown], [line for line in lines if not line.unknown]
        for name, some in (("with unknown words", with_), ("without", without)):
            if some:
                facts[f"chrF of the {len(some):,} {name}"] = f"{mean_chrf(some):.2f}"
        return chips(facts) + groups_html(
            {
                "Most frequent unknown in the sources": counted(met),
                "Most frequent that cannot be written": counted(lacking),
            }
        )


class TestFrames(TestText):
    """The test sequences of frames; what is told of a source is how long it is."""

    def sources(self) -> list[str]:
        return [f"{len(frames):,} frames" for frames in read_sequences(self._run / "data", "test")]

    def unknown_of(self, source: str) -> list[str]:
        return []


def unknown_tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a raw text that are not in the vocabulary, as they stand in it."""
    segmented = tokenizer.segment(text)
    ids = tokenizer.encode_segmented([segmented])[0]
    return [token for token, i in zip(tokenizer.surface(segmented), ids, strict=True) if i == UNK_ID]


def curves(run: Path) -> str:
    try:
        picture = data_uri("png", (run / "curves.png").read_bytes())
    except OSError as error:
        raise UserError(f"{run / 'curves.png'}: cannot be read ({error.strerror})") from error
    return f'<img class="curves" src="{picture}" alt="curves of training and validation">'


def data_figures(path: Path) -> str:
    """What the prepare stage found: all its numbers, a column for each split."""
    report = read_json(path)
    splits = {name: flat(figures) for name, figures in report.pop("splits").items()}
    keys = dict.fromkeys(key for figures in splits.values() for key, value in figures.items() if _is_number(value))
    rows = [(_title(key), *(_figure(figures.get(key)) for figures in splits.values())) for key in keys]
    rest = {_title(key): _figure(value) for key, value in flat(report).items() if _is_number(value)}
    notes = "".join(f"<p>{escaped(note)}</p>" for note in report.get("notes", []))
    about = "<p>lengths 95: so many tokens, at most, do 95 percent of the sentences have.</p>"
    return chips(rest) + table(("", *splits), rows) + about + notes


def configuration(run: Path, defaults: Mapping[str, Any]) -> str:
    """What differs from the defaults of a recipe, and everything."""
    settings = read_settings(run)
    known, given = flat(dict(defaults)), flat(settings)
    rows = [(key, str(value), str(known[key])) for key, value in given.items() if key in known and known[key] != value]
    return table(("differs from the defaults", "value", "default"), rows) + _details("All settings", settings)


def evaluated(found: Mapping[str, Any]) -> str:
    """How figures came about, as far as evaluation.json says it."""
    names = ("split", "search", "decoding", "seeds", "data", "models", "model", "versions")
    return _details("Search, seeds, files and versions", {name: found[name] for name in names if found.get(name)})


def groups_html(groups: Mapping[str, str]) -> str:
    """Columns side by side where there is room, each with a heading."""
    parts = "".join(f"<div><h3>{escaped(name)}</h3>{body}</div>" for name, body in groups.items())
    return f'<div class="groups">{parts}</div>'


def counted(words: Counter[str]) -> str:
    """The most frequent words with their counts."""
    if not words:
        return "<p>None.</p>"
    return chips({word: f"{count:,}" for word, count in words.most_common(_UNKNOWN_WORDS)})


def mean_chrf(lines: Sequence[Line]) -> float:
    return sum(line.chrf for line in lines) / len(lines)


def _sample(line: Line) -> str:
    texts = {"source": line.source, "reference": line.references[0], "output": line.output}
    rows = "".join(f'<dt>{name}</dt><dd dir="auto">{escaped(text)}</dd>' for name, text in texts.items())
    return f"<dl><dt>chrF</dt><dd>{line.chrf:.1f}</dd>{rows}</dl>"


def _details(title: str, values: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    lines = "\n".join(map(escaped, text.splitlines()))
    return f"<details><summary>{title}</summary><pre>{lines}</pre></details>"


def _words(text: str) -> int:
    return len(text.split())


def _title(key: str) -> str:
    return key.replace(".", " ").replace("_", " ")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


_STYLE = """
main { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1rem; }
section > h2 { color: var(--ink); font-size: 1.15rem; font-weight: 600; }
h3 { font-size: .9rem; margin-bottom: .4rem; }
section > p, .groups p { color: var(--soft); font-size: .85rem; }
.curves { width: 100%; max-width: 60rem; border-radius: .4rem; background: #fff; }
.groups { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1.2rem; }
dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0 .7rem; padding: .5rem 0; font-size: .85rem;
  border-top: 1px solid var(--line); }
dt { color: var(--soft); font-size: .75rem; }
dd { margin: 0; }
dd:last-child { font-weight: 600; }
pre { overflow-x: auto; padding: .6rem 0; font-size: .75rem; }
summary { cursor: pointer; color: var(--soft); font-size: .85rem; }
"""
