"""`llm-tui join`: this machine's processes for a run that another machine leads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from tui.bridge import join_argv
from tui.spoken_help import SpokenCommand


@click.command("join", cls=SpokenCommand)
@click.pass_context
def join_command(ctx: click.Context) -> None:
    """Train along on this machine in a run that another one leads, until it ends; settings.toml says where."""
    ctx.exit(subprocess.call(join_argv(Path(ctx.obj["workspace"]))))
