"""The thermal governor: at the limit a warning, a checkpoint and a pause; on again when it is cool; and what it cost.

A sensor that is missing is not cool: the run stays paused until a reading says so. A pause of a person's own is never
undone. Time and tokens that heat took are counted, those of a throttled GPU and those of a pause.
"""

from __future__ import annotations

from engine.records import SensorRow, StepRow, ThermalRow
from engine.runs.events import event
from engine.runs.hold import Hold
from engine.runs.store import RunStore
from engine.settings import LimitSettings
from engine.telemetry.nvml_words import HARMFUL_THROTTLES

WHO = "supervisor: temperature"
"""Who gives the governor's commands."""
BLIND_S = 60.0
"""A pause whose sensor was missing for so long is told."""

_USUAL_SHARE = 0.1


class ThermalGuard:
    """Watches the temperature while a trainer is at work."""

    def __init__(self, store: RunStore, limits: LimitSettings, segment: int, longest_s: float) -> None:
        """`segment` is which life of the supervisor this is; a time between readings above `longest_s` is a gap."""
        self._store = store
        self._limits = limits
        self._longest_s = longest_s
        self.row = ThermalRow(segment=segment)
        """What heat has cost in this life of the supervisor."""
        self._hold = Hold(store, WHO)
        self._last_s: float | None = None
        self._seen_s: float | None = None
        self._has_told_blind = False
        self._step = 0
        self._usual_tokens_per_s: float | None = None
        self._had_throttle = False

    def watch(self, row: SensorRow, now_s: float) -> None:
        """Take a reading at a monotonic instant; what it changes is put in the store's queue."""
        took_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        self._count(row, took_s if took_s <= self._longest_s else 0.0)
        if not self._limits.max_gpu_celsius:
            return
        if row.gpu_celsius is None:
            self._stay_blind(now_s)
            return
        self._seen_s, self._has_told_blind = now_s, False
        if row.gpu_celsius >= self._limits.max_gpu_celsius:
            self._cool_down(row.gpu_celsius, now_s)
        elif self._hold.is_on and row.gpu_celsius <= self._limits.resume_gpu_celsius:
            self._go_on(row.gpu_celsius)

    def rest(self) -> None:
        """There is no trainer now: the time until the next reading is nobody's."""
        self._last_s = None

    def _cool_down(self, celsius: float, now_s: float) -> None:
        if not self._hold.take(now_s):
            return
        text = f"The GPU is at {celsius:.0f} °C, the limit is {self._limits.max_gpu_celsius:g}: cooling down."
        self._store.queue(event("warning", "too-hot", text, gpu_celsius=celsius))
        self._hold.ask()

    def _go_on(self, celsius: float) -> None:
        is_ours = self._hold.let_go()
        what = "going on" if is_ours else "someone else's pause stays"
        text = f"The GPU is at {celsius:.0f} °C: {what}. Heat has held the run for {_minutes(self.row.paused_s)}."
        self._store.queue(event("info", "cooled-down", text, gpu_celsius=celsius))
        if is_ours:
            self._hold.resume()

    def _stay_blind(self, now_s: float) -> None:
        if self._seen_s is None:
            self._seen_s = now_s
        if self._hold.is_on and not self._has_told_blind and now_s - self._seen_s > BLIND_S:
            self._has_told_blind = True
            text = "The GPU's temperature is unknown, so the run stays paused; resume it yourself if you know better."
            self._store.queue(event("warning", "too-hot-blind", text))

    # --- what it costs ----------------------------------------------------------------------------------------

    def _count(self, row: SensorRow, took_s: float) -> None:
        newest = self._store.newest(StepRow, "step")
        is_throttled = not HARMFUL_THROTTLES.isdisjoint((row.gpu_throttle or "").split(", "))
        if newest is not None and newest.step != self._step:
            self._learn(newest)
        self._had_throttle = self._had_throttle or is_throttled
        usual = self._usual_tokens_per_s
        if self._hold.holds:
            self._lose(took_s, paused_tokens_per_s=usual)
        elif is_throttled and not self._hold.is_paused:
            slowed = None if usual is None or newest is None else max(0.0, usual - newest.tokens_per_s)
            self._lose(took_s, throttled_tokens_per_s=slowed, is_pause=False)

    def _learn(self, newest: StepRow) -> None:
        """The usual speed is that of steps during which nothing throttled."""
        if not self._had_throttle and self._step:
            usual = self._usual_tokens_per_s or newest.tokens_per_s
            self._usual_tokens_per_s = usual + _USUAL_SHARE * (newest.tokens_per_s - usual)
        self._step, self._had_throttle = newest.step, False

    def _lose(
        self,
        took_s: float,
        *,
        paused_tokens_per_s: float | None = None,
        throttled_tokens_per_s: float | None = None,
        is_pause: bool = True,
    ) -> None:
        row = self.row
        if took_s <= 0.0:
            return
        self.row = ThermalRow(
            segment=row.segment,
            throttled_s=row.throttled_s + (0.0 if is_pause else took_s),
            throttled_tokens=_grown(row.throttled_tokens, throttled_tokens_per_s, took_s),
            paused_s=row.paused_s + (took_s if is_pause else 0.0),
            paused_tokens=_grown(row.paused_tokens, paused_tokens_per_s, took_s),
        )
        self._store.queue(self.row)


def _grown(tokens: float | None, tokens_per_s: float | None, took_s: float) -> float | None:
    """The tokens so far and those of this time; None where neither is known."""
    return tokens if tokens_per_s is None else (tokens or 0.0) + tokens_per_s * took_s


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
