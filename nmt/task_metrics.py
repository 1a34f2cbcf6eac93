"""What a generated task's recipe ends with: how often the model is right on sequences that it has never seen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import write_text


def write_metrics(path: Path, exact: float, sequences: int, groups: Mapping[str, Any]) -> None:
    """Write metrics.json.

    Args:
        exact: Share of fresh sequences that were decoded exactly, 0 to 1.
        sequences: How many there were.
        groups: The same for parts of them, by name.
    """
    record = {"exact": exact, "sequences": sequences, "groups": dict(groups)}
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
