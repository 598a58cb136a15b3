"""The command line: the app's headless twin. It formats; the engine does and refuses.

Every command ends with an exit code of `engine.errors.ExitCode` and never with a traceback.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from engine.errors import BlockedError, EngineError, ExitCode
from engine.sqlite import BusyError
from tui.format import clean
from tui.join import join_command
from tui.streams import guard_streams

Command = Callable[..., Any]


class _Group(click.Group):
    """Shows what the engine has to say as one message with its remedy."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command on streams that are there and clean."""
        guard_streams()
        return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EngineError as error:
            click.echo(f"llm-tui: {clean(error.title, keep_newlines=True)}", err=True)
            if error.remedy:
                click.echo(f"  → {clean(error.remedy, keep_newlines=True)}", err=True)
            ctx.exit(int(error.exit_code))
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            # Who reads us has gone (`llm-tui runs | head`); Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(int(ExitCode.OK))
        except (OSError, BusyError) as error:
            click.echo(f"llm-tui: {clean(str(error))}", err=True)
            click.echo("  → Look that the workspace is there, writable and held by nobody else.", err=True)
            ctx.exit(int(ExitCode.USAGE))


def _workspace(ctx: click.Context) -> Any:
    from tui.bridge import open_workspace

    folder = Path(ctx.obj["workspace"])
    if not folder.is_dir():
        raise EngineError(
            f"{folder} is not a folder.", "Name one with --workspace, or make it: llm-tui init DIR"
        )
    return open_workspace(folder)


def _set_option(command: Command) -> Command:
    return click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="a setting: training.tokens=200000"
    )(command)


def _waive_option(command: Command) -> Command:
    return click.option(
        "--waive", "waivers", multiple=True, metavar="CHECK=REASON", help="start although this check blocks"
    )(command)


def _tick_option(command: Command) -> Command:
    return click.option(
        "--tick",
        "ticks",
        multiple=True,
        metavar="STEP",
        help="a step of your own that is done, e.g. manual-1",
    )(command)


def _json_option(command: Command) -> Command:
    return click.option(
        "--json", "as_json", is_flag=True, help="one JSON document on stdout and nothing else"
    )(command)


def _run_argument(command: Command) -> Command:
    return click.argument("run", required=False, metavar="[RUN]")(command)


def _parse_waivers(waivers: Sequence[str]) -> dict[str, str]:
    found = {}
    for waiver in waivers:
        check, equals, reason = waiver.partition("=")
        if not equals or len(reason.strip()) < 3 or not check.strip():
            raise EngineError(
                f"--waive {waiver}: a waiver names a check and a reason of three letters or more.",
                'For example --waive power="the socket is on a UPS"',
            )
        found[check.strip()] = reason.strip()
    return found


def _print_json(record: Any) -> None:
    from tui.bridge import to_json

    click.echo(to_json(record))


@click.group(
    cls=_Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--workspace",
    default=".",
    metavar="DIR",
    help="the folder with settings.toml; the current one by default",
)
@click.version_option(package_name="llm-tui", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, workspace: str) -> None:
    """Train a language model from scratch on your own small GPU, and manage what the training costs.

    Without a command: the app; where there is no terminal, the same job as plain lines. Exit codes: 0 done,
    1 the run failed, 2 bad usage or input, 3 a check of the preflight blocks.
    """
    ctx.obj = {"workspace": workspace}
    if ctx.invoked_subcommand is not None:
        return
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from tui.app import open_app

        ctx.exit(open_app(Path(workspace)))
    click.echo("No terminal here: following the run as plain lines.", err=True)
    _run_headless(ctx)


def _run_headless(ctx: click.Context) -> None:
    """What `llm-tui` does without a terminal: follow the run that is alive, else start one."""
    from tui.headless import follow

    workspace = _workspace(ctx)
    if not workspace.has_settings():
        click.echo(f"Wrote {workspace.init()}", err=True)
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

    click.echo(f"Wrote {open_workspace(Path(folder or ctx.obj['workspace'])).init()}")


@main.command("check")
@_set_option
@_waive_option
@_tick_option
@_json_option
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
    for check in _workspace(ctx).checks(overrides=overrides, waivers=_parse_waivers(waivers), ticks=ticks):
        found.append(check)
        if not as_json:
            print_check(check)
    is_clear = not any(check.blocking for check in found)
    is_usable = not any(check.id == "settings" and check.blocking for check in found)
    if as_json:
        _print_json({"clear": is_clear, "checks": found})
    ctx.exit(int(ExitCode.OK if is_clear else ExitCode.BLOCKED if is_usable else ExitCode.USAGE))


@main.command("close")
@click.argument("pids", nargs=-1, type=click.IntRange(1), metavar="[PID]...")
@click.option("--yes", is_flag=True, help="close them without asking for each")
@click.option("--kill", is_flag=True, help="with --yes: kill those that do not close")
@_json_option
@click.pass_context
def close_command(ctx: click.Context, pids: Sequence[int], yes: bool, kill: bool, as_json: bool) -> None:
    """List the programs that hold GPU memory or should be closed; with PIDs, close those.

    Exit 0 where each is closed, 2 where one may not be closed or is not in the list, 3 where one is still there.
    """
    from tui.closing import close, print_list

    workspace = _workspace(ctx)
    found = workspace.open_processes()
    if pids:
        ctx.exit(close(workspace, found, pids, is_sure=yes, kill=kill, as_json=as_json))
    elif as_json:
        _print_json(found)
    else:
        print_list(found)


