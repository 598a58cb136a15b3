"""The run screen: one run, alive."""

from __future__ import annotations

from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Static

from engine.records import RunSnapshot, RunState, TimeSpan
from tui import format as fmt
from tui.dialogs.confirm import StopRunDialog
from tui.language import mark, tr
from tui.messages import VerbRequested
from tui.screens.room import RoomScreen, no_run_yet
from tui.time_span import moved, span_text, zoomed
from tui.verbs import possible_verbs
from tui.widgets.cost_panel import CostPanel
from tui.widgets.curve_chart import CurveChart
from tui.widgets.facts_panel import Fact, FactsPanel
from tui.widgets.lines import BLUE, ORANGE, STRONG, TEXT
from tui.widgets.loss_chart import LossChart
from tui.widgets.panel import Panel
from tui.widgets.progress_panel import ProgressPanel
from tui.widgets.ramp_panel import RampPanel
from tui.widgets.sensors_panel import SensorsPanel, gauges
from tui.widgets.text_panels import EventsPanel, SamplePanel

STATE_CLASSES = ("stale", *(state.value for state in RunState))


class RunScreen(RoomScreen):
    """Shows the app's `snapshot`; asks for verbs; measures nothing."""

    MODE = "run"
    CSS_PATH = "run.tcss"
    AUTO_FOCUS = "LossChart"
    HELP_TEXT = """
One run: how far it is, how well it learns, how hot it is and what it costs.
Closing the app leaves the run alone; stopping it is a key of its own.

  p    pause, and go on
  c    write a checkpoint now
  x    stop the run (asks first; r goes on later)
  r    go on with one that was stopped, failed or abandoned
  d    leave the app, the run goes on

  + -  less or more time in the curves, from 5 minutes on
  , .  earlier and later      0  the whole run

The end is told at the present speed; in brackets, as fast and
as slow as it went so far, with validations and cooling.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "ask('pause')", "Pause", tooltip="Pause after this step", id="run.pause"),
        Binding("p", "unpause", "Go on", tooltip="Go on with the paused run", id="run.unpause"),
        Binding("r", "resume", "Resume", tooltip="Go on from the newest checkpoint", id="run.resume"),
        Binding("c", "ask('checkpoint')", "Save", tooltip="Write a checkpoint now", id="run.checkpoint"),
        Binding("x", "stop_run", "Stop", tooltip="Write a checkpoint and end", id="run.stop"),
        Binding("d", "detach", "Detach", tooltip="Leave the app, the run goes on", id="run.detach"),
        Binding(
            "plus,equals_sign",
            "zoom_time(1)",
            "Time",
            key_display="+-",
            tooltip="Less time in the curves",
            id="run.narrow",
        ),
        Binding("minus", "zoom_time(-1)", "More time", show=False, id="run.widen"),
        Binding("comma,less_than_sign", "move_time(-1)", "Earlier", show=False, id="run.earlier"),
        Binding("full_stop,greater_than_sign", "move_time(1)", "Later", show=False, id="run.later"),
        Binding("0", "whole_run", "Whole run", show=False, id="run.whole"),
    ]
    progress = getters.query_one(ProgressPanel)
    chart = getters.query_one(LossChart)
    ramp = getters.query_one(RampPanel)
    numbers = getters.query_one("#numbers", FactsPanel)

    def compose_room(self) -> ComposeResult:
        """Progress above, the panels in a grid below."""
        yield Static(no_run_yet(), id="nothing")
        yield ProgressPanel()
        with Container(id="panels"):
            yield LossChart(id="loss")
            yield RampPanel(id="ramp")
            yield FactsPanel(tr("Now"), id="numbers", help_text=_NUMBERS_HELP)
            yield SensorsPanel(id="sensors")
            yield CostPanel(id="cost")
            yield EventsPanel(id="events")
            yield SamplePanel(id="sample")

    def on_mount(self) -> None:
        """Follow the followed run."""
        super().on_mount()
        for name in ("snapshot", "trouble", "asked_verb", "span"):
            self.watch(self.app, name, self._show)

    def _show(self) -> None:
        app = self.room_app
        snapshot = app.snapshot
        self.progress.show(snapshot, app.trouble, app.asked_verb)
        self._set_state_classes(snapshot)
        status = snapshot.status if snapshot else None
        facts = status and (status.state, possible_verbs(status), snapshot and snapshot.is_stale)
        self.offer(_has_curves(snapshot), facts)
        if snapshot is None:
            return
        self._show_ramp(snapshot)
        waiting_for = _waiting_for(snapshot)
        self.chart.show(
            snapshot.train_losses,
            snapshot.val_losses,
            snapshot.status.tokens_total,
            waiting_for,
            is_part=snapshot.span is not None and not snapshot.span.is_whole,
        )
        self.numbers.border_title = tr("At the end") if snapshot.status.state.is_over else tr("Now")
        self.numbers.show(number_facts(snapshot))
        self.query_one(SensorsPanel).show(gauges(snapshot))
        self._name_span(snapshot)
        self.query_one(CostPanel).show(snapshot.cost, snapshot.status.state.is_over)
        self.query_one(EventsPanel).show(snapshot.events)
        self.query_one(SamplePanel).show(snapshot.text_sample)

    def _name_span(self, snapshot: RunSnapshot) -> None:
        """Say in the frames how much time the curves show."""
        words = span_text(self._span, snapshot.span)
        self.chart.set_subtitle(words)
        self.query_one(SensorsPanel).set_subtitle(words)

    def _show_ramp(self, snapshot: RunSnapshot) -> None:
        """In the chart's place while there are no losses yet; the focus goes along."""
        self.ramp.show(snapshot.ramp)
        is_ramping = bool(snapshot.ramp)
        shown, hidden = (self.ramp, self.chart) if is_ramping else (self.chart, self.ramp)
        had_focus = hidden.has_focus
        self.set_class(is_ramping, "-ramping")
        if had_focus:
            shown.focus()

    def _set_state_classes(self, snapshot: RunSnapshot | None) -> None:
        state = snapshot.status.state.value if snapshot else ""
        self.set_class(self.room_app.followed_id is None, "-empty")
        is_stale = bool(self.room_app.trouble) or (snapshot is not None and snapshot.is_stale)
        for name in STATE_CLASSES:
            self.set_class(is_stale if name == "stale" else name == state, f"-{name}")

    # --- what may be asked --------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense in the run's state."""
        snapshot = self.room_app.snapshot
        verbs = possible_verbs(snapshot.status) if snapshot else frozenset()
        is_paused = snapshot is not None and snapshot.status.state is RunState.PAUSED
        if action == "ask":
            is_silent = snapshot is not None and snapshot.is_stale
            return parameters[0] in verbs and (None if is_silent else True)
        if action == "unpause":
            return "resume" in verbs and is_paused
        if action == "resume":
            return "resume" in verbs and not is_paused
        if action == "stop_run":
            return "stop" in verbs
        if action in ("zoom_time", "move_time", "whole_run"):
            return _has_curves(snapshot)
        if action == "detach":
            return snapshot is not None and not snapshot.status.state.is_over
        return super().check_action(action, parameters)

    def _ask(self, verb: str) -> None:
        if (snapshot := self.room_app.snapshot) is not None:
            self.app.post_message(VerbRequested(snapshot.status.id, verb))

    def action_ask(self, verb: str) -> None:
        """Ask the run for something that can be taken back."""
        self._ask(verb)

    def action_unpause(self) -> None:
        """Go on with a paused run."""
        self._ask("resume")

    def action_resume(self) -> None:
        """Go on with a run that is over, or was abandoned."""
        self._ask("resume")

    def action_stop_run(self) -> None:
        """Stop the run, once that is confirmed."""
        if (snapshot := self.room_app.snapshot) is None:
            return
        run_id = snapshot.status.id

        def stop(is_sure: bool | None) -> None:
            if is_sure:
                self.app.post_message(VerbRequested(run_id, "stop"))

        self.app.push_screen(StopRunDialog(run_id), stop)

    # --- how much time the curves show --------------------------------------------------------------------------

    @property
    def _span(self) -> TimeSpan:
        return self.room_app.span or TimeSpan()

    def _show_span(self, span: TimeSpan) -> None:
        if span != self._span:
            self.room_app.span = span
            self.room_app.follower.wake()

    def action_zoom_time(self, direction: int) -> None:
        """Less time (1), or more."""
        if (snapshot := self.room_app.snapshot) is not None:
            self._show_span(zoomed(self._span, snapshot.span, direction))

    def action_move_time(self, direction: int) -> None:
        """Earlier (-1), or later."""
        if (snapshot := self.room_app.snapshot) is not None:
            self._show_span(moved(self._span, snapshot.span, direction))

    def action_whole_run(self) -> None:
        """All of it."""
        self._show_span(TimeSpan())

    @on(CurveChart.ZoomAsked)
    def _zoom(self, message: CurveChart.ZoomAsked) -> None:
        self.action_zoom_time(message.direction)

    @on(CurveChart.EdgeReached)
    def _move(self, message: CurveChart.EdgeReached) -> None:
        self.action_move_time(message.direction)

    def action_detach(self) -> None:
        """Leave; the run goes on."""
        self.room_app.leave()

    def panel_to_maximise(self) -> Panel | None:
        """The loss is the panel to see large, where none has the focus."""
        return super().panel_to_maximise() or (self.ramp if self.has_class("-ramping") else self.chart)


