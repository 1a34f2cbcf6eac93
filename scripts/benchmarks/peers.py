"""How fast other programs train and translate beside ours: the same text, words, sizes and threads, taken in turn."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU

from data.config import PrepareConfig
from data.errors import UserError
from data.files import atomic_directory, remove_unfinished, write_text
from data.prepare import prepare
from data.readers import ParallelText
from data.text_files import fingerprint, read_lines
from data.tokenizer import SPECIAL_IDS, UNK_ID, TokenizerConfig
from nmt.device import bfloat16_computes
from scripts.benchmarks.child import FailureError, Ran, last_line, run
from scripts.benchmarks.peer_programs import (
    LANGUAGES,
    PARTS,
    PEERS,
    REPORT_EVERY,
    WAYS,
    Lesson,
    Ours,
    Program,
    Texts,
)
from scripts.benchmarks.peer_rounds import PLAIN, Comparison, Rounds
from scripts.benchmarks.plain import Pairs, PlainTranslator, train_plainly

_ROWS, _SMALL_ROWS = 128, 64  # sentences of a batch
_BEAMS = {1: "greedy", 5: "beam 5"}
_COPIES = {1: 5, 5: 1}  # of the test part: once greedily takes less time than loading does


@dataclass(frozen=True)
class Options:
    """What to compare, as the command line has it; models are kept in `models`, if given, and used again."""

    data: Path
    environments: Path
    peers: list[str]
    models: Path | None
    rounds: int
    updates: int
    minutes: float
    threads: int


def measure_peers(options: Options) -> Comparison:
    """Train and translate with every program in turn.

    Raises:
        UserError: an environment or a text is missing, or a kept model learnt from other text.
    """
    programs: list[Program] = [Ours(Path(sys.executable))]
    environments = options.environments.absolute()
    programs += [PEERS[name](environments / f"v_{name}" / "bin" / "python") for name in options.peers]
    versions = {program.title: installed(program) for program in programs}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        scratch = Path(name)
        texts = Texts(options.data.absolute(), scratch)
        counted = _prepare(texts, programs)
        models = (options.models or scratch / "models").absolute()
        training = _measure_training(programs, texts, counted, options, scratch) if options.updates else []
        trained, failures = {}, {}
        for program in programs:
            try:
                trained[program.title] = _trained(program, texts, models, options, scratch)
            except FailureError as error:
                failures[program.title] = str(error)
        if Ours.title in failures:
            failures |= dict.fromkeys((way.title for way in WAYS), failures[Ours.title])
        translators = [*programs, *(way(Path(sys.executable)) for way in WAYS)]
        translating = _measure_translating(translators, texts, models, options, scratch, failures)
    precision = "bfloat16" if bfloat16_computes(torch.device("cpu")) else "float32"
    return Comparison(options.threads, precision, versions, trained, training, translating)


def installed(program: Program) -> dict[str, str]:
    """The versions of its packages; raises UserError, saying how to install them, where one is missing."""
    names = [package.partition("==")[0] for package in program.packages]
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    try:
        found = subprocess.run([program.python, "-c", code, *names], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        folder = program.python.parents[1]
        raise UserError(
            f"{folder}: no environment with {program.title} here: make one with\n  python3.11 -m venv {folder} && "
            f"{folder}/bin/pip install {' '.join(program.packages)}"
        ) from error
    return dict(zip(names, found.split(), strict=True))


def _prepare(texts: Texts, programs: Sequence[Program]) -> list[list[tuple[str, int]]]:
    """Prepare for ours and write the peers' vocabularies: the words that stand twice in the training text."""
    _say("preparing")
    texts.vocabularies.mkdir()
    train, valid = (ParallelText(source=f"{part}.de", target=f"{part}.en") for part in PARTS[:2])
    source, target = (TokenizerConfig(language=language, tokenized=True, min_count=2) for language in LANGUAGES)
    config = PrepareConfig(train=train, valid=valid, source=source, target=target, workers=1)
    prepare(config, texts.prepared, base=texts.folder)
    counted = []
    for language in LANGUAGES:
        counts = Counter(word for line in read_lines(Path(texts.file("train", language))) for word in line.split())
        common = sorted((one for one in counts.items() if one[1] >= 2), key=lambda one: (-one[1], one[0]))
        counted.append(common)
        for program in programs:
            write_text(Path(program.vocabulary_file(texts, language)), program.vocabulary(common))
    return counted


def _measure_training(
    programs: Sequence[Program],
    texts: Texts,
    counted: list[list[tuple[str, int]]],
    options: Options,
    scratch: Path,
) -> list[Rounds]:
    lesson = Lesson(small=False, updates=REPORT_EVERY + options.updates, rows=_ROWS, threads=options.threads)
    found = [Rounds(program.title, program.large_model) for program in programs]
    plain = Rounds(PLAIN, "2x512, no attention")
    tutorial, pairs = _tutorial(texts, counted)
    for number in range(options.rounds):
        for program, rounds in zip(programs, found, strict=True):
            if rounds.failure is None:
                _say(f"training round {number + 1}: {program.title}")
                with _failure_noted(rounds), tempfile.TemporaryDirectory(dir=scratch) as out:
                    speed, peak = _train(program, texts, lesson, Path(out))
                    rounds.rates.append(speed)
                    rounds.peak_mb = max(peak, rounds.peak_mb or 0)
        _say(f"training round {number + 1}: {PLAIN}")
        plain.rates.append(train_plainly(tutorial, pairs, _ROWS, options.updates, REPORT_EVERY))
    return [*found, plain]


