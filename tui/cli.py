"""The command line: the app's headless twin. It formats; the engine does and refuses.

Every command ends with an exit code of `engine.errors.ExitCode` and never with a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from engine.errors import BlockedError, EngineError, ExitCode
from tui.cli_export import COMMANDS
from tui.cli_parts import (
    Group,
    json_option,
    open_workspace_of,
    parse_waivers,
    print_json,
    run_argument,
    set_option,
    tick_option,
    waive_option,
)
from tui.format import clean, said
from tui.language import tr
from tui.shelf_commands import add_to
from tui.window_commands import add_commands, open_window, read_only_option


@click.group(cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--workspace",
    default=".",
    metavar="DIR",
    help="the folder with settings.toml; the current one by default",
)
@read_only_option
@click.version_option(package_name="llm-tui", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, workspace: str, read_only: bool) -> None:
    """Train a language model from scratch on your own small GPU, and manage what the training costs.

    Without a command: the app; where there is no terminal, the same job as plain lines. Exit codes: 0 done,
    1 the run failed, 2 bad usage or input, 3 a check of the preflight blocks.
    """
    ctx.obj = {"workspace": workspace, "read_only": read_only}
    if open_window(ctx):
        return
    click.echo(tr("No terminal here: following the run as plain lines."), err=True)
    _run_headless(ctx)


def _run_headless(ctx: click.Context) -> None:
    """What `llm-tui` does without a terminal: follow the run that is alive, else start one."""
    from tui.headless import follow

    workspace = open_workspace_of(ctx)
    if not workspace.has_settings():
        click.echo(tr("Wrote {path}", path=workspace.init()), err=True)
    alive = [run for run in workspace.runs() if not run.status.state.is_over]
    if alive:
        ctx.exit(follow(workspace, alive[0].id))
    ctx.invoke(run_command, overrides=(), waivers=(), ticks=(), detach=False)


@main.command("init")
@click.argument("folder", required=False, metavar="[DIR]")
@click.pass_context
def init_command(ctx: click.Context, folder: str | None) -> None:
    """Write a documented settings.toml; never overwrite one."""
    from tui.bridge import open_workspace

    click.echo(tr("Wrote {path}", path=open_workspace(Path(folder or ctx.obj["workspace"])).init()))


@main.command("check")
@set_option
@waive_option
@tick_option
@json_option
@click.pass_context
def check_command(
    ctx: click.Context,
    overrides: Sequence[str],
    waivers: Sequence[str],
    ticks: Sequence[str],
    as_json: bool,
) -> None:
    """Run the preflight: exit 0 where it is clear, 3 where something blocks."""
    from tui.headless import print_check

    found = []
    for check in open_workspace_of(ctx).checks(
        overrides=overrides, waivers=parse_waivers(waivers), ticks=ticks
    ):
        found.append(check)
        if not as_json:
            print_check(check)
    is_clear = not any(check.blocking for check in found)
    is_usable = not any(check.id == "settings" and check.blocking for check in found)
    if as_json:
        print_json({"clear": is_clear, "checks": found})
    ctx.exit(int(ExitCode.OK if is_clear else ExitCode.BLOCKED if is_usable else ExitCode.USAGE))


@main.command("close")
@click.argument("pids", nargs=-1, type=click.IntRange(1), metavar="[PID]...")
@click.option("--yes", is_flag=True, help="close them without asking for each")
@click.option("--kill", is_flag=True, help="with --yes: kill those that do not close")
@json_option
@click.pass_context
def close_command(ctx: click.Context, pids: Sequence[int], yes: bool, kill: bool, as_json: bool) -> None:
    """List the programs that hold GPU memory or should be closed; with PIDs, close those.

    Exit 0 where each is closed, 2 where one may not be closed or is not in the list, 3 where one is still there.
    """
    from tui.closing import close, print_list

    workspace = open_workspace_of(ctx)
    found = workspace.open_processes()
    if pids:
        ctx.exit(close(workspace, found, pids, is_sure=yes, kill=kill, as_json=as_json))
    elif as_json:
        print_json(found)
    else:
        print_list(found)


@main.command("estimate")
@set_option
@json_option
@click.option("--rehearse", is_flag=True, help="first time a few real steps on this machine")
@click.pass_context
def estimate_command(ctx: click.Context, overrides: Sequence[str], as_json: bool, rehearse: bool) -> None:
    """Memory, hours, kWh and money, and the cloud beside it, before anything runs."""
    from tui.headless import print_estimate

    workspace = open_workspace_of(ctx)
    if rehearse:
        workspace.rehearse(overrides)
    estimate = workspace.estimate(overrides)
    if as_json:
        print_json(estimate)
    else:
        print_estimate(estimate)


@main.command("run")
@set_option
@waive_option
@tick_option
@click.option("--detach", is_flag=True, help="print the run's id and leave; the run goes on")
@click.pass_context
def run_command(
    ctx: click.Context,
    overrides: Sequence[str],
    waivers: Sequence[str],
    ticks: Sequence[str],
    detach: bool,
) -> None:
    """Run the preflight, then a run; follow it unless detached. The first line is the run's id."""
    from tui.headless import follow

    workspace = open_workspace_of(ctx)
    try:
        run_id = workspace.start(overrides=overrides, waivers=parse_waivers(waivers), ticks=ticks)
    except BlockedError as error:
        click.echo(tr("llm-tui: the preflight blocks the start:"), err=True)
        click.echo(said(error.title, keep_newlines=True), err=True)
        ctx.exit(int(ExitCode.BLOCKED))
    click.echo(run_id)
    if not detach:
        ctx.exit(follow(workspace, run_id))