def _has_curves(snapshot: RunSnapshot | None) -> bool:
    """Whether there is a stretch of time to show."""
    return snapshot is not None and snapshot.span is not None and not snapshot.ramp


_NUMBERS_HELP = mark(
    "The newest numbers. Loss and validation are nats a token; bits a byte compares models "
    "with different tokenizers. Of peak is what training makes of the most that this device "
    "was measured to give (MFU). J/token is the energy of the whole machine. Batch is "
    "sequences at a time, times how often they are added up for one step."
)


def number_facts(snapshot: RunSnapshot) -> list[Fact]:
    """The numbers beside the chart that the line of progress has not, the most important first."""
    status = snapshot.status
    batch = f"{status.micro_batch or fmt.UNKNOWN} x {status.grad_accum or fmt.UNKNOWN}"
    checkpoint = tr("step {step}", step=snapshot.checkpoint.step) if snapshot.checkpoint else tr("none yet")
    peak = [] if status.mfu_frac is None else [(tr("of peak"), fmt.percent(status.mfu_frac), TEXT)]
    return [
        (tr("loss"), fmt.number(status.loss, 3), BLUE),
        (tr("validation"), fmt.number(status.val_loss, 3), ORANGE),
        _memory_fact(snapshot),
        *peak,
        (tr("J/token"), fmt.number(_joules_per_token(snapshot), 4), TEXT),
        (tr("learn. rate"), fmt.rate(snapshot.learning_rate), TEXT),
        *_heat_facts(snapshot),
        (tr("bits a byte"), fmt.number(status.val_bits_per_byte, 3), STRONG),
        (tr("gradient"), fmt.number(snapshot.grad_norm, 2), TEXT),
        (tr("batch"), batch, TEXT),
        (tr("checkpoint"), checkpoint, TEXT),
        (tr("restarts"), str(status.restarts), TEXT),
        (tr("elapsed"), fmt.duration(status.elapsed_s), TEXT),
        *_meter_facts(snapshot),
        (tr("context"), str(snapshot.plan.shape.context), TEXT),
        (tr("precision"), snapshot.plan.precision, TEXT),
        (tr("optimizer"), snapshot.plan.optimizer, TEXT),
    ]


