"""comparison.png: the scores of a comparison as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Draw for each summary a line over the groups; or BLEU, in all and over source lengths; or bars, where there is
    neither. Whiskers are deviations.

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
    elif any(summary.lengths for summary in summaries):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(12, 4.6), sharey=True, width_ratios=(1, 3), layout="constrained"
        )
        _draw_whole(left, summaries)
        _draw_lengths(right, summaries)
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
    styles = _styles(summaries)
    for summary, style in zip(summaries, styles, strict=True):
        deviations = [one.deviation for one in summary.groups.values()]
        axes.errorbar(
            [where[label] for label in summary.groups],
            [one.mean for one in summary.groups.values()],
            yerr=[each or 0.0 for each in deviations] if any(deviations) else None,
            **style,
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


def _styles(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """How to draw each: its first varied setting is told by colour, the others together by the kind of line, and its
    own mark tells it apart in print without colours."""
    firsts = list(dict.fromkeys(next(iter(one.varied.values()), "") for one in summaries))
    rests = list(dict.fromkeys(tuple(one.varied.values())[1:] for one in summaries))
    return [
        {
            "color": f"C{firsts.index(next(iter(one.varied.values()), '')) % 10}",
            "linestyle": _STYLES[rests.index(tuple(one.varied.values())[1:]) % len(_STYLES)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "markersize": 5,
            "markerfacecolor": "white" if firsts.index(next(iter(one.varied.values()), "")) % 2 else None,
            "capsize": 3,
            "alpha": 0.8,
        }
        for i, one in enumerate(summaries)
    ]


def _draw_whole(axes: "Axes", summaries: Sequence[Summary]) -> None:
    """BLEU of the whole test part, a mark for each summary."""
    for i, (summary, style) in enumerate(zip(summaries, _styles(summaries), strict=True)):
        found = summary.scores["BLEU"]
        axes.errorbar([i], [found.mean], yerr=found.deviation, **style)
        axes.annotate(
            shown(found.mean, "BLEU"), (i, found.mean), xytext=(6, 4), textcoords="offset points", fontsize="small"
        )
    axes.set_xticks([])
    axes.margins(x=0.35)
    axes.set(xlabel="the whole test part", ylabel="BLEU (%)")
    axes.grid(axis="y", alpha=0.3)


def _draw_lengths(axes: "Axes", summaries: Sequence[Summary]) -> None:
    """BLEU over source lengths, a line for each summary; side by side, so that no whisker hides another."""
    counts = {one.words: one.sentences for summary in summaries for one in summary.lengths}
    labels = sorted(counts, key=label_order)
    step = min(0.08, 0.4 / len(summaries))
    for i, (summary, style) in enumerate(zip(summaries, _styles(summaries), strict=True)):
        shift = step * (i - (len(summaries) - 1) / 2)
        axes.errorbar(
            [labels.index(one.words) + shift for one in summary.lengths],
            [one.bleu.mean for one in summary.lengths],
            yerr=[one.bleu.deviation or 0.0 for one in summary.lengths],
            label=summary.name,
            **style,
        )
    axes.set_xticks(range(len(labels)), [f"{label}\n({counts[label]:,})" for label in labels])
    axes.set(xlabel="words of the source (sentences)", ylim=(0, None))
    axes.grid(alpha=0.3)
    known = any(one.bleu.deviation is not None for summary in summaries for one in summary.lengths)
    title = "mean ± deviation over seeds" if known else None
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title)


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
