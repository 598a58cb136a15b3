"""The client: everything that a viewer or the command line may ask of a workspace.

No call here holds a lock that a run needs, and none imports torch, pynvml or numpy into the caller.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import __version__, settings_file
from engine.errors import BlockedError, EngineError, RunFailedError
from engine.ledger.book import LedgerBook, to_csv
from engine.preflight.steps import refuse_unknown
from engine.process import module_argv, who
from engine.records import (
    AcknowledgementRow,
    DamagedRun,
    Device,
    EventRow,
    LedgerEntry,
    RunPlan,
    RunSnapshot,
    RunState,
    RunSummary,
    Status,
)
from engine.runs import folder as folders
from engine.runs.books import report, report_text, run_storage
from engine.runs.checklist import Checklist
from engine.runs.folder import RunFolder
from engine.runs.launch import abandon, launch
from engine.runs.lock import holder
from engine.runs.mend import mend_where_nobody_does
from engine.runs.owner import require_own
from engine.runs.view import read_snapshot, read_status, read_summary
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.bill import EntryDetail, StorageBook
    from engine.estimate import Estimate
    from engine.rehearsal import Rehearsal


SETTLE_S = 10.0
"""How long a supervisor may take to leave once its run is over, or to begin."""


class Workspace(Checklist):
    """One folder with a settings.toml: its settings, its checklist, its runs, its books."""

    # --- before a run -----------------------------------------------------------------------------------------

    def plan(self, overrides: Sequence[str] = ()) -> tuple[Settings, RunPlan]:
        """What a run would be, with everything `auto` resolved. Raises: SettingsError."""
        from engine.plan import make_plan

        settings = self.settings(overrides)
        return settings, make_plan(settings, self.device(overrides))

    def estimate(self, overrides: Sequence[str] = ()) -> Estimate:
        """What a run would need and cost, with the cloud beside it; of a run that is going, whether to move it.

        Raises: EngineError.
        """
        from engine.runs.outlook import outlook

        return outlook(self.folder, *self.plan(overrides))

    def estimate_of(self, settings: Settings) -> Estimate:
        """The same for settings that are not in the file yet. Raises: EngineError."""
        from engine.plan import make_plan
        from engine.runs.outlook import outlook

        return outlook(self.folder, settings, make_plan(settings, self.device()))

    def rehearse(self, overrides: Sequence[str] = ()) -> Rehearsal:
        """Time a few steps of what a run would be; the estimates that follow go by it. Raises: EngineError."""
        from engine.runs.rehearse import rehearse

        settings, plan = self.plan(overrides)
        return rehearse(self.folder, settings, plan)

    def device(self, overrides: Sequence[str] = ()) -> Device:
        """What a run would train on; a process of its own asks the driver, which may hang or crash.

        Raises: RunFailedError where that process dies or takes over 30 s.
        """
        command = [*module_argv("engine.preflight", str(self.folder), "--device")]
        command += [f"--set={override}" for override in overrides]
        try:
            found = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True
            )
            return msgspec.json.decode(found.stdout, type=Device)
        except (subprocess.SubprocessError, msgspec.DecodeError) as error:
            detail = getattr(error, "stderr", b"") or b""
            raise RunFailedError(
                f"Which device there is cannot be told: {detail.decode('utf-8', 'replace').strip() or error}",
                "If the driver hangs, restart it; CUDA_VISIBLE_DEVICES= (empty) trains on the CPU.",
            ) from error

    # --- runs -------------------------------------------------------------------------------------------------

    def start(
        self,
        *,
        overrides: Sequence[str] = (),
        waivers: Mapping[str, str] | None = None,
        ticks: Sequence[str] = (),
    ) -> str:
        """Start a run; the answer is its id, once its supervisor has found every check clear.

        Raises: SettingsError; BlockedError naming each check that blocks, with its remedy; RunFailedError.
        """
        self._refuse_unknown(waivers, ticks, overrides)
        settings, plan = self.plan(overrides)
        from engine.estimate import predict

        folder = folders.create(
            self.folder,
            settings,
            plan,
            dict(waivers or {}),
            __version__,
            predict(settings, plan, self.folder),
            ticks=ticks,
        )
        try:
            is_own = any(override.partition("=")[0].strip() == "notify.url" for override in overrides)
            launch(folder, settings.notify.url if is_own else "")
        except BaseException:
            # An interrupt too: a run whose id nobody was told must not go on.
            abandon(folder)
            raise
        return folder.id

    def find(self, run: str | None = None) -> str:
        """The id of the run with this id or unique prefix; None is the newest. Raises: EngineError."""
        return folders.find(self.folder, run).id

    def folder_of(self, run_id: str) -> RunFolder:
        """Where a run lies. Raises: EngineError."""
        return folders.find(self.folder, run_id)

    def runs(self) -> list[RunSummary]:
        """Every run that can be read, newest first."""
        found = []
        for folder in folders.all_runs(self.folder):
            with contextlib.suppress(EngineError):
                found.append(read_summary(folder))
        return found

    def damaged_runs(self, known: Collection[str] = ()) -> list[DamagedRun]:
        """The runs that cannot be read, newest first, each with what is wrong and what can be done.

        `known` are the ids of runs that were read just now: they are not read again.
        """
        found = []
        for folder in folders.all_runs(self.folder):
            if folder.id in known:
                continue
            try:
                read_status(folder)
            except EngineError as error:
                found.append(DamagedRun(id=folder.id, damage=error.title, remedy=error.remedy))
        return found

    def status(self, run_id: str) -> Status:
        """One run's state. Raises: EngineError."""
        return read_status(self.folder_of(run_id))

    def snapshot(self, run_id: str, *, num_points: int = 400, num_buckets: int = 120) -> RunSnapshot:
        """All that the run screen shows. Raises: EngineError."""
        return read_snapshot(self.folder_of(run_id), num_points, num_buckets)

    def events(self, run_id: str, after: int = 0) -> list[tuple[int, EventRow]]:
        """Events with their row number, those after `after`, oldest first. Raises: EngineError."""
        with contextlib.closing(self.folder_of(run_id).open()) as store:
            return store.events(after)

    def command(
        self, run_id: str, verb: str, *, timeout_s: float = 120.0, via: str = "the app"
    ) -> AcknowledgementRow:
        """Ask something of a run and wait for its answer: pause, resume, checkpoint or stop.

        Raises: RunFailedError where nobody is there to answer, or no answer came in time; EngineError where the
        run is another user's.
        """
        folder = self.folder_of(run_id)
        require_own(folder.path)
        status = read_status(folder)
        if not folder.is_supervised:
            raise RunFailedError(
                f"Run {folder.id} is {status.state}: there is nothing to {verb}.",
                f"`llm-tui resume {folder.id}` goes on with it." if status.state != RunState.FINISHED else "",
            )
        with folder.writing() as store:
            command_id = store.post_command(verb, f"{who()} ({via})")
            deadline = time.monotonic() + timeout_s
            while time.monotonic() < deadline:
                # Asked before the answer is read: who goes away has answered first.
                is_gone = holder(folder.supervisor_lock) is None
                answer = store.acknowledgement(command_id)
                if answer:
                    return answer
                if is_gone:
                    raise RunFailedError(
                        f"The supervisor of {folder.id} went away before it answered.", "Try again."
                    )
                time.sleep(0.05)
        raise RunFailedError(
            f"Run {folder.id} did not answer within {timeout_s:.0f} s.", "It may still; look again."
        )

    def resume(
        self,
        run_id: str,
        *,
        overrides: Sequence[str] = (),
        waivers: Mapping[str, str] | None = None,
        ticks: Sequence[str] = (),
        via: str = "the app",
    ) -> str:
        """Go on with a run: a paused one at once, one that was stopped or lost under a new supervisor.

        `overrides` are `limits.key=value`, for a run that one of its limits stopped, and `scale.key=value`, for one
        that goes on with more processes or fewer; the rest of its settings is frozen. The checks are made anew: what
        was waived and ticked for a start before does not count. The answer is what was done, in a sentence.
        Raises: BlockedError, as `start`; EngineError where there is nothing to resume, or a limit is reached already.
        """
        folder = self.folder_of(run_id)
        mend_where_nobody_does(folder)
        # A supervisor beside a run that is over is on its way out, or on its way in.
        deadline = time.monotonic() + SETTLE_S
        while folder.is_supervised and read_status(folder).state.is_over and time.monotonic() < deadline:
            time.sleep(0.05)
        status = read_status(folder)
        if folder.is_supervised:
            answer = self.command(folder.id, "resume", via=via)
            if not answer.is_done:
                raise RunFailedError(answer.message)
            return answer.message
        if status.state is RunState.FINISHED:
            raise RunFailedError(f"Run {folder.id} is finished.", "`llm-tui run` starts another one.")
        refuse_unknown(folder.settings(), waivers or {}, ticks)
        self._loosen(folder, status, overrides)
        folders.agree(folder, waivers or {}, ticks)
        try:
            launch(folder)
        except BlockedError as error:
            raise BlockedError(
                error.title,
                f"Or: llm-tui resume {folder.id} --waive CHECK=REASON --tick STEP",
                error.checks,
            ) from error
        return f"Run {folder.id} goes on from its newest checkpoint."

    @staticmethod
    def _loosen(folder: RunFolder, status: Status, overrides: Sequence[str]) -> None:
        """Freeze other limits and scale with a run that is over. Raises: EngineError where it would stop again."""
        from engine.ledger.limits import LimitGuard, Standing
        from engine.telemetry.host import disk_free_bytes

        for override in overrides:
            if not override.strip().startswith(("limits.", "scale.")):
                raise EngineError(
                    f"--set {override}: only limits and scale can change with a resume.",
                    "Start a new run for other settings.",
                )
        settings = settings_file.load(folder.settings_path, overrides)
        hours = (status.elapsed_s or 0.0) / 3600
        now = Standing(hours=hours, cost=status.cost, free_bytes=disk_free_bytes(folder.path))
        reached = LimitGuard(settings.limits, settings.energy.currency).reached(now)
        if reached:
            how = f"Change it: llm-tui resume {folder.id} --set limits.KEY=VALUE; 0 is none."
            raise RunFailedError(reached, how)
        if overrides:
            settings_file.freeze(settings, folder.settings_path)

    # --- books ------------------------------------------------------------------------------------------------

    def ledger(self) -> list[LedgerEntry]:
        """What every run cost, newest entry of each. Raises: StoreError where the ledger is damaged."""
        return LedgerBook(self.folder).entries()

    def ledger_csv(self) -> str:
        """The same with every column, for a spreadsheet. Raises: StoreError."""
        return to_csv(self.ledger())

    def verify_ledger(self) -> int:
        """Check every entry of the ledger; how many there are. Raises: StoreError naming the first bad one."""
        return LedgerBook(self.folder).verify()

    def entry_detail(self, entry: LedgerEntry) -> EntryDetail:
        """What a run of the ledger keeps on the disk, and what it had cost in the cloud. Raises: EngineError."""
        from engine.runs.compare import entry_detail

        return entry_detail(self.folder, entry, self.settings().cloud)

    def storage(self, run_id: str) -> StorageBook:
        """What a run keeps on the disk, and what of it could go. Raises: EngineError."""
        folder = self.folder_of(run_id)
        status = read_status(folder)
        return run_storage(folder, status.state, share_done=(status.tokens or 0) / status.tokens_total)

    def report(self) -> Path:
        """Rewrite the generated part of TRAINING.md. Raises: EngineError."""
        return report(self.folder)

    def report_text(self) -> str:
        """The generated part of TRAINING.md, whether it can be written or not. Raises: StoreError."""
        return report_text(self.folder)

    # --- the model --------------------------------------------------------------------------------------------

    def generate_argv(
        self,
        run_id: str,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        top_p: float = 0.95,
        source: str = "",
    ) -> list[str]:
        """A command whose process streams a text of the run's model to its stdout.

        `source` is "model" or the name of a checkpoint; empty: the newest good one.
        Raises: EngineError where the run has neither a model nor a checkpoint.
        """
        from engine.runs.samples import generate_argv

        return generate_argv(
            self.folder_of(run_id),
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            source=source,
        )


def to_json(record: msgspec.Struct | list[msgspec.Struct] | dict[str, object]) -> str:
    """A record as one JSON document, indented; in ASCII, so that no text in it is anything to a terminal."""
    return json.dumps(msgspec.to_builtins(record), indent=2)
