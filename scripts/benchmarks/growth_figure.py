"""The growth of costs as a picture."""

from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError
from scripts.benchmarks.growth import Cost

_LABELS = {
    "length": "words in a sentence (batches of as many words)",
    "vocabulary": "entries of the vocabulary",
    "beam": "beam",
    "batch": "sentences in a batch",
    "width": "units of a layer",
    "pairs": "sentence pairs in the corpus",
}
_WAYS = {
    "training": "C0",
    "training, sampled": "C4",
    "decoding": "C1",
    "train stage": "C0",
    "preparing": "C2",
    "reading": "C3",
}


def draw_growth(path: Path, costs: Sequence[Cost], note: str) -> None:
    """A panel for each axis, both scales logarithmic, a line for each way; raises UserError if it cannot be written.

    Args:
        note: Where the costs were measured; stands below.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    names = [axis for axis in _LABELS if any(cost.axis == axis for cost in costs)]
    figure, grid = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    for axes, axis in zip(grid.flat, names, strict=False):
        of_axis = [cost for cost in costs if cost.axis == axis]
        for way in dict.fromkeys(cost.way for cost in of_axis):
            line = [cost for cost in of_axis if cost.way == way]
            values, heights = [cost.value for cost in line], [cost.microseconds for cost in line]
            axes.plot(values, heights, marker="o", markersize=4, color=_WAYS[way], label=way)
        axes.set_xscale("log")
        axes.set_yscale("log")
        low, high = (extreme(cost.microseconds for cost in of_axis) for extreme in (min, max))
        axes.set_ylim(low / 2, high * 2 * (high / low) ** 0.5)  # a flat line looks flat, and the legend has room
        ticks = sorted({cost.value for cost in of_axis})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=_LABELS[axis], ylabel="µs a target word")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    figure.suptitle("Cost of a target word")
    figure.supxlabel(note, fontsize=8)
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): choose another --figure") from error
    finally:
        plt.close(figure)
