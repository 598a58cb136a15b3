"""The commands about the window itself: the names of its keys, and the same app in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from engine.errors import EngineError
from tui.join import join_command
from tui.language import tr
from tui.spoken_help import SpokenCommand
from tui.streams import has_terminal


def read_only_option(command: click.decorators.FC) -> click.decorators.FC:
    """The option of a viewer that changes nothing."""
    return click.option(
        "--read-only",
        is_flag=True,
        help="open the app to look on: nothing can be started, asked of a run or saved",
    )(command)


def open_window(ctx: click.Context) -> bool:
    """Open the app and end with it, where no command was named and there is a terminal.

    The answer is whether a command was named. Raises: EngineError where --read-only stands beside what is no window.
    """
    is_read_only, command = ctx.obj["read_only"], ctx.invoked_subcommand
    if command is None and has_terminal():
        from tui.app import open_app

        ctx.exit(open_app(Path(ctx.obj["workspace"]), is_read_only=is_read_only))
    if is_read_only and command is None:
        raise EngineError(
            tr("--read-only needs a terminal."), tr("Without one: llm-tui status, llm-tui runs.")
        )
    if is_read_only and command != "web":
        raise EngineError(
            tr("--read-only is about the app, not about a command."),
            tr("llm-tui --read-only, or llm-tui {command}.", command=command),
        )
    return command is not None


@click.command("keys", cls=SpokenCommand)
def keys_command() -> None:
    """List every key by the name that [ui.keys] of settings.toml knows it by."""
    from tui.keymap import known_bindings, shown

    rows = {bound.id: bound for bound in known_bindings()}
    width = max(map(len, rows))
    for name, bound in rows.items():
        keys = " ".join(map(shown, bound.keys))
        click.echo(f"{name:<{width}}  {keys:<12}  {tr(bound.about)}".rstrip())


@click.command("web", cls=SpokenCommand)
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen on")
@click.option("--port", default=8642, show_default=True, type=click.IntRange(1, 65_535))
@click.pass_context
def web_command(ctx: click.Context, host: str, port: int) -> None:
    """Serve the app to a browser; on this machine alone unless told otherwise, as it has no login."""
    folder = Path(ctx.obj["workspace"])
    if not folder.is_dir():
        raise EngineError(tr("{folder} is not a folder.", folder=folder), tr("Name one with --workspace."))
    try:
        from tui.web import LOOPBACK, serve
    except ImportError:
        raise EngineError(
            tr("llm-tui web needs textual-serve, which is not installed."), "pip install 'llm-tui[web]'"
        ) from None
    if host not in LOOPBACK:
        click.echo(
            tr(
                "Warning: whoever reaches {host}:{port} can start, stop and pay for runs here: there is "
                "no login.\n  → Better: leave --host away, and on your own machine `ssh -L "
                "{port}:localhost:{port} THIS_MACHINE`; or add --read-only.",
                host=host,
                port=port,
            ),
            err=True,
        )
    serve(folder.absolute(), host, port, is_read_only=ctx.obj["read_only"])


def add_commands(group: click.Group) -> None:
    """Make them commands of `llm-tui`."""
    group.add_command(join_command)
    group.add_command(keys_command)
    group.add_command(web_command)
