"""The supervisor: one detached process that brings a run from its preflight to its entry in the ledger.

It holds the run's lock and the device's lock, checks again what blocks, prepares the corpus, keeps a trainer
alive, samples the sensors, answers what no trainer can answer, and closes the books. It imports no torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable

import msgspec

from engine.errors import DamagedStoreError, StoreError, TrainerExit
from engine.preflight.run import blocked_reason, collect
from engine.process import module_argv
from engine.ramp import PHASE
from engine.records import (
    AcknowledgementRow,
    AttemptRow,
    CheckpointRow,
    CommandRow,
    EventRow,
    RunPlan,
    RunState,
    StepRow,
)
from engine.runs.autopsy import Autopsy
from engine.runs.books import close_books
from engine.runs.child import Child, how_it_ended
from engine.runs.folder import RunFolder
from engine.runs.inhibit import stay_awake
from engine.runs.lock import REHEARSING, Lock, device_lock_path, holder
from engine.runs.mend import mend
from engine.runs.news import News
from engine.runs.ramp import BatchRamp
from engine.runs.silence import Silence
from engine.runs.watch import Watch, event
from engine.sqlite import BusyError

MAX_SILENCE_S = 120.0
"""A trainer that gives no sign of life for this long is frozen: it is killed and started again."""
STOP_PATIENCE_S = 90.0
"""How long a trainer may take to save and leave after a stop was asked for."""
MAX_BACK_OFF_S = 60.0
REHEARSAL_PATIENCE_S = 30.0
POLL_S = 0.2
LAST_WORDS_S = 60.0
"""How long the end of a run is tried to be written where the store is locked or the disk full."""


class Outcome(msgspec.Struct, frozen=True):
    """How the run ended, or this life of it."""

    state: RunState
    reason: str = ""
    is_refused: bool = False
    """Whether the preflight blocked it: nothing was spent, so nothing is booked."""
    damage: str | None = None
    """Why the run's store has to be made anew before the run goes on; None: it is over."""