def _memory_fact(snapshot: RunSnapshot) -> Fact:
    """Of a GPU what all of its memory holds, of what there is; of a CPU what the trainer holds."""
    sensor = snapshot.sensor
    if sensor is None or sensor.gpu_memory_used_bytes is None or sensor.gpu_memory_total_bytes is None:
        return (tr("memory"), fmt.size(snapshot.memory_bytes), TEXT)
    used, total = sensor.gpu_memory_used_bytes / 2**30, sensor.gpu_memory_total_bytes / 2**30
    return ("VRAM, GiB", f"{fmt.number(used, 2)}/{fmt.number(total, 2)}", TEXT)


def _joules_per_token(snapshot: RunSnapshot) -> float | None:
    joules, tokens = snapshot.status.machine_energy_j, snapshot.status.tokens
    return joules / tokens if joules is not None and tokens else None


def _meter_facts(snapshot: RunSnapshot) -> list[Fact]:
    """How far the GPU's energy counter is from its power added up; nothing where only one of them is known."""
    counted, added = snapshot.gpu_counter_j, snapshot.gpu_integrated_j
    if counted is None or not added:
        return []
    return [(tr("counter off"), fmt.signed_percent(counted / added - 1), TEXT)]


def _heat_facts(snapshot: RunSnapshot) -> list[Fact]:
    """What heat has cost; nothing where it cost nothing."""
    loss = snapshot.thermal
    if loss is None:
        return []
    known = [tokens for tokens in (loss.paused_tokens, loss.throttled_tokens) if tokens is not None]
    return [
        *([(tr("cooling"), fmt.duration(loss.paused_s), TEXT)] if loss.paused_s else []),
        (tr("throttled"), fmt.duration(loss.throttled_s), TEXT),
        (tr("tokens lost"), fmt.count(sum(known)) if known else fmt.UNKNOWN, TEXT),
    ]


def _waiting_for(snapshot: RunSnapshot) -> str:
    if snapshot.status.state is RunState.PREPARING:
        return tr("The curve begins with the first step.")
    return tr("No step was made.") if snapshot.status.state.is_over else tr("Waiting for the first step.")
