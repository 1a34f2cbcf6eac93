"""METEOR 1.5 (Denkowski and Lavie 2014) by its own Java program, where both that and Java happen to be installed.

coco-caption calls the same program in the same way. The jar and its English paraphrases come with the package
pycocoevalcap, which nothing else here needs; no other code of that package runs.
"""

import importlib.util
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

_JAR = "meteor-1.5.jar"
_LIMIT = 1800.0  # seconds that the program may take; it needs about ten to start, and ten for 2,000 images

Captions = Sequence[Sequence[str]]
Corpus = tuple[Captions, Sequence[Captions]]  # one caption for each image, and the image's references


class MeteorError(Exception):
    """Why there is no METEOR, in a few words."""


def _find() -> tuple[str, Path]:
    """The Java command and the folder of the jar.

    Raises:
        MeteorError: one of them is missing.
    """
    java = shutil.which("java")
    if java is None:
        raise MeteorError("no java command was found")
    package = importlib.util.find_spec("pycocoevalcap")
    for folder in (package.submodule_search_locations if package else None) or ():
        if (Path(folder) / "meteor" / _JAR).is_file():
            return java, Path(folder) / "meteor"
    raise MeteorError(f"{_JAR} was not found: it comes with the package pycocoevalcap")


def meteor(corpora: Sequence[Corpus]) -> list[float]:
    """METEOR of each corpus of tokenized captions, 0 to 1; English, with exact, stem, synonym and paraphrase matches.

    Raises:
        MeteorError: Java or the jar is missing, or the program failed; never anything else for such a reason.
    """
    java, folder = _find()
    # Without an encoding Java 17 would take that of the locale, and umlauts for question marks where there is none.
    command = [java, "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", _JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise MeteorError(f"java could not be started: {error}") from error
        watchdog = threading.Timer(_LIMIT, process.kill)
        watchdog.start()
        try:
            with process:
                try:
                    return [_converse(process, *corpus) for corpus in corpora]
                finally:
                    process.kill()  # it would wait for more
        except (OSError, ValueError) as error:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").split("\n")
            raise MeteorError(f"the Java program failed: {lines[0].strip() or error}") from error
        finally:
            watchdog.cancel()


def _converse(process: "subprocess.Popen[str]", candidates: Captions, references: Sequence[Captions]) -> float:
    """One line of statistics for each caption, then the score of all of them together.

    Raises:
        ValueError: an answer is no number, or there is none because the program has died.
        OSError: the program reads no more.
    """
    statistics = []
    for candidate, image in zip(candidates, references, strict=True):
        line = " ||| ".join(["SCORE", *(" ".join(words) for words in image), " ".join(candidate)])
        statistics.append(_ask(process, line))
    _ask(process, " ||| ".join(["EVAL", *statistics]), answers=len(statistics))  # one score for each caption
    return float(_answer(process))


def _ask(process: "subprocess.Popen[str]", line: str, answers: int = 1) -> str:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return [_answer(process) for _ in range(answers)][-1]


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    answer = process.stdout.readline().strip()
    if not answer:
        raise ValueError("it gave no answer")
    return answer