@main.command("estimate")
@_set_option
@_json_option
@click.option("--rehearse", is_flag=True, help="first time a few real steps on this machine")
@click.pass_context
def estimate_command(ctx: click.Context, overrides: Sequence[str], as_json: bool, rehearse: bool) -> None:
    """Memory, hours, kWh and money, and the cloud beside it, before anything runs."""
    from tui.headless import print_estimate

    workspace = _workspace(ctx)
    if rehearse:
        workspace.rehearse(overrides)
    estimate = workspace.estimate(overrides)
    if as_json:
        _print_json(estimate)
    else:
        print_estimate(estimate)


@main.command("run")
@_set_option
@_waive_option
@_tick_option
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

    workspace = _workspace(ctx)
    try:
        run_id = workspace.start(overrides=overrides, waivers=_parse_waivers(waivers), ticks=ticks)
    except BlockedError as error:
        click.echo("llm-tui: the preflight blocks the start:", err=True)
        click.echo(clean(error.title, keep_newlines=True), err=True)
        ctx.exit(int(ExitCode.BLOCKED))
    click.echo(run_id)
    if not detach:
        ctx.exit(follow(workspace, run_id))


@main.command("runs")
@_json_option
@click.pass_context
def runs_command(ctx: click.Context, as_json: bool) -> None:
    """List the runs, newest first, and what is wrong with those that cannot be read."""
    from tui.headless import print_damaged_runs, print_runs

    workspace = _workspace(ctx)
    runs, damaged = workspace.runs(), workspace.damaged_runs()
    if as_json:
        _print_json([*runs, *damaged])
        return
    if runs or not damaged:
        print_runs(runs)
    print_damaged_runs(damaged)


@main.command("status")
@_run_argument
@_json_option
@click.pass_context
def status_command(ctx: click.Context, run: str | None, as_json: bool) -> None:
    """Show one run's state."""
    from tui.headless import print_status

    workspace = _workspace(ctx)
    status = workspace.status(workspace.find(run))
    if as_json:
        _print_json(status)
    else:
        print_status(status)


def _control(ctx: click.Context, run: str | None, verb: str) -> None:
    workspace = _workspace(ctx)
    run_id = workspace.find(run)
    answer = workspace.command(run_id, verb, via="command line")
    click.echo(clean(answer.message), err=not answer.is_done)
    ctx.exit(int(ExitCode.OK if answer.is_done else ExitCode.FAILED))


@main.command("pause")
@_run_argument
@click.pass_context
def pause_command(ctx: click.Context, run: str | None) -> None:
    """Pause a run after the step it is in; it keeps its memory."""
    _control(ctx, run, "pause")


@main.command("resume")
@_run_argument
@_set_option
@_waive_option
@_tick_option
@click.pass_context
def resume_command(
    ctx: click.Context,
    run: str | None,
    overrides: Sequence[str],
    waivers: Sequence[str],
    ticks: Sequence[str],
) -> None:
    """Go on with a run that is paused, stopped, failed or lost; --set changes limits and scale alone."""
    workspace = _workspace(ctx)
    agreed = {"overrides": overrides, "waivers": _parse_waivers(waivers), "ticks": ticks}
    click.echo(clean(workspace.resume(workspace.find(run), **agreed, via="command line")))


@main.command("checkpoint")
@_run_argument
@click.pass_context
def checkpoint_command(ctx: click.Context, run: str | None) -> None:
    """Save a checkpoint now."""
    _control(ctx, run, "checkpoint")


@main.command("stop")
@_run_argument
@click.pass_context
def stop_command(ctx: click.Context, run: str | None) -> None:
    """Save a checkpoint and end a run; `resume` goes on with it."""
    _control(ctx, run, "stop")


@main.command("ledger")
@_json_option
@click.option("--csv", "as_csv", is_flag=True, help="every column, for a spreadsheet")
@click.pass_context
def ledger_command(ctx: click.Context, as_json: bool, as_csv: bool) -> None:
    """What every run cost."""
    from tui.headless import print_ledger

    workspace = _workspace(ctx)
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two documents: ask for one of them.")
    if as_csv:
        click.echo(workspace.ledger_csv(), nl=False)
    elif as_json:
        _print_json(workspace.ledger())
    else:
        print_ledger(workspace.ledger())


main.add_command(join_command)


@main.command("report")
@click.pass_context
def report_command(ctx: click.Context) -> None:
    """Rewrite the generated part of TRAINING.md; where that cannot be, print what it would have been."""
    workspace = _workspace(ctx)
    text = workspace.report_text()
    try:
        click.echo(f"Wrote the generated part of {workspace.report()}")
    except EngineError:
        click.echo(text)
        raise


@main.command("generate")
@_run_argument
@click.option("--prompt", default="def ", show_default=True, help="how the text begins")
@click.option("--max-tokens", default=200, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--temperature", default=0.8, show_default=True, type=click.FloatRange(0, 10))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**31 - 1))
@click.pass_context
def generate_command(
    ctx: click.Context, run: str | None, prompt: str, max_tokens: int, temperature: float, seed: int
) -> None:
    """Let a run's model go on with a text; it comes from the newest good checkpoint, on the CPU."""
    if not math.isfinite(temperature):
        raise click.BadParameter("it is no number.", param_hint="--temperature")
    workspace = _workspace(ctx)
    argv = workspace.generate_argv(
        workspace.find(run), prompt, max_tokens=max_tokens, temperature=temperature, seed=seed
    )
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        click.echo(clean(prompt, keep_newlines=True), nl=False)
        while piece := process.stdout.read(1):
            click.echo(clean(piece, keep_newlines=True), nl=False)
    click.echo()
    ctx.exit(process.returncode)
