"""What a run did while nobody looked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key

from tui import format as fmt
from tui.dialogs.dialog import Dialog

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
        title = "While you were away" if digest.since is not None else "Since it began"
        super().__init__(title, "\n".join(digest_lines(digest)), "Any key  go on to the run")

    def on_key(self, event: Key) -> None:
        """Close; the key goes no further, so that it cannot stop or pause a run unseen."""
        event.stop()
        event.prevent_default()
        self.dismiss(None)


def digest_lines(digest: Digest) -> list[str]:
    """The facts, the most important first; what is unknown or did not happen is left out."""
    away = fmt.duration(digest.away_s)
    since = f", since {fmt.clock(digest.since, digest.at)}" if digest.since is not None else ""
    lines = [f"Run {fmt.clean(digest.run_id)}, {away}{since}.", ""]
    facts: list[tuple[str, str]] = [("state", _state(digest))]
    done = digest.tokens_now / digest.tokens_total if digest.tokens_total else None
    facts.append(
        ("tokens", f"+{fmt.count(digest.tokens)}, now {fmt.count(digest.tokens_now)} ({fmt.percent(done)})")
    )
    facts.append(("loss", _then_now(digest.loss_then, digest.loss)))
    facts.append(("validation", _then_now(digest.val_loss_then, digest.val_loss)))
    facts.append(("energy", fmt.energy(digest.machine_energy_j)))
    facts.append(("cost", fmt.money(digest.cost, digest.currency)))
    facts.append(("hottest", _hottest(digest)))
    if digest.throttled_s is not None:
        facts.append(("throttled", fmt.duration(digest.throttled_s)))
    if digest.cooling_s:
        facts.append(("cooling", fmt.duration(digest.cooling_s)))
    facts.append(("restarts", str(digest.restarts)))
    facts.append(("done", _done(digest)))
    lines += [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in facts]
    return lines + _incidents(digest)


def _state(digest: Digest) -> str:
    then = f"{digest.state_then.value} → " if digest.state_then not in (None, digest.state) else ""
    reason = f": {fmt.clean(digest.reason)}" if digest.reason else ""
    return f"{then}{digest.state.value}{reason}"


def _then_now(then: float | None, now: float | None) -> str:
    return fmt.number(now, 3) if then is None else f"{fmt.number(then, 3)} → {fmt.number(now, 3)}"


def _hottest(digest: Digest) -> str:
    known = [("GPU", digest.gpu_celsius_max), ("CPU", digest.cpu_celsius_max)]
    shown = [f"{name} {fmt.whole(celsius, '°C')}" for name, celsius in known if celsius is not None]
    return ", ".join(shown) or "no sensor"


def _done(digest: Digest) -> str:
    if digest.eta is None:
        return fmt.UNKNOWN
    at = fmt.clock(digest.eta, digest.at)
    shift = digest.eta_shift_s
    if shift is None:
        return at
    if abs(shift) < 60:
        return f"{at}, as expected"
    return f"{at}, {fmt.duration(abs(shift))} {'later' if shift > 0 else 'sooner'} than expected"


def _incidents(digest: Digest) -> list[str]:
    if not digest.incidents:
        return ["", "No warning, no error."]
    lines = [""]
    for incident in digest.incidents[:_MOST_INCIDENTS]:
        sign = "✗" if incident.level == "error" else "!"
        times = f" x {incident.num}" if incident.num > 1 else ""
        lines.append(f"{sign} {fmt.clean(incident.kind)}{times}: {fmt.clean(incident.text[:200])}")
    more = len(digest.incidents) - _MOST_INCIDENTS
    if more > 0:
        lines.append(f"  and {more} more kinds: 8 shows the log")
    return lines
