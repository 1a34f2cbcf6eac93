import json

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nmt.task_metrics import by_group, label_order, render_groups, write_metrics


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["1/2", "10/1", "2/1", "none"])), min_size=1))
def test_groups_add_up(found):
    groups = by_group([right for right, _ in found], [label for _, label in found])
    assert sum(group["sequences"] for group in groups.values()) == len(found)
    hits = sum(group["exact"] * group["sequences"] for group in groups.values())
    assert round(hits) == sum(right for right, _ in found)
    assert list(groups) == sorted(groups, key=label_order)


def test_labels_are_ordered_by_their_numbers():
    assert sorted(["10", "9", "100", "1.5"], key=label_order) == ["1.5", "9", "10", "100"]
    assert sorted(["3/1", "10/2", "3/10", "3/2"], key=label_order) == ["3/1", "3/2", "3/10", "10/2"]


def test_the_file_and_the_table_say_the_same(tmp_path):
    groups = by_group([True, False, True, True], ["5", "5", "20", "5"])
    write_metrics(tmp_path / "metrics.json", 0.75, 4, groups)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "exact": 0.75,
        "sequences": 4,
        "groups": {"5": {"exact": 2 / 3, "sequences": 3}, "20": {"exact": 1.0, "sequences": 1}},
    }
    console = Console(width=80, record=True, quiet=False)
    console.print(render_groups(groups, "lag"))
    shown = console.export_text()
    assert "by lag" in shown and "66.67%" in shown and "100.00%" in shown
