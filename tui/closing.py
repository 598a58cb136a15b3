"""`llm-tui close`: the programs that hold GPU memory, as plain lines, and the closing of some of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError, ExitCode
from engine.records import Closing, ClosingReport, OpenProcess, OpenProcesses
from tui import format as show

if TYPE_CHECKING:
    from engine import Workspace

_NAME_WIDTH = 28


def print_list(found: OpenProcesses) -> None:
    """One line a program, what it holds, and why it is left open where it is."""
    if not found.processes:
        click.echo("No other program holds GPU memory, and none of preflight.close_apps is running.")
    else:
        click.echo(f"{'PID':>8}  {'GPU':>10}  {'RAM':>10}  {'AGE':>9}  {'USER':<10}  NAME")
    for process in found.processes:
        click.echo(_line(process))
    if found.free_bytes is not None:
        click.echo(f"{show.size(found.free_bytes)} of GPU memory free.")
    if found.note:
        click.echo(show.clean(found.note))
    if any(process.may_close for process in found.processes):
        click.echo("llm-tui close PID... closes them, one question each.")


def _line(process: OpenProcess) -> str:
    held = (
        "unknown"
        if process.gpu_bytes is None
        else show.size(process.gpu_bytes)
        if process.gpu_bytes
        else "none"
    )
    user = show.clean(process.user or show.UNKNOWN)[:10]
    line = (
        f"{process.pid:>8}  {held:>10}  {show.size(process.rss_bytes):>10}  {show.duration(process.age_s):>9}  "
        f"{user:<10}  {_name(process)}"
    )
    return line if process.may_close else f"{line}  ({show.clean(process.why_not)})"


def _name(process: OpenProcess) -> str:
    name = show.clean(process.name)
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def close(
    workspace: Workspace,
    found: OpenProcesses,
    pids: Sequence[int],
    *,
    is_sure: bool,
    kill: bool,
    as_json: bool,
) -> int:
    """Close the programs of these numbers, each after a question unless `is_sure`; the exit code.

    Those that are still there are killed after a second question, which `kill` and `is_sure` together answer.
    Raises: EngineError where a number is not in the list, or there is nobody to ask.
    """
    listed = {process.pid: process for process in found.processes}
    unknown = [pid for pid in pids if pid not in listed]
    if unknown:
        raise EngineError(
            f"{', '.join(map(str, unknown))} is not in the list of programs to close.",
            "`llm-tui close` prints the list: who holds GPU memory, and who is named in preflight.close_apps.",
        )
    wanted = [listed[pid] for pid in dict.fromkeys(pids)]
    if not is_sure:
        wanted = [process for process in wanted if _is_agreed(process)]
    if not wanted:
        click.echo("Nothing was closed.", err=as_json)
        return int(ExitCode.OK)
    report = workspace.close_processes(wanted)
    stubborn = [closing.process for closing in report.closings if closing.outcome == "still-there"]
    if stubborn and not (kill and is_sure):
        stubborn = [process for process in stubborn if sys.stdin.isatty() and _is_agreed_to_kill(process)]
    if stubborn:
        report = _merged(report, workspace.close_processes(stubborn, kill=True))
    if as_json:
        from tui.bridge import to_json

        click.echo(to_json(report))
    else:
        _print_report(report)
    outcomes = {closing.outcome for closing in report.closings}
    if "refused" in outcomes:
        return int(ExitCode.USAGE)
    return int(ExitCode.BLOCKED if "still-there" in outcomes else ExitCode.OK)


def _is_agreed(process: OpenProcess) -> bool:
    if not process.may_close:
        return True  # the engine refuses it, and says why
    if not sys.stdin.isatty():
        raise EngineError("There is no terminal to ask on.", "Add --yes to close them without a question.")
    return click.confirm(f"Close {_name(process)} (pid {process.pid})?", default=False, err=True)


def _is_agreed_to_kill(process: OpenProcess) -> bool:
    who = f"{_name(process)} (pid {process.pid})"
    return click.confirm(f"{who} does not close. End it without saving its work?", default=False, err=True)


def _merged(first: ClosingReport, second: ClosingReport) -> ClosingReport:
    """What came of asking and then of killing."""
    later = {closing.process.pid: closing for closing in second.closings}
    return ClosingReport(
        closings=tuple(later.get(closing.process.pid, closing) for closing in first.closings),
        free_before_bytes=first.free_before_bytes,
        free_after_bytes=second.free_after_bytes,
        came_back=(*first.came_back, *second.came_back),
    )


def _print_report(report: ClosingReport) -> None:
    for closing in report.closings:
        click.echo(_outcome(closing))
    if report.freed_bytes is not None and report.free_after_bytes is not None:
        change = show.size(abs(report.freed_bytes))
        word = "came free" if report.freed_bytes >= 0 else "was taken meanwhile"
        click.echo(f"{change} of GPU memory {word}: {show.size(report.free_after_bytes)} free now.")
    for process in report.came_back:
        click.echo(
            f"{_name(process)} came back by itself (pid {process.pid}): it is started again by something."
        )


def _outcome(closing: Closing) -> str:
    process, reason = closing.process, show.clean(closing.reason)
    who = f"{_name(process)} (pid {process.pid})"
    if closing.outcome == "closed":
        return f"{who} closed after {closing.waited_s:.1f} s."
    if closing.outcome == "gone":
        return f"{who} was gone already."
    hint = f" llm-tui close {process.pid} --yes --kill" if closing.outcome == "still-there" else ""
    return f"{who} {'was left open' if closing.outcome == 'refused' else 'is still there'}. {reason}{hint}"
