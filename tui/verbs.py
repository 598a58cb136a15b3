"""What can be asked of a run in the state it is in, and how its state is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.lines import BAD, BLUE, DOUBTFUL, GOOD, MUTED, ORANGE

if TYPE_CHECKING:
    from engine.records import RunSummary, Status

_SIGNS: dict[str, tuple[str, str]] = {
    "preparing": ("◌", BLUE),
    "running": ("●", GOOD),
    "paused": ("‖", DOUBTFUL),
    "finished": ("✓", GOOD),
    "stopped": ("■", ORANGE),
    "failed": ("✗", BAD),
}
"""By the value of a `RunState`: its class is not imported before a run is shown."""


CHANGING = frozenset(
    {
        *("ask", "unpause", "resume", "stop_run"),
        *("start_run", "next_lock", "waive_check", "tick_step", "apply_remedy", "close_apps", "check_again"),
        *("save", "edit", "next_value", "take_default", "undo", "write"),
        *("tag", "remove"),
    }
)
"""Actions that change something or take the machine's time; a read-only viewer has none of them."""


def is_changing(action: str) -> bool:
    """Whether an action, as a binding names it, is one of `CHANGING`."""
    return action.partition("(")[0].rpartition(".")[2] in CHANGING


_STATE_WORDS = {
    "preparing": mark("preparing"),
    "running": mark("running"),
    "paused": mark("paused"),
    "finished": mark("finished"),
    "stopped": mark("stopped"),
    "failed": mark("failed"),
}
_VERB_WORDS = {
    "pause": mark("pause"),
    "resume": mark("resume"),
    "checkpoint": mark("checkpoint"),
    "stop": mark("stop"),
}


def state_word(state: str) -> str:
    """A state in the language, by the value of a `RunState`; one that is not known as it is, cleaned."""
    return tr(_STATE_WORDS.get(state, "")) or fmt.clean(str(state))


def verb_word(verb: str) -> str:
    """A verb in the language."""
    return tr(_VERB_WORDS.get(verb, verb))


def possible_verbs(status: Status) -> frozenset[str]:
    """The verbs that make sense now."""
    from engine.records import RunState

    if status.state in (RunState.STOPPED, RunState.FAILED):
        return frozenset({"resume"})
    if status.supervisor_pid is None or status.state.is_over:
        return frozenset()
    by_state = {RunState.RUNNING: {"pause", "checkpoint", "stop"}, RunState.PAUSED: {"resume", "stop"}}
    return frozenset(by_state.get(status.state, {"stop"}))


def state_sign(status: Status, is_stale: bool) -> tuple[str, str, str]:
    """A sign, a word and a component class: shape, text and colour say the same."""
    if is_stale and status.state.value == "failed":
        return "✗", tr("abandoned"), BAD
    if is_stale:
        return "?", tr("{state}, silent", state=state_word(status.state)), DOUBTFUL
    sign, style = _SIGNS.get(status.state.value, ("·", MUTED))
    return sign, state_word(status.state), style


def sign_style(sign: str) -> str:
    """The component class of a sign that `state_sign` gives."""
    styles = dict(_SIGNS.values()) | {"?": DOUBTFUL}
    return styles.get(sign, MUTED)


def is_live(status: Status, is_stale: bool) -> bool:
    """Whether a run is going, or should be and nobody answers for it."""
    return is_stale or not status.state.is_over


def live_run(runs: tuple[RunSummary, ...]) -> RunSummary | None:
    """The newest run that is going or abandoned, None where there is none."""
    return next((run for run in runs if is_live(run.status, run.is_stale)), None)
