"""What a run did while nobody looked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key

from tui import format as fmt
from tui.dialogs.dialog import Dialog
from tui.language import tr
from tui.own_keys import key
from tui.verbs import state_word

if TYPE_CHECKING:
    from engine.story import Digest

_MOST_INCIDENTS = 5
_LABEL_WIDTH = 14


class DigestDialog(Dialog[None]):
    """Facts to read; any key closes it, and does nothing else."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close", id="digest.close"),
    ]

    def __init__(self, digest: Digest) -> None:
        title = tr("While you were away") if digest.since is not None else tr("Since it began")
        super().__init__(title, "\n".join(digest_lines(digest)), tr("Any key  go on to the run"))

    def on_key(self, event: Key) -> None:
        """Close; the key goes no further, so that it cannot stop or pause a run unseen."""
        event.stop()
        event.prevent_default()
        self.dismiss(None)


def digest_lines(digest: Digest) -> list[str]:
    """The facts, the most important first; what is unknown or did not happen is left out."""
    away, run_id = fmt.duration(digest.away_s), fmt.clean(digest.run_id)
    head = tr("Run {run_id}, {away}.", run_id=run_id, away=away)
    if digest.since is not None:
        since = fmt.clock(digest.since, digest.at)
        head = tr("Run {run_id}, {away}, since {since}.", run_id=run_id, away=away, since=since)
    lines = [head, ""]
    done = digest.tokens_now / digest.tokens_total if digest.tokens_total else None
    tokens = tr(
        "+{tokens}, now {now} ({done})",
        tokens=fmt.count(digest.tokens),
        now=fmt.count(digest.tokens_now),
        done=fmt.percent(done),
    )
    facts = [
        (tr("state"), _state(digest)),
        (tr("tokens"), tokens),
        (tr("loss"), _then_now(digest.loss_then, digest.loss)),
        (tr("validation"), _then_now(digest.val_loss_then, digest.val_loss)),
        (tr("energy"), fmt.energy(digest.machine_energy_j)),
        (tr("cost"), fmt.money(digest.cost, digest.currency)),
        (tr("hottest"), _hottest(digest)),
    ]
    if digest.throttled_s is not None:
        facts.append((tr("throttled"), fmt.duration(digest.throttled_s)))
    if digest.cooling_s:
        facts.append((tr("cooling"), fmt.duration(digest.cooling_s)))
    facts.append((tr("restarts"), str(digest.restarts)))
    facts.append((tr("done"), _done(digest)))
    lines += [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in facts]
    return lines + _incidents(digest)


def _state(digest: Digest) -> str:
    has_changed = digest.state_then not in (None, digest.state)
    then = f"{state_word(digest.state_then)} → " if digest.state_then and has_changed else ""
    reason = f": {fmt.said(digest.reason)}" if digest.reason else ""
    return f"{then}{state_word(digest.state)}{reason}"


def _then_now(then: float | None, now: float | None) -> str:
    return fmt.number(now, 3) if then is None else f"{fmt.number(then, 3)} → {fmt.number(now, 3)}"


def _hottest(digest: Digest) -> str:
    known = [("GPU", digest.gpu_celsius_max), ("CPU", digest.cpu_celsius_max)]
    shown = [f"{name} {fmt.whole(celsius, '°C')}" for name, celsius in known if celsius is not None]
    return ", ".join(shown) or tr("no sensor")


def _done(digest: Digest) -> str:
    if digest.eta is None:
        return fmt.UNKNOWN
    at = fmt.clock(digest.eta, digest.at)
    shift = digest.eta_shift_s
    if shift is None:
        return at
    if abs(shift) < 60:
        return tr("{at}, as expected", at=at)
    by = fmt.duration(abs(shift))
    if shift > 0:
        return tr("{at}, {by} later than expected", at=at, by=by)
    return tr("{at}, {by} sooner than expected", at=at, by=by)


def _incidents(digest: Digest) -> list[str]:
    if not digest.incidents:
        return ["", tr("No warning, no error.")]
    lines = [""]
    for incident in digest.incidents[:_MOST_INCIDENTS]:
        sign = "✗" if incident.level == "error" else "!"
        times = f" x {incident.num}" if incident.num > 1 else ""
        lines.append(f"{sign} {tr(fmt.clean(incident.kind))}{times}: {fmt.said(incident.text[:200])}")
    more = len(digest.incidents) - _MOST_INCIDENTS
    if more > 0:
        lines.append(tr("  and {more} more kinds: {key} shows the log", more=more, key=key("app.log")))
    return lines
