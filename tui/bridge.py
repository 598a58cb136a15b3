"""The only way from the windows to the works: what the app asks of the engine, and how it waits for it.

The engine is imported at the first call, in a thread, so that the first paint does not wait for it.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from engine.appearance import Appearance, read_appearance
from engine.errors import EngineError
from engine.opening import SETTINGS_NAME, Opening, read_opening
from tui.language import mark, tr
from tui.threads import in_thread

if TYPE_CHECKING:
    from engine.bill import EntryDetail
    from engine.estimate import Estimate
    from engine.records import (
        Check,
        CheckStep,
        ClosingReport,
        DamagedRun,
        LedgerEntry,
        OpenProcess,
        OpenProcesses,
        RemedyAction,
        RunSnapshot,
        RunSummary,
        TimeSpan,
    )
    from engine.runs.client import Workspace
    from engine.runs.curves import CurveMemory
    from engine.runs.logs import LogReader as LogReader
    from engine.settings_edit import SettingsForm
    from engine.shelf import Comparison, Removal, RemovalKind
    from engine.story import Digest, SampleBook, TextRequest

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


READ_ONLY = mark("This viewer is read-only.")
_PIECE_BYTES = 4096
_MOST_LINE_BYTES = 4 * 1024 * 1024
_TERMINATE_PATIENCE_S = 2.0


def writing(
    call: Callable[Concatenate[Bridge, Parameters], Answer],
) -> Callable[Concatenate[Bridge, Parameters], Answer]:
    """What changes something or takes the machine's time: refused to a viewer that is to read alone."""

    @wraps(call)
    def guarded(self: Bridge, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        if self.is_read_only:
            raise EngineError(tr(READ_ONLY), tr("Open llm-tui without --read-only to do this."))
        return call(self, *args, **kwargs)

    return guarded


class Bridge:
    """One workspace, as the app sees it; every call blocks and belongs into `in_thread`."""

    def __init__(self, folder: Path, *, is_read_only: bool = False) -> None:
        self.folder = folder
        self.is_read_only = is_read_only

    @cached_property
    def _workspace(self) -> Workspace:
        return open_workspace(self.folder)

    def appearance(self) -> Appearance:
        """How the screens are to look; quick, and before anything else."""
        return read_appearance(self.folder / SETTINGS_NAME)

    def opening(self) -> Opening:
        """What to open on, as far as that can be told at once."""
        return read_opening(self.folder)

    def has_settings(self) -> bool:
        """Whether the folder is a workspace already."""
        return self._workspace.has_settings()

    @writing
    def write_settings(self) -> Path:
        """Write a documented settings.toml. Raises: EngineError where there is one."""
        return self._workspace.init()

    def runs(self) -> tuple[RunSummary, ...]:
        """Every run that can be read, newest first."""
        return tuple(self._workspace.runs())

    def damaged_runs(self, known: Sequence[str]) -> tuple[DamagedRun, ...]:
        """Every run that cannot be read, newest first, with what is wrong; `known` are those that were just read."""
        return tuple(self._workspace.damaged_runs(known))

    def snapshot(self, run_id: str, span: TimeSpan, num_columns: int) -> RunSnapshot:
        """All that a run screen of so many columns shows, its curves over a stretch of time. Raises: EngineError."""
        from engine.runs.view import read_snapshot

        folder = self._workspace.folder_of(run_id)
        return read_snapshot(folder, max(300, 2 * num_columns), max(40, num_columns), span, self._curves)

    @cached_property
    def _curves(self) -> CurveMemory:
        from engine.runs.curves import CurveMemory

        return CurveMemory()

    @writing
    def start(self, waivers: Mapping[str, str], ticks: Sequence[str] = ()) -> str:
        """Start a run; the answer is its id. Raises: EngineError."""
        return self._workspace.start(waivers=waivers, ticks=ticks)

    @writing
    def ask(
        self, run_id: str, verb: str, waivers: Mapping[str, str] | None = None, ticks: Sequence[str] = ()
    ) -> tuple[bool, str]:
        """Ask something of a run; whether it was done, and what it said. Waivers and ticks are a resume's.

        Raises: BlockedError where checks stand in the way of a resume; EngineError.
        """
        if verb == "resume":
            return True, self._workspace.resume(run_id, waivers=waivers, ticks=ticks)
        answer = self._workspace.command(run_id, verb)
        return answer.is_done, answer.message

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """What every run cost. Raises: EngineError."""
        return tuple(self._workspace.ledger())

    def estimate(self) -> Estimate:
        """What a run would need and cost. Raises: EngineError."""
        return self._workspace.estimate()

    # --- settings -----------------------------------------------------------------------------------------------

    def settings_form(self) -> SettingsForm:
        """settings.toml as a form. Raises: EngineError where it cannot be read at all."""
        from engine.settings_edit import read_form

        return read_form(self._workspace.settings_path)

    def check_settings(self, form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        """Whether the form may have these changes. Raises: EngineError where not."""
        from engine.settings_edit import check

        check(form, changes)

    @writing
    def save_settings(self, form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        """Write changes into the file. Raises: EngineError; the file is then as it was."""
        from engine.settings_edit import save

        save(form, changes)

    def keep_theme(self, name: str) -> None:
        """Write the name of a theme into the file; all else stays. Raises: EngineError."""
        form = self.settings_form()
        self.save_settings(form, {"ui.theme": f'"{name}"'})

    def estimate_of(self, form: SettingsForm, changes: Mapping[str, str | None]) -> Estimate:
        """What a run would need and cost with these changes. Raises: EngineError."""
        from engine.settings_edit import check

        return self._workspace.estimate_of(check(form, changes))

    # --- words --------------------------------------------------------------------------------------------------

    def look(self, run_id: str) -> Digest | None:
        """Keep that somebody looks at a run; what it did since the look before, where that is worth telling.

        A viewer that only reads leaves the news to who may act on them. Raises: EngineError.
        """
        if self.is_read_only:
            return None
        from engine.runs.digest import look

        return look(self._workspace.folder_of(run_id))

    def log(self, run_id: str) -> LogReader:
        """A run's log, to be read in a thread. Raises: EngineError."""
        from engine.runs.logs import LogReader

        return LogReader(self._workspace.folder_of(run_id))

    def samples(self, run_id: str) -> SampleBook:
        """What a run's model has said. Raises: EngineError."""
        from engine.runs.samples import read_samples

        return read_samples(self._workspace.folder_of(run_id))

    @writing
    def text_argv(self, run_id: str, request: TextRequest) -> list[str]:
        """The command whose process writes a text. Raises: EngineError."""
        return self._workspace.generate_argv(
            run_id,
            request.prompt,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            source=request.source,
        )

    async def text(self, run_id: str, request: TextRequest) -> AsyncGenerator[str, None]:
        """A text as it is written, in pieces; leaving the iteration ends the writing.

        Raises: EngineError where there is nothing to write with, with what the process said.
        """
        process = await asyncio.create_subprocess_exec(
            *await in_thread(self.text_argv, run_id, request),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None and process.stderr is not None
        complaint = asyncio.create_task(process.stderr.read())
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        try:
            while data := await process.stdout.read(_PIECE_BYTES):
                if piece := decoder.decode(data):
                    yield piece
            if await process.wait() != 0:
                title, _, remedy = (await complaint).decode("utf-8", "replace").strip().partition("\n")
                raise EngineError(
                    title or tr("The writing ended without a word."), remedy.strip().rsplit("\n", 1)[-1]
                )
        finally:
            complaint.cancel()
            await _end(process)

    # --- the shelf of runs --------------------------------------------------------------------------------------

    @writing
    def set_tags(self, run_id: str, tags: Sequence[str]) -> tuple[str, ...]:
        """Give a run these tags in place of those it has. Raises: EngineError."""
        from engine.runs.keep import set_tags

        return set_tags(self._workspace.folder_of(run_id), tags)

    def removal(self, run_id: str, kind: RemovalKind) -> Removal:
        """What archiving or deleting a run would free. Raises: EngineError where it cannot be."""
        from engine.runs.keep import removal

        return removal(self._workspace.folder_of(run_id), kind)

    @writing
    def remove(self, run_id: str, kind: RemovalKind) -> Removal:
        """Archive or delete a run. Raises: EngineError where it cannot be."""
        from engine.runs.keep import remove

        return remove(self._workspace.folder_of(run_id), kind)

    def compare(self, run_ids: Sequence[str], num_columns: int) -> Comparison:
        """Runs beside each other, for a chart of so many columns. Raises: EngineError."""
        from engine.runs.overlay import compare

        return compare([self._workspace.folder_of(run_id) for run_id in run_ids], 2 * num_columns)

    # --- books and checks ---------------------------------------------------------------------------------------

    def entry_detail(self, entry: LedgerEntry) -> EntryDetail:
        """What is worked out of an entry when one looks at it. Raises: EngineError."""
        return self._workspace.entry_detail(entry)

    def steps(self) -> tuple[CheckStep, ...]:
        """Every line of the checklist, in its order; quick."""
        return self._workspace.steps()

    def known_checks(self) -> tuple[Check, ...]:
        """The verdicts of the last preflight here, as old as their `at` says; quick."""
        return self._workspace.known_checks()

    def open_processes(self) -> OpenProcesses:
        """Who holds GPU memory, and who should be closed. Raises: EngineError."""
        return self._workspace.open_processes()

    @writing
    def close_processes(self, processes: Sequence[OpenProcess], kill: bool = False) -> ClosingReport:
        """Ask programs of that list to end, or kill those that did not; blocks for several seconds."""
        return self._workspace.close_processes(processes, kill=kill)

    @writing
    def apply_remedy(self, action: RemedyAction) -> str:
        """Do what a verdict's `remedy_action` names; what was done. Raises: EngineError where it cannot be."""
        return self._workspace.apply_remedy(action)

    @writing
    def check_argv(self, waivers: Mapping[str, str], ticks: Sequence[str] = ()) -> list[str]:
        """The command whose process prints the verdicts. Raises: EngineError."""
        return self._workspace.check_argv(waivers=waivers, ticks=ticks)

    async def checks(
        self, waivers: Mapping[str, str], ticks: Sequence[str] = ()
    ) -> AsyncGenerator[Check, None]:
        """The preflight's verdicts as they become known, in no order; leaving the iteration ends its process.

        Raises: EngineError where the preflight cannot be carried out.
        """
        import msgspec

        from engine.records import Check

        process = await asyncio.create_subprocess_exec(
            *await in_thread(self.check_argv, waivers, ticks),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MOST_LINE_BYTES,
        )
        assert process.stdout is not None and process.stderr is not None
        complaint = asyncio.create_task(process.stderr.read())
        try:
            async for line in process.stdout:
                yield msgspec.json.decode(line, type=Check)
            if await process.wait() != 0:
                said = (await complaint).decode("utf-8", "replace").strip()
                raise EngineError(
                    said.rsplit("\n", 2)[-1]
                    if "Traceback" in said
                    else said or tr("The checks ended without a word."),
                    tr("`llm-tui check` in a shell shows all that they say."),
                )
        except msgspec.MsgspecError as error:
            raise EngineError(
                tr("A verdict cannot be read: {error}", error=error), tr("Try `llm-tui check` in a shell.")
            ) from error
        finally:
            complaint.cancel()
            await _end(process)


def open_workspace(folder: Path) -> Workspace:
    """The engine's own view of a workspace: what the command line calls."""
    from engine.runs.client import Workspace

    return Workspace(folder)


def join_argv(folder: Path) -> list[str]:
    """A command whose process trains along in a run that another machine leads, to its end."""
    from engine.process import module_argv

    return module_argv("engine.train", "join", str(folder))


def to_json(record: Any) -> str:
    """A record, or a list of them, as one JSON document."""
    from engine.runs import client

    return client.to_json(record)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let go of a process that may still run."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_TERMINATE_PATIENCE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
