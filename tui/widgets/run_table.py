"""The table of runs: what its columns say, and which runs a filter lets through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, cast

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.color import Color

from engine.records import DamagedRun, RunSummary
from tui import format as fmt
from tui.language import mark, tr
from tui.verbs import sign_style, state_sign
from tui.widgets.lines import BAD, BLUE, DOUBTFUL, GOOD, ORANGE
from tui.widgets.record_table import Column, RecordTable

Listed = RunSummary | DamagedRun
"""What the table has rows of."""


def damaged_text() -> str:
    """The state of a run that cannot be read."""
    return f"✗ {tr('damaged')}"


def state_text(run: RunSummary) -> str:
    """Sign and word of its state."""
    sign, word, _ = state_sign(run.status, run.is_stale)
    return f"{sign} {word}"


def _progress(run: RunSummary) -> str:
    total = run.status.tokens_total
    return fmt.percent((run.status.tokens or 0) / total if total else None)


def tags_text(run: RunSummary) -> str:
    """Its tags, and whether it is archived."""
    words = [f"#{fmt.clean(tag)}" for tag in run.tags]
    return " ".join([*words, tr("archived")] if run.archived_at is not None else words)


_STATE = mark("State")


def columns(letter_of: Callable[[str], str]) -> tuple[Column[Listed], ...]:
    """The columns of the table, the first one with the letter that a marked run has in the chart; else a blank."""
    return (
        Column(" ", lambda run: letter_of(run.id)),
        Column("Run", lambda run: fmt.clean(run.id)),
        Column(_STATE, lambda run: state_text(run) if isinstance(run, RunSummary) else damaged_text()),
        *map(_of_whole, COLUMNS),
    )


def _of_whole(column: Column[RunSummary]) -> Column[Listed]:
    """A column that says nothing of a damaged run, and has it last."""
    write = column.sort or column.cell

    def cell(run: Listed) -> str:
        return column.cell(run) if isinstance(run, RunSummary) else ""

    def sort(run: Listed) -> float | str | None:
        return write(run) if isinstance(run, RunSummary) else None

    return cast("Column[Listed]", replace(column, cell=cell, sort=sort))


def matches(run: Listed, wanted: str) -> bool:
    """Whether a run has every word in its name, state, preset or tags, and none that begins with a minus."""
    if isinstance(run, RunSummary):
        text = f"{run.id} {state_text(run)} {run.preset} {tags_text(run)}".casefold()
    else:
        text = f"{run.id} {damaged_text()}".casefold()
    for word in wanted.casefold().split():
        if word.startswith("-") and len(word) > 1:
            if word[1:] in text:
                return False
        elif word not in text:
            return False
    return True


COLUMNS: tuple[Column[RunSummary], ...] = (
    Column("Began", lambda run: fmt.date(run.created_at), is_for_wide=True, sort=lambda run: run.created_at),
    Column("Model", lambda run: f"{fmt.clean(run.preset)} {fmt.count(run.parameters)}", is_for_wide=True),
    Column("Done", _progress, is_number=True, sort=lambda run: run.status.tokens),
    Column(
        "Loss", lambda run: fmt.number(run.status.loss, 3), is_number=True, sort=lambda run: run.status.loss
    ),
    Column(
        "Val.",
        lambda run: fmt.number(run.status.val_loss, 3),
        is_number=True,
        sort=lambda run: run.status.val_loss,
    ),
    Column(
        "Took",
        lambda run: fmt.duration(run.status.elapsed_s),
        is_number=True,
        is_for_wide=True,
        sort=lambda run: run.status.elapsed_s,
    ),
    Column(
        "Cost",
        lambda run: fmt.money(run.status.cost, run.status.currency),
        is_number=True,
        sort=lambda run: run.status.cost,
    ),
    Column("Tags", tags_text, from_width=130),
)


_COLOURS = {GOOD: "success", DOUBTFUL: "warning", BAD: "error", BLUE: "primary", ORANGE: "accent"}
"""What the theme calls the colour of a state."""


class RunTable(RecordTable[Listed]):
    """The runs, each with its state in the colour of that; enter opens the selected one."""

    HELP = "The runs, newest first. Enter shows the selected one on the run screen."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", tooltip="Show it on the run screen", id="runs.open"),
    ]

    def on_mount(self) -> None:
        """Take up the colours of another theme."""
        self.cursor_foreground_priority = "renderable"
        self.app.theme_changed_signal.subscribe(self, lambda theme: self._recolour())

    def _recolour(self) -> None:
        self.sort_by(self._sorted_by, self._is_falling)

    def _text(self, index: int, text: str) -> Text:
        shown = super()._text(index, text)
        token = _COLOURS.get(sign_style(text[:1])) if self._shown_columns[index].label == _STATE else None
        if token is not None:
            shown.stylize(Style(color=Color.parse(self.app.theme_variables[token]).rich_color))
        return shown
