"""More on one run of the list: its state and why it is in it, then what is known of it."""

from __future__ import annotations

from engine.records import DamagedRun, RunSummary
from tui import format as fmt
from tui.language import tr
from tui.verbs import state_sign
from tui.widgets.facts_panel import Fact, FactsPanel
from tui.widgets.lines import BAD, DOUBTFUL, MUTED, TEXT, Line, crop, wrap
from tui.widgets.run_table import Listed, damaged_text, tags_text

_FEWEST_FACTS = 2
"""Rows that a long reason leaves to the facts."""
_MOST_CHARACTERS = 4000
"""Of a reason: more than any panel of this size holds."""


class RunFacts(FactsPanel):
    """The state with its reason over the whole width; below them the facts that are known."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            tr("Selected run"), id=id, column_width=36, help_text=tr("More on the run under the cursor.")
        )
        self._head: list[Fact] = []

    def show_run(self, run: Listed | None) -> None:
        """Show another run; None where there is none that the filter lets through."""
        if isinstance(run, DamagedRun):
            self.border_title = fmt.clean(run.id)
            self._head = [("", damaged_text(), BAD), ("", fmt.said(run.damage), BAD)]
            self._head.append(("", fmt.said(run.remedy), TEXT))
            self.show([])
            return
        if run is None:
            self.border_title, self._head = tr("Selected run"), []
            self.show([(tr("No run"), tr("has all of these words."), MUTED)])
            return
        self.border_title = fmt.clean(run.id)
        sign, word, style = state_sign(run.status, run.is_stale)
        self._head = [("", f"{sign} {word}", style)]
        if run.status.reason:
            reason = fmt.said(run.status.reason[:_MOST_CHARACTERS])
            self._head.append(("", reason, style if style in (BAD, DOUBTFUL) else DOUBTFUL))
        self.show([(label, value, TEXT) for label, value in _facts(run) if value != fmt.UNKNOWN])

    def draw(self, width: int, height: int) -> list[Line]:
        """State and reason first, and of a long reason as much as leaves room for the first facts."""
        lines: list[Line] = [[(row, style)] for _, text, style in self._head for row in wrap(text, width)]
        room = max(2, height - _FEWEST_FACTS)
        if len(lines) > room:
            lines = [*lines[: room - 1], crop([*lines[room - 1], (" …", lines[room - 1][0][1])], width)]
        return [*lines, *super().draw(width, max(0, height - len(lines)))]


def _facts(run: RunSummary) -> list[tuple[str, str]]:
    """Labels and values, the weightiest first."""
    status = run.status
    parameters = fmt.count(run.parameters)
    tokens, tokens_total = fmt.count(status.tokens), fmt.count(status.tokens_total)
    speed = fmt.count(status.tokens_per_second)
    energy = f"{fmt.energy(status.machine_energy_j)} {tr(fmt.clean(status.energy_source or ''))}"
    return [
        (tr("began"), fmt.date(run.created_at)),
        (
            tr("model"),
            tr("{preset}, {parameters} parameters", preset=fmt.clean(run.preset), parameters=parameters),
        ),
        (
            tr("tokens"),
            tr("{tokens} of {tokens_total}", tokens=tokens, tokens_total=tokens_total)
            if status.tokens is not None
            else fmt.UNKNOWN,
        ),
        (
            tr("speed"),
            tr("{tokens_per_second} tokens/s", tokens_per_second=speed)
            if status.tokens_per_second is not None
            else fmt.UNKNOWN,
        ),
        (tr("took"), fmt.duration(status.elapsed_s)),
        (tr("left"), fmt.duration(status.eta_s)),
        (tr("bits a byte"), fmt.number(status.val_bits_per_byte, 3)),
        (tr("energy"), energy if status.machine_energy_j is not None else fmt.UNKNOWN),
        (tr("cost"), fmt.money(status.cost, status.currency)),
        (tr("restarts"), str(status.restarts)),
        (tr("tags"), tags_text(run) or fmt.UNKNOWN),
    ]
