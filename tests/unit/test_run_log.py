"""The curves of a run."""

import json

from nmt.run_log import draw_curves


def test_curves_of_a_run_that_an_earlier_version_began(tmp_path):
    """Its first validations lack a score that came later."""
    records = [
        {"kind": "train", "update": 1, "perplexity": 9.0, "learning_rate": 0.1},
        {"kind": "valid", "update": 1, "perplexity": 8.0, "bleu": 1.0},
        {"kind": "valid", "update": 2, "perplexity": 7.0, "bleu": 2.0, "rouge_l": 3.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    draw_curves(tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
