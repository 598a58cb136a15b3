"""What the commands of the command line share: their errors, their options, and the way to the workspace."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.errors import EngineError, ExitCode
from engine.sqlite import BusyError
from tui.format import clean, said
from tui.language import tr
from tui.spoken_help import SpokenCommand, SpokenContext, speak
from tui.streams import guard_streams

if TYPE_CHECKING:
    from engine.runs.client import Workspace

Command = Callable[..., Any]


class Group(click.Group):
    """Shows what the engine has to say as one message with its remedy."""

    command_class = SpokenCommand
    context_class = SpokenContext

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command on streams that are there and clean."""
        guard_streams()
        return super().main(*arguments, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Before anything is said, the language is chosen."""
        speak(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever a person can mend ends it with its exit code."""
        try:
            return super().invoke(ctx)
        except EngineError as error:
            click.echo(f"llm-tui: {said(error.title, keep_newlines=True)}", err=True)
            if error.remedy:
                click.echo(f"  → {said(error.remedy, keep_newlines=True)}", err=True)
            ctx.exit(int(error.exit_code))
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            # Who reads us has gone (`llm-tui runs | head`); Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(int(ExitCode.OK))
        except (OSError, BusyError) as error:
            click.echo(f"llm-tui: {clean(str(error))}", err=True)
            click.echo(
                tr("  → Look that the workspace is there, writable and not held by another program."),
                err=True,
            )
            ctx.exit(int(ExitCode.USAGE))


def open_workspace_of(ctx: click.Context) -> Workspace:
    """The workspace that the command line names. Raises: EngineError where it is no folder."""
    from tui.bridge import open_workspace

    folder = Path(ctx.obj["workspace"])
    if not folder.is_dir():
        raise EngineError(
            tr("{folder} is not a folder.", folder=folder),
            tr("Name one with --workspace, or make it: llm-tui init DIR"),
        )
    return open_workspace(folder)


def set_option(command: Command) -> Command:
    """--set, any number of times."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="override a setting, e.g. training.tokens=200000",
    )(command)


def waive_option(command: Command) -> Command:
    """--waive, any number of times; see `parse_waivers`."""
    return click.option(
        "--waive", "waivers", multiple=True, metavar="CHECK=REASON", help="start although this check blocks"
    )(command)


def tick_option(command: Command) -> Command:
    """--tick, any number of times."""
    return click.option(
        "--tick",
        "ticks",
        multiple=True,
        metavar="STEP",
        help="a step of your own that is done, e.g. manual-1",
    )(command)


def json_option(command: Command) -> Command:
    """--json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="one JSON document on stdout and nothing else"
    )(command)


def run_argument(command: Command) -> Command:
    """RUN: an id or a unique prefix; None is the newest."""
    return click.argument("run", required=False, metavar="[RUN]")(command)


def parse_waivers(waivers: Sequence[str]) -> dict[str, str]:
    """Reasons by the id of the check. Raises: EngineError where one has neither."""
    found = {}
    for waiver in waivers:
        check, equals, reason = waiver.partition("=")
        if not equals or len(reason.strip()) < 3 or not check.strip():
            raise EngineError(
                tr(
                    "--waive {waiver}: a waiver names a check and a reason of three letters or more.",
                    waiver=waiver,
                ),
                tr('For example --waive power="the socket is on a UPS"'),
            )
        found[check.strip()] = reason.strip()
    return found


def print_json(record: Any) -> None:
    """One JSON document on stdout."""
    from tui.bridge import to_json

    click.echo(to_json(record))
