"""How many fresh sequences of a generated task are decoded exactly, in all and group by group."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from data.files import write_text


def write_metrics(path: Path, exact: float, sequences: int, groups: Mapping[str, Mapping[str, float]]) -> None:
    """Write metrics.json.

    Args:
        exact: Share of the sequences that are decoded exactly, 0 to 1.
        groups: For each label, `exact` and `sequences` of its sequences alone; empty where a task has no groups.
    """
    record = {"exact": exact, "sequences": sequences, "groups": groups}
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def by_group(right: Sequence[bool], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """What `write_metrics` takes as groups, in the order of `label_order`; `labels` has one for each sequence."""
    members: dict[str, list[bool]] = {}
    for label, one in zip(labels, right, strict=True):
        members.setdefault(label, []).append(one)
    return {
        label: {"exact": sum(members[label]) / len(members[label]), "sequences": len(members[label])}
        for label in sorted(members, key=label_order)
    }


def label_order(label: str) -> tuple[list[float], str]:
    """Sorts labels by the numbers in them ("2/10" after "2/9"), then by their text."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", label)], label


def render_groups(groups: Mapping[str, Mapping[str, float]], grouped_by: str) -> Table:
    """The groups as a table for a terminal."""
    table = Table(title=f"Decoded exactly, by {grouped_by}", title_justify="left")
    for name in (grouped_by, "sequences", "exact"):
        table.add_column(name, justify="right")
    for label, found in groups.items():
        table.add_row(label, f"{found['sequences']:,}", f"{found['exact']:.2%}")
    return table
