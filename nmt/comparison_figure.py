"""comparison.png: the scores of a comparison as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.comparison import Summary, shown
from nmt.task_metrics import label_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = ("-", "--", ":", "-.")
_MARKERS = "osv^DP"
_LOGARITHMIC = 20  # from this ratio of the largest to the smallest number on


def draw_comparison(
    path: Path, title: str, summaries: Sequence[Summary], grouped_by: str, commonest: float | None
) -> None:
    """Draw a line over the groups for each summary, or bars where there are no groups; whiskers are deviations.

    Args:
        grouped_by: What the groups are.
        commonest: The share of the commonest answer, drawn as what is reached without reading the source.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    if any(summary.groups for summary in summaries):
        figure, axes = plt.subplots(figsize=(10, 4.6), layout="constrained")
        _draw_groups(axes, summaries, grouped_by, commonest)
    else:
        names = list(summaries[0].scores)
        height = 1.2 + 0.4 * len(summaries)
        figure, grid = plt.subplots(1, len(names), figsize=(5 * len(names) + 2, height), sharey=True, squeeze=False)
        figure.set_layout_engine("constrained")
        for axes, name in zip(grid[0], names, strict=True):
            _draw_bars(axes, summaries, name)
        grid[0][0].invert_yaxis()  # the axes share it
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_groups(axes: "Axes", summaries: Sequence[Summary], grouped_by: str, commonest: float | None) -> None:
    labels = sorted({label for summary in summaries for label in summary.groups}, key=label_order)
    numeric = all(label.replace(".", "", 1).isdecimal() for label in labels)
    where = {label: float(label) if numeric else float(i) for i, label in enumerate(labels)}
    # the first varied setting is told by colour, the others together by the kind of line
    firsts = list(dict.fromkeys(next(iter(one.varied.values()), "") for one in summaries))
    rests = list(dict.fromkeys(tuple(one.varied.values())[1:] for one in summaries))
    for summary in summaries:
        values = tuple(summary.varied.values()) or ("",)
        rest = rests.index(values[1:])
        deviations = [one.deviation for one in summary.groups.values()]
        axes.errorbar(
            [where[label] for label in summary.groups],
            [one.mean for one in summary.groups.values()],
            yerr=[each or 0.0 for each in deviations] if any(deviations) else None,
            color=f"C{firsts.index(values[0]) % 10}",
            linestyle=_STYLES[rest % len(_STYLES)],
            marker=_MARKERS[rest % len(_MARKERS)],
            markersize=5,
            capsize=3,
            alpha=0.8,
            label=summary.name,
        )
    if commonest is not None:
        axes.axhline(commonest, color="grey", lw=1, label=f"the commonest answer ({shown(commonest, 'exact')})")
    if numeric and 0 < min(where.values()) * _LOGARITHMIC <= max(where.values()):
        axes.set_xscale("log")
    axes.set_xticks(list(where.values()), labels)
    axes.minorticks_off()
    axes.set(xlabel=grouped_by, ylabel="decoded exactly", ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_bars(axes: "Axes", summaries: Sequence[Summary], name: str) -> None:
    rows = range(len(summaries))
    found = [summary.scores[name] for summary in summaries]
    whiskers = [one.deviation or 0.0 for one in found] if any(one.deviation for one in found) else None
    bars = axes.barh(rows, [one.mean for one in found], xerr=whiskers, capsize=3)
    axes.bar_label(bars, [f" {shown(one.mean, name)}" for one in found])
    axes.set_yticks(rows, [summary.name for summary in summaries])
    axes.set_xlim(0, 1.2 * max(one.mean + (one.deviation or 0.0) for one in found) or 1.0)
    axes.set(title=f"{name} of the test part")
    axes.grid(axis="x", alpha=0.3)
