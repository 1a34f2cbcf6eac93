"""What became of the runs of a recipe: the name of each by what is varied in it, and the scores that it has left."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.text_files import read_lines
from nmt.checkpoint import load_checkpoint
from nmt.metrics import Bucket
from nmt.run_directory import RunDirectory

SEED = "training.seed"


@dataclass(frozen=True)
class Outcome:
    """What became of a variant: scores of the test part by name, or why there are none.

    groups holds the exact share (0 to 1) of each group of a generated task; commonest is the share of the commonest
    right answer, which is as far as one gets without reading the source. perplexity is that of the validation part;
    lengths are BLEU by source length.
    """

    name: str
    varied: dict[str, str]
    scores: dict[str, float]
    groups: dict[str, float]
    commonest: float | None
    updates: int | None
    minutes: float | None
    failure: str | None
    perplexity: float | None = None
    lengths: list[Bucket] = field(default_factory=list)


def run_name(varied: Mapping[str, str], keys: Sequence[str]) -> str:
    """A directory name that tells the settings: "cell=rnn,clip_norm=0".

    Args:
        keys: All varied settings; the section is named only where two of them have the same last name.
    """
    last = Counter(key.rsplit(".", 1)[-1] for key in keys)
    parts = []
    for key, value in varied.items():
        short = key.rsplit(".", 1)[-1]
        parts.append(f"{short if last[short] == 1 else key}={value}".replace("/", "_"))
    return ",".join(parts)


def read_outcome(folder: Path, name: str, varied: dict[str, str], failure: str | None) -> Outcome:
    """Read the scores that a run has left in its directory."""
    scores: dict[str, float] = {}
    groups: dict[str, float] = {}
    lengths: list[Bucket] = []
    commonest = updates = minutes = perplexity = None
    if not failure and (folder / "metrics.json").exists():
        found = _read(folder / "metrics.json")
        scores = {"exact": found["exact"]}
        groups = {label: each["exact"] for label, each in found["groups"].items()}
        answers = Counter(read_lines(folder / "data" / "test.reference"))
        commonest = max(answers.values()) / answers.total()
    elif not failure and (folder / "evaluation.json").exists():
        found = _read(folder / "evaluation.json")
        if "bleu" in found:
            case = "_lowercase" if found["lowercase"] else ""
            scores = {title: found[title.lower() + case]["score"] for title in ("BLEU", "chrF")}
            lengths = [Bucket(**each) for each in found.get("buckets", [])]
        else:
            scores = {"CIDEr": found["cider"], "BLEU-4": found["bleu4"]}
    if newest := RunDirectory(folder).newest():
        position = load_checkpoint(newest)[2]["position"]
        updates, minutes = position["update"], position["seconds"] / 60
    if not failure and (folder / "model" / "metrics.json").exists():
        perplexity = (_read(folder / "model" / "metrics.json").get("validation") or {}).get("perplexity")
    return Outcome(name, varied, scores, groups, commonest, updates, minutes, failure, perplexity, lengths)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def alike(outcomes: Sequence[Outcome], apart_from: Sequence[str]) -> dict[str, list[Outcome]]:
    """The outcomes that differ in nothing but some settings, by what is the same."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        rest = {key: value for key, value in outcome.varied.items() if key not in apart_from}
        found.setdefault(run_name(rest, list(outcome.varied)) or "all", []).append(outcome)
    return found
