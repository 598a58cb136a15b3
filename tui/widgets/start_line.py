"""The line that says whether a run can start, and exactly what still locks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tui import format as fmt
from tui.language import tr, trn
from tui.own_keys import key
from tui.widgets.lines import BAD, BLUE, DOUBTFUL, GOOD, MUTED, TEXT, Line, Lines, wrap

if TYPE_CHECKING:
    from engine.records import Check

StartState = Literal["idle", "checking", "checked", "starting"]
FRESH_S = 60.0
"""A verdict that is older does not open the start: it is made anew."""


_MOST_NAMES, _MOST_LETTERS = 3, 60
"""Of the steps that are named; the list shows all."""


@dataclass(frozen=True)
class Readiness:
    """How far a start is."""

    state: StartState = "idle"
    checks: tuple[Check, ...] = ()
    """The verdicts that count, in the order of the list."""
    num_pending: int = 0
    """Of the steps that have none yet."""
    running_s: float | None = None
    """For how long the checks have been running; None: they are not."""
    trouble: str = ""
    """Why checks or start did not work; empty where they did."""
    live_run: str = ""
    """The id of a run that is going; empty where there is none."""
    starts_then: bool = False
    """Whether the start follows the checks by itself."""
    is_cancelled: bool = False

    @property
    def blocking(self) -> tuple[str, ...]:
        """Titles of the checks that block."""
        return tuple(check.title for check in self.checks if check.blocking)

    @property
    def is_unlocked(self) -> bool:
        """Whether a start may be asked for now."""
        return self.state == "checked" and not self.blocking and not self.num_pending

    @property
    def lock(self) -> str:
        """What still locks the start, in one sentence; empty where nothing does."""
        if self.is_unlocked or self.state == "starting":
            return ""
        parts = []
        if self.blocking:
            text = trn(
                "{num} check blocks: {names}.",
                "{num} checks block: {names}.",
                len(self.blocking),
                names=_names(self.blocking),
            )
            parts.append(text)
        if self.state != "checking" and self.num_pending:
            text = trn(
                "{num} check has no verdict: {key} makes them.",
                "{num} checks have no verdict: {key} makes them.",
                self.num_pending,
                key=key("preflight.again"),
            )
            parts.append(text)
        return " ".join(parts) or tr("Not checked yet: {key} makes the checks.", key=key("preflight.again"))

    @property
    def progress(self) -> str:
        """How far the checks are."""
        return tr(
            "{done} of {total} done, {seconds:.0f} s",
            done=len(self.checks),
            total=len(self.checks) + self.num_pending,
            seconds=self.running_s or 0.0,
        )


def _names(titles: Sequence[str]) -> str:
    shown = ", ".join(fmt.said(title[:_MOST_LETTERS]) for title in titles[:_MOST_NAMES])
    return f"{shown}, …" if len(titles) > _MOST_NAMES else shown


class StartLine(Lines):
    """Two rows: the word, and what it rests on."""

    DEFAULT_CSS = """
    StartLine { height: 2; padding: 0 2; background: $surface; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._readiness = Readiness()

    def show(self, readiness: Readiness) -> None:
        """Show another standing."""
        self._readiness = readiness
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The word first, the rest wrapped behind it."""
        word, style, text = _standing(self._readiness)
        rows = wrap(text, max(1, width - len(word) - 2))
        if len(rows) > height:
            rows = [*rows[: height - 1], rows[height - 1][: width - len(word) - 3] + "…"]
        pad = " " * (len(word) + 2)
        return [[(word + "  " if index == 0 else pad, style), (row, TEXT)] for index, row in enumerate(rows)]


def _standing(now: Readiness) -> tuple[str, str, str]:
    again_key = key("preflight.again")
    if now.state == "starting":
        return (
            tr("… STARTING"),
            BLUE,
            tr("The supervisor makes the checks once more; this may take a minute."),
        )
    if now.state == "checking":
        then = (
            tr("It starts by itself once all are clear; {key} cancels.", key=key("preflight.cancel"))
            if now.starts_then
            else tr("{key} cancels", key=key("preflight.cancel"))
        )
        locked = now.lock if now.blocking else ""
        parts = [part for part in (f"{now.trouble} {locked}".strip(), now.progress, then) if part]
        return tr("… CHECKING"), BLUE, " · ".join(parts)
    if now.trouble:
        again = "" if now.is_unlocked else tr(" {key} checks again.", key=again_key)
        return (tr("! NOT STARTED") if now.is_unlocked else tr("✗ LOCKED")), BAD, now.trouble + again
    if now.is_cancelled:
        return tr("· CANCELLED"), MUTED, tr("{lock} {key} checks again.", lock=now.lock, key=again_key)
    if now.state == "idle" and now.live_run:
        text = tr(
            "Run {live_run} is going; {show} shows it. {key} makes the checks all the same.",
            live_run=now.live_run,
            show=key("app.run"),
            key=again_key,
        )
        return tr("· NOT CHECKED"), MUTED, text
    if now.state == "idle":
        return tr("· NOT CHECKED"), MUTED, tr("{key} makes the checks.", key=again_key)
    if now.lock:
        is_by_hand = all(check.remedy_action == "tick" for check in now.checks if check.blocking)
        how = (
            tr("{key} ticks it, once it is so.", key=key("preflight.tick"))
            if is_by_hand
            else tr("Mend, then {key}; or waive with {waive}.", key=again_key, waive=key("preflight.waive"))
        )
        return tr("✗ LOCKED"), BAD, f"{now.lock} {how}"
    return _unlocked(now.checks)


def _unlocked(checks: Sequence[Check]) -> tuple[str, str, str]:
    waived = [check.title for check in checks if check.status == "waived"]
    warned = [check.title for check in checks if check.status == "warn"]
    notes = [
        tr("waived: {names}", names=_names(waived)) if waived else "",
        tr("warned: {names}", names=_names(warned)) if warned else "",
    ]
    told = "; ".join(note for note in notes if note)
    text = tr("Press {key} to start.", key=key("preflight.start")) + (f" ({told})" if told else "")
    return tr("✓ UNLOCKED"), DOUBTFUL if waived else GOOD, text
