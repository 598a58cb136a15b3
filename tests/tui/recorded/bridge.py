"""A bridge that hands out recorded facts."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from engine import settings_edit
from engine.appearance import Appearance, read_appearance
from engine.bill import EntryDetail
from engine.errors import BlockedError, EngineError
from engine.estimate import Estimate, estimate
from engine.opening import Opening
from engine.records import (
    Check,
    CheckStep,
    ClosingReport,
    DamagedRun,
    LedgerEntry,
    OpenProcess,
    OpenProcesses,
    RunSnapshot,
    RunState,
    RunSummary,
    TimeSpan,
)
from engine.runs.logs import LogReader
from engine.settings_edit import SettingsForm
from engine.settings_file import template
from engine.shelf import Comparison, Removal, RemovalKind
from engine.story import Digest, SampleBook, TextRequest
from tests.tui.recorded.books import detailed, estimated
from tests.tui.recorded.checks import REHEARSED, WAITING, checks, opened_programs
from tests.tui.recorded.facts import GPU
from tests.tui.recorded.run import RUN_ID, SAMPLE_TEXT, in_span, snapshot, summary
from tests.tui.recorded.shelf import comparison, removal
from tests.tui.recorded.state import in_state
from tests.tui.recorded.story import book_of, recorded_log


class RecordedBridge:
    """Hands out recorded facts in place of a workspace, and remembers what it was asked."""

    def __init__(
        self, *shots: RunSnapshot, has_settings: bool = True, entries: tuple[LedgerEntry, ...] = ()
    ) -> None:
        self.shots = {shot.status.id: shot for shot in shots}
        self.is_workspace = has_settings
        self.entries = entries
        self.verdicts: list[Check] = checks()
        self.asked: list[tuple[str, str]] = []
        self.in_the_way: list[Check] = []
        """What blocks a resume until it is waived or ticked."""
        self.decided: list[tuple[dict[str, str], list[str]]] = []
        """The waivers and ticks of each asking."""
        self.started: list[dict[str, str]] = []
        self.num_snapshots = 0
        self.spans: list[TimeSpan] = []
        self.failure: EngineError | None = None
        self.known: tuple[Check, ...] = ()
        self.slow: dict[str, float] = {}
        """Seconds that a check takes, by its id."""
        self.open = opened_programs()
        self.closed: list[tuple[tuple[int, ...], bool]] = []
        self.closing_reports: list[ClosingReport] = []
        self.close_s = 0.0
        self.applied: list[str] = []
        self.plan = estimated()
        self.details = {known.run_id: detailed(known) for known in entries}
        self._place = tempfile.TemporaryDirectory(prefix="llm-tui-recorded-")
        self.folder_of_settings = Path(self._place.name)
        self.settings_path = self.folder_of_settings / "settings.toml"
        if has_settings:
            self.settings_path.write_text(template(), "utf-8")
        self.digest: Digest | None = None
        self.tags: dict[str, tuple[str, ...]] = {}
        self.removed: list[tuple[str, str]] = []
        self.archived: dict[str, float] = {}
        self.damaged: tuple[DamagedRun, ...] = ()
        self.outputs: dict[str, str] = {}
        """What the processes of a run have printed beside a line a step."""
        spoken = next((shot for shot in shots if shot.text_sample), None)
        self.book = book_of(spoken or in_state("running"))
        self.texts: list[TextRequest] = []

    def appearance(self) -> Appearance:
        return read_appearance(self.settings_path)

    def opening(self) -> Opening:
        return Opening("" if self.shots or not self.is_workspace else "preflight")

    def keep_theme(self, name: str) -> None:
        self.save_settings(self.settings_form(), {"ui.theme": f'"{name}"'})

    def has_settings(self) -> bool:
        return self.is_workspace

    def write_settings(self) -> Path:
        self.is_workspace = True
        self.settings_path.write_text(template(), "utf-8")
        return self.settings_path

    def runs(self) -> tuple[RunSummary, ...]:
        found = (
            replace(
                summary(shot, run_id), tags=self.tags.get(run_id, ()), archived_at=self.archived.get(run_id)
            )
            for run_id, shot in self.shots.items()
        )
        return tuple(sorted(found, key=lambda run: -run.created_at))

    def damaged_runs(self, known: Sequence[str] = ()) -> tuple[DamagedRun, ...]:
        return self.damaged

    def snapshot(self, run_id: str, span: TimeSpan, num_columns: int) -> RunSnapshot:
        self.num_snapshots += 1
        self.spans.append(span)
        if self.failure:
            raise self.failure
        shot = self.shots[run_id]
        return in_span(replace(shot, status=replace(shot.status, id=run_id)), span)

    def start(self, waivers: Mapping[str, str], ticks: Sequence[str] = ()) -> str:
        if self.failure:
            raise self.failure
        self.started.append({**waivers, **{check_id: "ticked" for check_id in ticks}})
        self.shots[RUN_ID] = in_state("preparing")
        return RUN_ID

    def ask(
        self, run_id: str, verb: str, waivers: Mapping[str, str] | None = None, ticks: Sequence[str] = ()
    ) -> tuple[bool, str]:
        self.asked.append((run_id, verb))
        self.decided.append((dict(waivers or {}), list(ticks)))
        left = [check for check in self.in_the_way if check.id not in {*(waivers or ()), *ticks}]
        if left:
            raise BlockedError("Checks stand in the way.", "Waive them.", left)
        state = {"pause": RunState.PAUSED, "resume": RunState.RUNNING, "stop": RunState.STOPPED}.get(verb)
        if state:
            self.shots[run_id] = snapshot(state, device=self.shots[run_id].plan.device)
        return True, f"{verb}: done"

    def ledger(self) -> tuple[LedgerEntry, ...]:
        if self.failure:
            raise self.failure
        return self.entries

    def estimate(self) -> Estimate:
        if self.failure:
            raise self.failure
        return self.plan

    def settings_form(self) -> SettingsForm:
        return settings_edit.read_form(self.settings_path)

    def check_settings(self, form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        settings_edit.check(form, changes)

    def save_settings(self, form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        settings_edit.save(form, changes)

    def estimate_of(self, form: SettingsForm, changes: Mapping[str, str | None]) -> Estimate:
        if self.failure:
            raise self.failure
        return estimate(
            settings_edit.check(form, changes),
            GPU,
            self.folder_of_settings,
            corpus_tokens=1_000_000_000,
            now=1_790_000_000.0,
        )

    def look(self, run_id: str) -> Digest | None:
        digest, self.digest = self.digest, None
        return digest and replace(digest, run_id=run_id)

    def samples(self, run_id: str) -> SampleBook:
        if self.failure:
            raise self.failure
        return replace(self.book, run_id=run_id)

    async def text(self, run_id: str, request: TextRequest) -> AsyncGenerator[str, None]:
        self.texts.append(request)
        for piece in SAMPLE_TEXT.split(" "):
            await asyncio.sleep(0.01)
            yield f"{piece} "

    def log(self, run_id: str) -> LogReader:
        if self.failure:
            raise self.failure
        path = self.folder_of_settings / "runs" / run_id
        return LogReader(recorded_log(path, self.shots.get(run_id), self.outputs.get(run_id, "")))

    def entry_detail(self, entry: LedgerEntry) -> EntryDetail:
        return self.details.get(entry.run_id, EntryDetail(storage=None, break_even=()))

    def steps(self) -> tuple[CheckStep, ...]:
        return tuple(CheckStep(id=check.id, title=check.title) for check in self.verdicts)

    def known_checks(self) -> tuple[Check, ...]:
        return self.known

    async def checks(
        self, waivers: Mapping[str, str], ticks: Sequence[str] = ()
    ) -> AsyncGenerator[Check, None]:
        is_blocked = False
        for check in self.verdicts:
            if check.id == "rehearsal":
                continue
            if check.blocking and check.id in waivers:
                evidence = f"{check.evidence} Waived: {waivers[check.id]}"
                check = replace(check, status="waived", blocking=False, evidence=evidence)
            elif check.id in ticks:
                evidence = f"Ticked by hand: {check.title}"
                check = replace(check, status="pass", blocking=False, evidence=evidence, remedy_action="")
            is_blocked = is_blocked or check.blocking
            yield await self._found(check)
        for check in self.verdicts:
            if check.id == "rehearsal":
                if is_blocked and check.status == "pass":
                    check = replace(check, status="skipped", evidence=WAITING, figures=())
                elif not is_blocked and check.evidence == WAITING:
                    check = REHEARSED
                yield await self._found(check)

    async def _found(self, check: Check) -> Check:
        if check.id in self.slow:
            await asyncio.sleep(self.slow[check.id])
        return replace(check, at=time.time(), seconds=0.1)

    def open_processes(self) -> OpenProcesses:
        if self.failure:
            raise self.failure
        return self.open

    def close_processes(self, processes: Sequence[OpenProcess], kill: bool = False) -> ClosingReport:
        self.closed.append((tuple(process.pid for process in processes), kill))
        if self.close_s:
            time.sleep(self.close_s)
        return self.closing_reports.pop(0) if len(self.closing_reports) > 1 else self.closing_reports[0]

    def apply_remedy(self, action: str) -> str:
        if self.failure:
            raise self.failure
        self.applied.append(action)
        return f"{action}: done."

    # --- the shelf of runs ---

    def set_tags(self, run_id: str, tags: Sequence[str]) -> tuple[str, ...]:
        if any(len(tag) > 24 for tag in tags):
            raise EngineError(f"{tags[0]!r} cannot be a tag.", "Make it shorter.")
        self.tags[run_id] = tuple(tags)
        return self.tags[run_id]

    def removal(self, run_id: str, kind: RemovalKind) -> Removal:
        return removal(self.shots[run_id], run_id, kind)

    def remove(self, run_id: str, kind: RemovalKind) -> Removal:
        told = self.removal(run_id, kind)
        self.removed.append((run_id, kind))
        if kind == "delete":
            del self.shots[run_id]
        else:
            self.archived[run_id] = time.time()
        return told

    def compare(self, run_ids: Sequence[str], num_columns: int) -> Comparison:
        shots = [self.shots[run_id] for run_id in run_ids]
        named = [replace(s, status=replace(s.status, id=i)) for s, i in zip(shots, run_ids, strict=True)]
        return comparison(named, [self.tags.get(run_id, ()) for run_id in run_ids])