class Supervisor:
    """The life of one run under one supervisor; `run` is the whole of it."""

    def __init__(
        self, folder: RunFolder, news: News, *, is_checked: bool = False, device_lock: Lock | None = None
    ) -> None:
        """`device_lock` is that of the life before, which nobody was to get in between."""
        self._folder, self._news = folder, news
        self.is_checked = is_checked
        """Whether the preflight has let it begin, in this life or in one before whose store was made anew."""
        self._num_attempts = 0
        self._store = folder.open(read_only=False)
        self._settings = folder.settings()
        self._plan = self._store.meta("plan", RunPlan)
        self._waivers = self._store.meta("waivers", dict[str, str])
        self._ticks = self._store.find_meta("ticks", tuple[str, ...]) or ()
        self.device_lock = device_lock or Lock(device_lock_path(self._plan.device.identity))
        self._watch = Watch(self._store, self._settings, folder.path, os.getpid())
        self._child: Child | None = None
        self._is_training = False
        self._stop: Outcome | None = None
        self._stop_asked_at: float | None = None

    async def run(self) -> Outcome:
        """Go from the preflight to the end of the run; the state in the store says how it ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, signal.Signals(number))
        self._store.set_state(RunState.PREPARING)
        watching = asyncio.create_task(self._watch.run())
        answering = asyncio.create_task(self._answer_commands())
        for task in (watching, answering):
            task.add_done_callback(self._on_task_end)
        helping = [
            asyncio.create_task(work) for work in (stay_awake(self._store), self._news.run(self._store))
        ]
        try:
            outcome = await self._course()
        except DamagedStoreError as error:
            if self._child and self._child.is_alive:
                await self._child.end()
            outcome = Outcome(RunState.PREPARING, damage=error.title)
        finally:
            for task in (answering, watching, *helping):
                task.cancel()
            await asyncio.gather(answering, watching, *helping, return_exceptions=True)
        if not outcome.damage:
            outcome = msgspec.structs.replace(outcome, damage=self._found_damage(outcome))
        if not outcome.damage:
            self._close(outcome)
            self.device_lock.release()
        return outcome

    def _found_damage(self, outcome: Outcome) -> str | None:
        """What is wrong with the store at the end; a failure may have come of what only a look at all of it finds."""
        is_suspect = outcome.state is RunState.FAILED and not outcome.is_refused
        return self._store.find_damage() if is_suspect else self._store.damage

    def mend(self, outcome: Outcome) -> bool:
        """Make the store anew, once `run` has ended for it; whether the run is over.

        Raises: StoreError where the run's plan is lost.
        """
        mend(self._folder, outcome.damage or "", self._store.release())
        if outcome.state not in (RunState.FINISHED, RunState.STOPPED):
            return False
        self._store = self._folder.open(read_only=False)
        self._close(outcome)
        self.device_lock.release()
        return True

    async def _course(self) -> Outcome:
        begin = self._take_device if self.is_checked else self._preflight
        for stage in (begin, self._prepare, self._find_batch_size, self._train):
            outcome = await stage()
            if outcome is not None:
                return outcome
        raise AssertionError("the last stage always has an outcome")

    # --- stages -----------------------------------------------------------------------------------------------

    async def _preflight(self) -> Outcome | None:
        """Check again, now: what was clear a minute ago may not be."""
        self._watch.phase = "checking"
        await self._take_device()
        folder, settings_path = self._folder, self._folder.settings_path
        checks = await collect(
            folder.workspace,
            settings_path,
            folder.path,
            self._waivers,
            self._ticks,
            lambda: self._stop is not None,
        )
        if not checks:
            return self._stop  # the checks were broken off for it
        self._store.keep(checks=checks)
        blocking = [check for check in checks if check.blocking]
        for check in checks:
            if check.status == "waived":
                text = f"{check.title} was waived: {self._waivers.get(check.id, '')}"
                self._store.tell(event("warning", "waived", text, check=check.id))
            elif check.status == "warn":
                self._store.tell(event("info", "preflight-warning", f"{check.title}: {check.evidence}"))
        self.is_checked = not blocking
        if not blocking:
            num_passed = sum(check.status == "pass" for check in checks)
            text = f"The preflight is clear: {num_passed} of {len(checks)} checks passed."
            self._store.tell(event("info", "preflight-clear", text))
        if self._stop:
            return self._stop
        return Outcome(RunState.FAILED, blocked_reason(blocking), is_refused=True) if blocking else None

    async def _take_device(self) -> Outcome | None:
        """Lock the device: a rehearsal that holds it is waited for, another run is the preflight's to tell of."""
        deadline = time.monotonic() + REHEARSAL_PATIENCE_S
        while not self._stop and not self.device_lock.acquire(str(self._folder.path)):
            is_run = holder(self.device_lock.path) not in (None, REHEARSING)
            if is_run or time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
        return self._stop

    async def _prepare(self) -> Outcome | None:
        """Tokenize the corpus, or find it tokenized."""
        self._watch.phase = "reading the corpus"
        for is_last in (False, True):
            exit_code = await self._run_child(module_argv("engine.corpus", str(self._folder.path)))
            if self._stop:
                return self._stop
            if exit_code == 0:
                return None
            if exit_code == TrainerExit.REFUSED or is_last:
                break
            text = f"Preparing the corpus ended with {how_it_ended(exit_code)}."
            self._store.tell(event("warning", "corpus-died", text))
        reason = self._newest_error("corpus") or f"The corpus: {how_it_ended(exit_code)}."
        return Outcome(RunState.FAILED, reason)

    async def _find_batch_size(self) -> Outcome | None:
        """Try sizes on the device itself, where the size was left open and is not remembered."""
        self._watch.phase = PHASE
        ramp = BatchRamp(self._folder, self._store, self._settings, self._plan)
        if not ramp.is_needed:
            return None
        await self._wait_for_former_trainer()
        if self._stop:
            return self._stop
        if not ramp.recall():
            exit_code = await self._run_child(ramp.begin(), is_hopeless=ramp.is_hopeless)
            if self._stop:
                ramp.close_open_row("stopped", "")
                ramp.clear()
                return self._stop
            reason = ramp.conclude(how_it_ended(exit_code))
            if reason:
                return Outcome(RunState.FAILED, reason)
        self._plan = ramp.plan
        return None

    async def _train(self) -> Outcome:
        """Keep a trainer alive until it finished, stopped, or gave up too often."""
        failures, saved_at = 0, self._saved_at()
        while True:
            await self._wait_for_former_trainer()
            if self._stop:
                return self._stop
            autopsy = Autopsy(self._folder.log_path)
            exit_code = await self._attempt()
            outcome = self._outcome_of(exit_code)
            if outcome:
                return outcome
            failures = 1 if self._saved_at() > saved_at else failures + 1
            saved_at = self._saved_at()
            what = f"The trainer ended with {autopsy.verdict(exit_code)}"
            if failures > self._settings.training.max_restarts:
                text = f"{what}, {failures} times in a row without a new checkpoint."
                return Outcome(RunState.FAILED, text)
            back_off_s = min(MAX_BACK_OFF_S, 2.0 ** (failures - 1))
            text = f"{what}; starting it again from its newest good checkpoint in {back_off_s:.0f} s."
            self._store.tell(event("warning", "restart", text, exit_code=exit_code))
            self._watch.phase = "waiting to restart"
            await self._sleep_unless_stopped(back_off_s)

    async def _attempt(self) -> int:
        """One start of the trainer to its end; the exit code. torch's agent may enter more starts meanwhile."""
        self._num_attempts = number = max(self._num_attempts, self._store.num_rows(AttemptRow)) + 1
        self._watch.phase = "training"
        row = AttemptRow(attempt=number, at=time.time(), pid=0, from_step=self._checkpoint_step())

        def started(pid: int) -> None:
            nonlocal row
            row = msgspec.structs.replace(row, pid=pid)
            self._store.tell(row)
            self._is_training = self._watch.guards = True

        try:
            exit_code = await self._run_child(
                module_argv("engine.train", "run", str(self._folder.path)), started, watch_silence=True
            )
        finally:
            self._is_training = self._watch.guards = False
        newest = self._store.newest(AttemptRow, "attempt")
        last = newest if newest and newest.attempt > number else row
        self._store.tell(msgspec.structs.replace(last, ended_at=time.time(), outcome=how_it_ended(exit_code)))
        return exit_code

    def _outcome_of(self, exit_code: int) -> Outcome | None:
        """What an exit code of the trainer means for the run; None: it crashed."""
        if exit_code == TrainerExit.FINISHED:
            return Outcome(RunState.FINISHED)
        if self._stop:
            return self._stop
        if exit_code == TrainerExit.STOPPED:
            return Outcome(RunState.STOPPED, self._stop_reason())
        if exit_code == TrainerExit.REFUSED:
            return Outcome(RunState.FAILED, self._newest_error("trainer") or "The trainer refused to start.")
        return None

    async def _run_child(
        self,
        command: list[str],
        started: Callable[[int], None] | None = None,
        *,
        watch_silence: bool = False,
        is_hopeless: Callable[[], bool] | None = None,
    ) -> int:
        """A process to its end; the exit code. Once it `is_hopeless`, asked every second, it is killed."""
        self._child = await Child.start(command, self._folder.log_path)
        if started:
            started(self._child.pid)
        if self._stop:  # it came while the process was being started, and was told to the one before
            self._child.send(signal.SIGTERM)
        waiting = asyncio.create_task(self._child.wait())
        silence = Silence(self._store, self._child.pid)
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=1.0)
            if is_hopeless and is_hopeless():
                self._child.send(signal.SIGKILL)
            if watch_silence and silence.lasts_s() > MAX_SILENCE_S:
                text = f"The trainer was silent for {MAX_SILENCE_S:.0f} s: killed."
                self._store.tell(event("error", "frozen", text))
                self._child.send(signal.SIGKILL)
                silence = Silence(self._store, self._child.pid)
        return waiting.result()

    async def _wait_for_former_trainer(self) -> None:
        """A trainer whose supervisor was killed saves and leaves by itself; one that does not is killed."""
        deadline = time.monotonic() + MAX_SILENCE_S
        while not self._stop and (text := holder(self._folder.trainer_lock)) is not None:
            self._watch.phase = "waiting for the former trainer to save"
            if time.monotonic() > deadline and text.strip().isdigit():
                # Who holds the lock is alive, so its process id cannot have been given to another.
                with contextlib.suppress(ProcessLookupError):  # it has just gone
                    os.kill(int(text), signal.SIGKILL)
            await asyncio.sleep(POLL_S)

    async def _sleep_unless_stopped(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stop and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)

    # --- commands ---------------------------------------------------------------------------------------------

    async def _answer_commands(self) -> None:
        """Answer what the trainer cannot: everything while there is none, and a stop that it does not heed."""
        while True:
            # A store that is locked now is asked again at the next beat.
            with contextlib.suppress(BusyError, StoreError):
                for command in self._store.open_commands():
                    await self._answer(command)
            await asyncio.sleep(POLL_S)

    async def _answer(self, command: CommandRow) -> None:
        if command.verb == "stop":
            self._stop_asked_at = self._stop_asked_at or time.monotonic()
            is_late = time.monotonic() - self._stop_asked_at > STOP_PATIENCE_S
            if not self._is_training or is_late:
                self._stop = self._stop or Outcome(RunState.STOPPED, self._stop_reason())
                if self._child and self._child.is_alive:
                    await self._child.end()
        elif not self._is_training:
            message = f"The run is {self._watch.phase}: there is nothing to {command.verb} yet."
            self._store.acknowledge(command.id, message, is_done=False)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """A run that nobody guards or answers any more is saved and ended, with the reason."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            text = f"The supervisor could not go on watching ({type(error).__name__}: {error})."
            damage = error.title if isinstance(error, DamagedStoreError) else None
            self._stop = self._stop or Outcome(RunState.FAILED, text, damage=damage)
            if self._child:
                self._child.send(signal.SIGTERM)

    def _on_signal(self, number: signal.Signals) -> None:
        self._stop = self._stop or Outcome(RunState.STOPPED, f"The system ended it ({number.name}).")
        if self._child:
            self._child.send(signal.SIGTERM)

    def _stop_reason(self) -> str:
        asked = [command for command in self._store.open_commands() if command.verb == "stop"]
        who = asked[0].who if asked else "the trainer"
        return who.removeprefix("supervisor: ") if who.startswith("supervisor: ") else f"Stopped by {who}."

    # --- the end ----------------------------------------------------------------------------------------------

    def _close(self, outcome: Outcome) -> None:
        """Books first, then the state: who sees the run ended finds its entry."""
        is_unbegun = not self.is_checked and self._store.newest(StepRow, "step") is None
        is_booked = not outcome.is_refused and not is_unbegun
        problems = close_books(self._folder, self._store, outcome.state) if is_booked else []
        for problem in problems:
            self._store.tell(event("warning", "books", problem))
        text = outcome.reason or f"The run is {outcome.state}."
        self._store.tell(event("info", f"run-{outcome.state}", text))
        self._store.set_state(outcome.state, outcome.reason)
        for command in self._store.open_commands():
            is_done = command.verb == "stop"
            message = f"The run is {outcome.state} at step {self._checkpoint_step()}."
            row = AcknowledgementRow(command_id=command.id, at=time.time(), is_done=is_done, message=message)
            self._store.tell(row)
        deadline = time.monotonic() + LAST_WORDS_S
        while not self._store.flush() and time.monotonic() < deadline:
            time.sleep(POLL_S)  # the end of a run is worth waiting for a lock, or for room on the disk
        self._store.close()

    def _checkpoint_step(self) -> int:
        newest = self._store.newest_checkpoint()
        return newest.step if newest else 0

    def _saved_at(self) -> float:
        return newest.at if (newest := self._store.newest(CheckpointRow, "at")) else 0.0

    def _newest_error(self, source: str) -> str | None:
        found = self._store.rows(
            EventRow, "WHERE source = ? AND level = 'error' ORDER BY rowid DESC LIMIT 1", (source,)
        )
        return found[0].text if found else None