def _tutorial(texts: Texts, counted: list[list[tuple[str, int]]]) -> tuple[PlainTranslator, Pairs]:
    """The plain loop's model and its numbered training text."""
    sides = []
    for language, words in zip(LANGUAGES, counted, strict=True):
        ids = {word: number for number, (word, _) in enumerate(words, SPECIAL_IDS)}
        lines = read_lines(Path(texts.file("train", language)))
        sides.append([[ids.get(word, UNK_ID) for word in line.split()] for line in lines])
    source, target = (len(words) + SPECIAL_IDS for words in counted)
    return PlainTranslator(source, target, 256, 512, 2, 0.3), list(zip(*sides, strict=True))


def _train(program: Program, texts: Texts, lesson: Lesson, out: Path) -> tuple[float, float]:
    """Target words a second after the first `REPORT_EVERY` updates, and the peak memory in MB.

    Raises:
        FailureError: it did not get to the end.
    """
    ran = run(program.train(texts, lesson, out), lesson.threads, out)
    speeds = program.speeds(ran.log, out)
    if len(speeds) < lesson.updates // REPORT_EVERY:
        raise FailureError(f"told its speed {len(speeds)} times in {lesson.updates} updates: {last_line(ran.log)}")
    return mean_speed(speeds[1:]), ran.peak_mb


def mean_speed(speeds: Sequence[float]) -> float:
    """The speed over stretches of about as many words each."""
    return len(speeds) / sum(1 / speed for speed in speeds)


def _trained(program: Program, texts: Texts, models: Path, options: Options, scratch: Path) -> dict[str, Any]:
    """Train the model that translates, as many updates as fit the time, unless it is there; how it came about."""
    folder, marks = models / program.name, [fingerprint(Path(texts.file("train", one))) for one in LANGUAGES]
    marks += [fingerprint(texts.prepared / f"{side}.model") for side in ("source", "target")]
    about = folder / "trained.json"
    if not about.exists():
        models.mkdir(parents=True, exist_ok=True)
        remove_unfinished(models)
        _say(f"training {program.title} for {options.minutes:g} minutes")
        trial = Lesson(small=True, updates=2 * REPORT_EVERY, rows=_SMALL_ROWS, threads=options.threads)
        with tempfile.TemporaryDirectory(dir=scratch) as out:
            speed, _ = _train(program, texts, trial, Path(out))
        lines = [line.split() for line in read_lines(Path(texts.file("train", "en")))]
        words = _SMALL_ROWS * (1 + statistics.fmean(map(len, lines)))  # of an update
        updates = max(2, round(options.minutes * 60 * speed / words / REPORT_EVERY)) * REPORT_EVERY
        lesson = Lesson(True, updates, _SMALL_ROWS, options.threads, decay=True)
        # the folder is renamed when all is there, and what is there already is never replaced
        with atomic_directory(folder) as out:
            ran = run(program.train(texts, lesson, out), lesson.threads, out)
            record = {"updates": updates, "minutes": ran.seconds / 60, "peak_mb": ran.peak_mb, "text": marks}
            write_text(out / about.name, json.dumps(record) + "\n")
    found: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
    if found["text"] != marks:
        raise UserError(f"{folder}: the model here learnt from other text than {texts.folder}: choose another --models")
    return found


def _measure_translating(
    programs: Sequence[Program],
    texts: Texts,
    models: Path,
    options: Options,
    scratch: Path,
    failures: dict[str, str],
) -> dict[str, list[Rounds]]:
    """Translate the test part, greedily several times over; a rate is that of all lines but one, in the time beyond
    that of a file of one line."""
    source, references = (list(read_lines(Path(texts.file("test", language)))) for language in LANGUAGES)
    found = {
        name: [Rounds(p.title, p.small_model, failure=failures.get(p.title)) for p in programs]
        for name in _BEAMS.values()
    }
    for program in programs:
        if program.title not in failures:
            program.prepare(texts, models / program.name)
    for number in range(options.rounds):
        for beam, name in _BEAMS.items():
            for program, rounds in zip(programs, found[name], strict=True):
                if rounds.failure is None:
                    _say(f"translating round {number + 1}, {name}: {program.title}")
                    with _failure_noted(rounds):
                        model = models / program.name
                        copies = _COPIES[beam]
                        load, _ = _translate(program, texts, model, beam, options.threads, source[:1])
                        full, lines = _translate(program, texts, model, beam, options.threads, source * copies)
                        _note(rounds, load, full, lines, references * copies)
    return found


def _translate(
    program: Program, texts: Texts, model: Path, beam: int, threads: int, lines: Sequence[str]
) -> tuple[Ran, list[str]]:
    """Translate lines; what it took, and what was written."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        source, output = out / "lines.de", out / "written"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        ran = run(program.translate(texts, model, beam, threads, source, output), threads, out)
        return ran, output.read_text(encoding="utf-8").split("\n")[:-1]


def _note(rounds: Rounds, load: Ran, full: Ran, lines: list[str], references: list[str]) -> None:
    """Add a round: of a file of one line, and of the whole test part."""
    if len(lines) != len(references):
        raise FailureError(f"wrote {len(lines):,} lines for {len(references):,}: {last_line(full.log)}")
    seconds = full.seconds - load.seconds
    if seconds <= 0:
        raise FailureError("all lines took no longer than the first alone: too few to measure with")
    rounds.rates.append((len(lines) - 1) / seconds)
    rounds.words.append(sum(len(line.split()) + 1 for line in lines) / seconds)
    rounds.load.append(load.seconds)
    rounds.peak_mb = max(full.peak_mb, rounds.peak_mb or 0)
    rounds.bleu = float(BLEU(tokenize="none", force=True).corpus_score(lines, [references]).score)


@contextlib.contextmanager
def _failure_noted(rounds: Rounds) -> Iterator[None]:
    try:
        yield
    except FailureError as error:
        rounds.failure = str(error)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
