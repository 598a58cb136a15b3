"""`llm-tui close`: the programs that hold GPU memory, as plain lines, and the closing of some of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError, ExitCode
from engine.records import Closing, ClosingReport, OpenProcess, OpenProcesses
from tui import format as show
from tui.language import tr

if TYPE_CHECKING:
    from engine import Workspace

_NAME_WIDTH = 28


def print_list(found: OpenProcesses) -> None:
    """One line a program, what it holds, and why it is left open where it is."""
    if not found.processes:
        click.echo(tr("No other program holds GPU memory, and none of preflight.close_apps is running."))
    else:
        click.echo(f"{'PID':>8}  {'GPU':>10}  {'RAM':>10}  {tr('AGE'):>9}  {tr('USER'):<10}  {tr('NAME')}")
    for process in found.processes:
        click.echo(_line(process))
    if found.free_bytes is not None:
        click.echo(tr("{amount} of GPU memory free.", amount=show.size(found.free_bytes)))
    if found.note:
        click.echo(show.said(found.note))
    if any(process.may_close for process in found.processes):
        click.echo(tr("llm-tui close PID... closes them, one question each."))


def _line(process: OpenProcess) -> str:
    held = (
        tr("unknown")
        if process.gpu_bytes is None
        else show.size(process.gpu_bytes)
        if process.gpu_bytes
        else tr("none")
    )
    user = show.clean(process.user or show.UNKNOWN)[:10]
    line = (
        f"{process.pid:>8}  {held:>10}  {show.size(process.rss_bytes):>10}  {show.duration(process.age_s):>9}  "
        f"{user:<10}  {_name(process)}"
    )
    return line if process.may_close else f"{line}  ({show.said(process.why_not)})"


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
            tr("{pids} is not in the list of programs to close.", pids=", ".join(map(str, unknown))),
            tr(
                "`llm-tui close` prints the list: who holds GPU memory, and who is named in "
                "preflight.close_apps."
            ),
        )
    wanted = [listed[pid] for pid in dict.fromkeys(pids)]
    if not is_sure:
        wanted = [process for process in wanted if _is_agreed(process)]
    if not wanted:
        click.echo(tr("Nothing was closed."), err=as_json)
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
        raise EngineError(
            tr("There is no terminal to ask on."), tr("Add --yes to close them without a question.")
        )
    return click.confirm(
        tr("Close {name} (pid {pid})?", name=_name(process), pid=process.pid), default=False, err=True
    )


def _is_agreed_to_kill(process: OpenProcess) -> bool:
    who = f"{_name(process)} (pid {process.pid})"
    return click.confirm(
        tr("{who} does not close. End it without saving its work?", who=who), default=False, err=True
    )


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
        free = show.size(report.free_after_bytes)
        if report.freed_bytes >= 0:
            click.echo(tr("{change} of GPU memory came free: {free} free now.", change=change, free=free))
        else:
            text = tr(
                "{change} of GPU memory was taken meanwhile: {free} free now.", change=change, free=free
            )
            click.echo(text)
    for process in report.came_back:
        click.echo(
            tr(
                "{name} came back by itself (pid {pid}): it is started again by something.",
                name=_name(process),
                pid=process.pid,
            )
        )


def _outcome(closing: Closing) -> str:
    process, reason = closing.process, show.said(closing.reason)
    who = f"{_name(process)} (pid {process.pid})"
    if closing.outcome == "closed":
        return tr("{who} closed after {seconds} s.", who=who, seconds=show.number(closing.waited_s, 1))
    if closing.outcome == "gone":
        return tr("{who} was gone already.", who=who)
    if closing.outcome == "refused":
        return tr("{who} was left open. {reason}", who=who, reason=reason)
    return (
        tr("{who} is still there. {reason}", who=who, reason=reason)
        + f" llm-tui close {process.pid} --yes --kill"
    )
