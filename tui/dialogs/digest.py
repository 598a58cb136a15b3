"""What a run did while nobody looked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Key

from tui import format as fmt
from tui.dialogs.dialog import Dialog
from tui.language import tr
from tui.own_keys import key
from tui.verbs import state_word
from tui.widgets.lines import wrap

if TYPE_CHECKING:
    from engine.story import Digest

_MOST_INCIDENTS = 5
_MOST_CHARACTERS = 200
"""Of what an incident says."""
_LABEL_WIDTH = 14
_LEAST_SHIFT_S = 60.0
"""A shift of the end that is worth a word."""
_WARNING = "$warning"
_STATE_STYLES = {"failed": "bold $error", "paused": "bold $warning", "finished": "bold $success"}
_ROWS = {"down": 1, "j": 1, "up": -1, "k": -1}
"""What scrolls, by its key."""


class DigestDialog(Dialog[None]):
    """Facts to read; any key closes it, and does nothing else, but for those that scroll what is longer."""

    SCROLLS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close", id="digest.close"),
    ]

    def __init__(self, digest: Digest) -> None:
        title = tr("While you were away") if digest.since is not None else tr("Since it began")
        super().__init__(title, "", tr("Any key  go on to the run"))
        self._digest = digest

    def told(self, width: int) -> Content:
        """The facts with their labels in grey; what went wrong in its colour."""
        return Content("\n").join(digest_rows(self._digest, width))

    def on_key(self, event: Key) -> None:
        """Close; the key goes no further, so that it cannot stop or pause a run unseen."""
        event.stop()
        event.prevent_default()
        if event.key in _ROWS and self.has_more_text:
            self.scroll_text(_ROWS[event.key])
        else:
            self.dismiss(None)


def digest_rows(digest: Digest, width: int) -> list[Content]:
    """The facts, the most important first; what is unknown or did not happen is left out."""
    away, run_id = fmt.duration(digest.away_s), fmt.clean(digest.run_id)
    head = tr("Run {run_id}, {away}.", run_id=run_id, away=away)
    if digest.since is not None:
        since = fmt.clock(digest.since, digest.at)
        head = tr("Run {run_id}, {away}, since {since}.", run_id=run_id, away=away, since=since)
    done = digest.tokens_now / digest.tokens_total if digest.tokens_total else None
    tokens = tr(
        "+{tokens}, now {now} ({done})",
        tokens=fmt.count(digest.tokens),
        now=fmt.count(digest.tokens_now),
        done=fmt.percent(done),
    )
    is_late = digest.eta_shift_s is not None and digest.eta_shift_s >= _LEAST_SHIFT_S
    facts = [
        (tr("state"), _state(digest), _STATE_STYLES.get(digest.state, "bold")),
        (tr("tokens"), tokens, ""),
        (tr("loss"), _then_now(digest.loss_then, digest.loss), ""),
        (tr("validation"), _then_now(digest.val_loss_then, digest.val_loss), ""),
        (tr("energy"), fmt.energy(digest.machine_energy_j), ""),
        (tr("cost"), fmt.money(digest.cost, digest.currency), ""),
        (tr("hottest"), _hottest(digest), ""),
    ]
    if digest.throttled_s is not None:
        facts.append((tr("throttled"), fmt.duration(digest.throttled_s), ""))
    if digest.cooling_s:
        facts.append((tr("cooling"), fmt.duration(digest.cooling_s), ""))
    facts.append((tr("restarts"), str(digest.restarts), _WARNING if digest.restarts else ""))
    facts.append((tr("done"), _done(digest), _WARNING if is_late else ""))
    rows = [*map(Content, wrap(head, width)), Content("")]
    for label, text, style in facts:
        first, *more = wrap(text, max(1, width - _LABEL_WIDTH))
        rows.append(Content.styled(label.ljust(_LABEL_WIDTH), "$muted") + Content.styled(first, style))
        rows += [Content(" " * _LABEL_WIDTH) + Content.styled(row, style) for row in more]
    return [*rows, Content(""), *_incidents(digest, width)]


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
    if abs(shift) < _LEAST_SHIFT_S:
        return tr("{at}, as expected", at=at)
    by = fmt.duration(abs(shift))
    if shift > 0:
        return tr("{at}, {by} later than expected", at=at, by=by)
    return tr("{at}, {by} sooner than expected", at=at, by=by)


def _incidents(digest: Digest, width: int) -> list[Content]:
    if not digest.incidents:
        return [Content.styled(tr("No warning, no error."), "$muted")]
    rows: list[Content] = []
    for incident in digest.incidents[:_MOST_INCIDENTS]:
        sign, style = ("✗", "$error") if incident.level == "error" else ("!", _WARNING)
        times = tr(" ({num} times)", num=incident.num) if incident.num > 1 else ""
        text = f"{sign} {fmt.said(incident.text[:_MOST_CHARACTERS])}{times}"
        rows += [Content.styled(row, style) for row in wrap(text, width, lambda _: 2)]
    more = len(digest.incidents) - _MOST_INCIDENTS
    if more > 0:
        text = tr("  and {more} more kinds: {key} shows the log", more=more, key=key("app.log"))
        rows.append(Content.styled(text, "$muted"))
    return rows