@main.command("runs")
@json_option
@click.pass_context
def runs_command(ctx: click.Context, as_json: bool) -> None:
    """List the runs, newest first, and what is wrong with those that cannot be read."""
    from tui.headless import print_damaged_runs, print_runs

    workspace = open_workspace_of(ctx)
    runs, damaged = workspace.runs(), workspace.damaged_runs()
    if as_json:
        print_json([*runs, *damaged])
        return
    if runs or not damaged:
        print_runs(runs)
    print_damaged_runs(damaged)


@main.command("status")
@run_argument
@json_option
@click.pass_context
def status_command(ctx: click.Context, run: str | None, as_json: bool) -> None:
    """Show one run's state."""
    from tui.headless import print_status

    workspace = open_workspace_of(ctx)
    status = workspace.status(workspace.find(run))
    if as_json:
        print_json(status)
    else:
        print_status(status)


def _control(ctx: click.Context, run: str | None, verb: str) -> None:
    workspace = open_workspace_of(ctx)
    run_id = workspace.find(run)
    answer = workspace.command(run_id, verb, via="command line")
    click.echo(said(answer.message), err=not answer.is_done)
    ctx.exit(int(ExitCode.OK if answer.is_done else ExitCode.FAILED))


@main.command("pause")
@run_argument
@click.pass_context
def pause_command(ctx: click.Context, run: str | None) -> None:
    """Pause a run after the step it is in; it keeps its memory."""
    _control(ctx, run, "pause")


@main.command("resume")
@run_argument
@set_option
@waive_option
@tick_option
@click.pass_context
def resume_command(
    ctx: click.Context,
    run: str | None,
    overrides: Sequence[str],
    waivers: Sequence[str],
    ticks: Sequence[str],
) -> None:
    """Go on with a run that is paused, stopped, failed or lost; --set changes limits and scale alone."""
    workspace = open_workspace_of(ctx)
    answer = workspace.resume(
        workspace.find(run),
        overrides=overrides,
        waivers=parse_waivers(waivers),
        ticks=ticks,
        via="command line",
    )
    click.echo(clean(answer))


@main.command("checkpoint")
@run_argument
@click.pass_context
def checkpoint_command(ctx: click.Context, run: str | None) -> None:
    """Save a checkpoint now."""
    _control(ctx, run, "checkpoint")


@main.command("stop")
@run_argument
@click.pass_context
def stop_command(ctx: click.Context, run: str | None) -> None:
    """Save a checkpoint and end a run; `resume` goes on with it."""
    _control(ctx, run, "stop")


@main.command("ledger")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="every column, for a spreadsheet")
@click.pass_context
def ledger_command(ctx: click.Context, as_json: bool, as_csv: bool) -> None:
    """What every run cost."""
    from tui.headless import print_ledger

    workspace = open_workspace_of(ctx)
    if as_json and as_csv:
        raise click.UsageError(tr("--json and --csv are two documents: ask for one of them."))
    if as_csv:
        click.echo(workspace.ledger_csv(), nl=False)
    elif as_json:
        print_json(workspace.ledger())
    else:
        print_ledger(workspace.ledger())


@main.command("report")
@click.pass_context
def report_command(ctx: click.Context) -> None:
    """Rewrite the generated part of TRAINING.md; where that cannot be, print what it would have been."""
    workspace = open_workspace_of(ctx)
    text = workspace.report_text()
    try:
        click.echo(tr("Wrote the generated part of {path}", path=workspace.report()))
    except EngineError:
        click.echo(text)
        raise


for _command in COMMANDS:
    main.add_command(_command)
add_commands(main)
add_to(main)
