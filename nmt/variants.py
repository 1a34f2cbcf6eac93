"""Runs of one recipe with varied settings, each in a directory of its own, sharing the data that are the same."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from data.errors import UserError
from data.files import write_text
from data.tasks import GROUPED_BY
from nmt.comparison import (
    render_groups,
    render_lengths,
    render_outcomes,
    render_summaries,
    summarize,
    write_comparison,
)
from nmt.comparison_figure import draw_comparison
from nmt.config import flat
from nmt.outcome import SEED, Outcome, read_outcome, run_name
from nmt.recipe import Recipe, claim_run, refuse_changes, run_recipe
from nmt.significance import METRICS, compare_pairs, render_pairs

_DATA = ("generate", "scenes", "gestures", "prepare")  # the sections that decide what data there are


@dataclass(frozen=True)
class Variant:
    """A recipe with some settings of its own.

    varied: its values of the varied settings, by their dotted names, as they were written
    """

    varied: dict[str, str]
    recipe: Recipe


def compare_variants(
    name: str,
    variants: Sequence[Variant],
    out: Path,
    base: Path | None,
    console: Console,
    *,
    paired: str | None = None,
) -> None:
    """Run the variants and leave comparison.json and comparison.png in `out`, and their tables on the console.

    Args:
        name: That of the recipe.
        base: The folder that holds the corpus files.
        paired: The varied setting whose values are tested against its first one.

    Raises:
        UserError: as `run_variants` and `compare_pairs` do.
    """
    outcomes = run_variants(variants, out, base, console)
    summaries = summarize(outcomes)
    if not summaries:
        raise UserError(f"{out}: there is nothing to compare: the recipe's data have no test part")
    task = asdict(variants[0].recipe).get("generate", {}).get("task")
    grouped_by = GROUPED_BY.get(task, "group")
    write_comparison(out / "comparison.json", name, outcomes, [])
    commonest = max((one.commonest for one in outcomes if one.commonest is not None), default=None)
    draw_comparison(out / "comparison.png", name, summaries, grouped_by, commonest)
    console.rule("compared")
    console.print(render_outcomes(outcomes))
    if SEED in variants[0].varied:
        console.print(render_summaries(summaries))
    if any(summary.groups for summary in summaries):
        console.print(render_groups(summaries, grouped_by))
    if any(summary.lengths for summary in summaries):
        console.print(render_lengths(summaries))
    pairs = compare_pairs(out, outcomes, paired) if paired else []  # last: it may be refused
    write_comparison(out / "comparison.json", name, outcomes, pairs)
    for metric in METRICS if pairs else ():
        console.print(render_pairs(pairs, metric))
    for file in ("comparison.json", "comparison.png"):
        console.print(str(out / file), highlight=False, markup=False, soft_wrap=True)


def run_variants(variants: Sequence[Variant], out: Path, base: Path | None, console: Console) -> list[Outcome]:
    """Run every variant in `out`/NAME, skipping what is done; variants whose data are the same share them.

    A variant that fails is told of in its outcome, and the others go on; it is tried again next time.

    Raises:
        UserError: no variant succeeded, or `out` was made with other settings.
    """
    _claim(variants, out)
    outcomes = []
    for number, variant in enumerate(variants, 1):
        keys = list(variant.varied)
        name = run_name(variant.varied, keys)
        own = {key: value for key, value in variant.varied.items() if key.split(".")[0] in _DATA}
        console.rule(f"{number} of {len(variants)}: {name}")
        failure = None
        try:
            _share_data(variant, out / "prepared" / (run_name(own, keys) or "all"), out / name, base, console)
            run_recipe(variant.recipe, out / name, base=base, resume=True, console=console)
        except UserError as error:
            failure = str(error)
            console.print(f"failed: {failure}", highlight=False, markup=False, soft_wrap=True)
        outcomes.append(read_outcome(out / name, name, variant.varied, failure))
    if all(outcome.failure for outcome in outcomes):
        raise UserError(f"none of {len(outcomes)} runs succeeded; the first: {outcomes[0].failure}")
    return outcomes


def _claim(variants: Sequence[Variant], out: Path) -> None:
    """Note what all variants share in `out`/comparison.yaml; other values of what is varied may be added later.

    A run alone lets a limit such as max_epochs change until it is finished; beside others it would no longer be
    comparable.

    Raises:
        UserError: `out` was made with other settings.
    """
    path, keys, recipe = out / "comparison.yaml", variants[0].varied, variants[0].recipe
    varied = tuple(f"{key}." for key in keys)

    def shared(settings: dict[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in flat(settings).items() if not f"{key}.".startswith(varied)}
        return rest | dict.fromkeys(keys, "varied")

    settings = shared(asdict(recipe))
    if path.exists() and any((out / "prepared").glob("*/data")):
        refuse_changes(path, settings, shared(asdict(type(recipe)())))
    write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _share_data(variant: Variant, shared: Path, run: Path, base: Path | None, console: Console) -> None:
    """Make the data of a variant in `shared`, if they are not there, and let the run directory point to them."""
    settings = {section: values for section, values in asdict(variant.recipe).items() if section in _DATA}
    claim_run(settings, settings, shared)
    variant.recipe.prepare_data(shared, base, console)
    try:
        run.mkdir(exist_ok=True)
        for part in ("corpus", "data"):
            if (shared / part).exists() and not (run / part).exists():
                (run / part).symlink_to(Path("..") / shared.parent.name / shared.name / part)
    except OSError as error:
        raise UserError(f"{run}: cannot be made ({error.strerror}): choose another --out") from error
