"""Explanations as a page: for each line a table of the steps, with attention as a heat-map over the source's tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nmt.explanation import Candidate, Explanation, Step
from nmt.page import Page, chips, escaped, number, table
from nmt.translator import Translation, Translator
from nmt.written import WrittenHypothesis

MOST = 100  # lines or images on a page: some megabytes of long sentences
_LEGEND = (
    "Each step is a token that was written, with its probability and the likeliest tokens at that step; in red where "
    "it was not the likeliest."
)
_TABLE = "The numbers between say what percentage of each token of the source was read, in the order as typed."


class ExplanationPage(Page):
    """The first `MOST` lines or images, each a card: how its best hypothesis came about, and the other ones."""

    def __init__(
        self,
        path: Path,
        *,
        unit: str = "lines",
        legend: str = _TABLE,
        style: str = "",
        note: str = "",
        overwrite: bool = False,
    ) -> None:
        """Plan a page; see `Page`.

        Args:
            unit: What is explained.
            legend: What maps of attention mean, where there are some.
            style: CSS of these maps.
        """
        note = f"{note}. {_LEGEND} {legend}"
        super().__init__(path, title="Explanations", note=note, style=_STYLE + style, overwrite=overwrite)
        self._unit, self._seen, self._without = unit, 0, False

    @property
    def full(self) -> bool:
        return self._seen > MOST

    def takes(self) -> bool:
        """Count one more line, and say whether there is room for it."""
        self._seen += 1
        return not self.full

    def add(
        self,
        name: str,
        source: str,
        hypotheses: Sequence[WrittenHypothesis],
        explanations: Sequence[Explanation],
        show: Callable[[Explanation], str] | None = None,
    ) -> None:
        """Write a card.

        Args:
            name: Such as "line 3".
            source: The text that was read; "" of an image.
            hypotheses: Best first.
            explanations: Of the best, for each of its pieces.
            show: Makes HTML of an explanation with attention; by default a table.
        """
        best = hypotheses[0]
        parts = [f"<h2>{escaped(name)}</h2>"]
        if source:
            parts.append(f'<p class="source" dir="auto">{escaped(source)}</p>')
        parts.append(f'<p class="written" dir="auto">{escaped(best.text) or "(nothing)"}</p>')
        parts.append(chips({"log-probability": number(best.log_prob), "score": number(best.score)}))
        for one in explanations:
            self._without = self._without or one.weights is None
            parts.append(show(one) if show and one.weights is not None else steps_table(one))
        if len(hypotheses) > 1:
            parts.append(
                table(("next best", "log-prob."), ((one.text, number(one.log_prob)) for one in hypotheses[1:]))
            )
        self.write(f"<section>{''.join(parts)}</section>\n")

    def summary(self) -> str:
        held = f"the first {MOST:,} of {self._seen:,}" if self.full else f"{self._seen:,}"
        without = " · a model without attention: there is no map of what was read" if self._without else ""
        return f"{held} {self._unit}{without}"


def add_translations(page: ExplanationPage, translator: Translator, first: int, done: Sequence[Translation]) -> None:
    """The cards of lines; `first` is the number of the first one."""
    for i, one in enumerate(done, first):
        if page.takes():
            page.add(f"line {i:,}", one.source, one.hypotheses, translator.explain(one))


def steps_table(explanation: Explanation) -> str:
    """A row for each step, with a column for each token of the source where there is attention."""
    weights = explanation.weights
    columns = explanation.source if weights is not None else []
    # short headings, such as letters, need not be turned
    turned = ' class="turned"' if max(map(len, columns), default=0) > 2 else ""
    heads = "".join(f'<th class="at"><span{turned}>{escaped(token)}</span></th>' for token in columns)
    rows = []
    for i, step in enumerate(explanation.steps):
        cells = "" if weights is None else "".join(map(_cell, weights[i].tolist()))
        token = f'<th scope="row"><bdi>{escaped(step.written.token)}</bdi></th>'
        rows.append(f"<tr>{token}<td>{written(step)}</td>{cells}<td>{likeliest(step)}</td></tr>")
    head = f"<thead><tr><th>written</th><th>prob.</th>{heads}<th>likeliest</th></tr></thead>"
    return f'<div class="scroll"><table class="steps">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def likeliest(step: Step) -> str:
    """The likeliest tokens, the one that was written in bold."""
    return "".join(f'<span class="c">{_candidate(one, step)}</span>' for one in step.likeliest)


def _candidate(one: Candidate, step: Step) -> str:
    token = f"<bdi>{escaped(one.token)}</bdi>"
    return f"{f'<b>{token}</b>' if one.token == step.written.token else token} {percent(one.probability)}"


def written(step: Step) -> str:
    """The probability of the token that was written, marked where another was likelier."""
    kind = "p" if step.written.token == step.likeliest[0].token else "p bad"
    return f'<span class="{kind}">{percent(step.written.probability)}</span>'


def _cell(weight: float) -> str:
    """Nothing where it would round to nothing: most cells of a large map."""
    if weight < 0.005:
        return '<td class="at"></td>'
    return f'<td class="at" style="--w:{weight:.0%}">{100 * weight:.0f}</td>'


def percent(share: float) -> str:
    return "&lt;1%" if share < 0.005 else f"{share:.0%}"


_STYLE = """
main { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1rem; }
.source { color: var(--soft); }
.written { font-size: 1.1rem; font-weight: 600; line-height: 1.3; }
td, th { padding: .15rem .35rem; vertical-align: baseline; white-space: nowrap; }
thead th { vertical-align: bottom; }
tbody th { color: var(--ink); font-size: .85rem; font-weight: 600; }
.p { display: block; min-width: 2.6rem; padding-inline-end: .35rem; text-align: end; }
.bad { color: var(--bad); font-weight: 600; }
.at { width: 1.9rem; min-width: 1.9rem; padding: .15rem 0; text-align: center; font-size: .75rem; }
th.at { color: var(--ink); }
td.at { border: 1px solid var(--line); background: color-mix(in srgb, var(--heat) var(--w, 0%), transparent); }
.turned { writing-mode: vertical-rl; transform: rotate(180deg); }
.c { display: inline-block; margin-inline-end: .9rem; color: var(--soft); }
.c b { color: var(--ink); }
"""
