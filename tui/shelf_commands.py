"""The commands of the shelf of runs: tag, archive, delete, compare."""

from __future__ import annotations

import sys

import click

from engine.errors import EngineError
from engine.shelf import Comparison, RemovalKind
from tui import format as fmt
from tui.cli_parts import open_workspace_of


def add_to(group: click.Group) -> None:
    """Make them commands of the command line."""
    for command in (tag_command, archive_command, delete_command, compare_command):
        group.add_command(command)


@click.command("tag")
@click.argument("run", metavar="RUN")
@click.argument("tags", nargs=-1, metavar="[TAG]...")
@click.option("--clear", is_flag=True, help="take all tags away")
@click.pass_context
def tag_command(ctx: click.Context, run: str, tags: tuple[str, ...], clear: bool) -> None:
    """Show a run's tags, or give it these in their place."""
    from engine.runs.keep import read_tags, set_tags

    workspace = open_workspace_of(ctx)
    folder = workspace.folder_of(workspace.find(run))
    kept = set_tags(folder, tags) if tags or clear else read_tags(folder)
    for tag in kept:
        click.echo(fmt.clean(tag))


def _remove(ctx: click.Context, run: str, kind: RemovalKind, is_sure: bool) -> None:
    """Say what goes, ask, and do it."""
    from engine.runs.keep import removal, remove

    workspace = open_workspace_of(ctx)
    folder = workspace.folder_of(workspace.find(run))
    told = removal(folder, kind)
    click.echo(f"{fmt.clean(folder.id)}: {kind} frees {fmt.size(told.freed_bytes)}.")
    click.echo(f"  goes:  {told.goes}\n  stays: {told.stays}")
    if not is_sure:
        if not sys.stdin.isatty():
            raise EngineError(f"Nobody is there to be asked whether to {kind} it.", "Give --yes.")
        if not click.confirm(f"{kind} it?"):
            click.echo("Nothing was removed.")
            return
    click.echo(f"{fmt.size(remove(folder, kind).freed_bytes)} freed.")


@click.command("archive")
@click.argument("run", metavar="RUN")
@click.option("--yes", is_flag=True, help="do not ask")
@click.pass_context
def archive_command(ctx: click.Context, run: str, yes: bool) -> None:
    """Delete a run's checkpoints; its model, or the newest of them, and all else stay."""
    _remove(ctx, run, "archive", yes)


@click.command("delete")
@click.argument("run", metavar="RUN")
@click.option("--yes", is_flag=True, help="do not ask")
@click.pass_context
def delete_command(ctx: click.Context, run: str, yes: bool) -> None:
    """Delete a run's folder; what it has cost stays in the ledger."""
    _remove(ctx, run, "delete", yes)


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on stdout and nothing else")
@click.pass_context
def compare_command(ctx: click.Context, runs: tuple[str, ...], as_json: bool) -> None:
    """Show where runs stand, and in which settings they differ."""
    from engine.runs.overlay import compare
    from tui.bridge import to_json

    if len(runs) < 2:
        raise EngineError("A comparison takes two runs or more.", "`llm-tui runs` lists them.")
    workspace = open_workspace_of(ctx)
    found = compare([workspace.folder_of(workspace.find(run)) for run in runs], 400)
    if as_json:
        click.echo(to_json(found))
        return
    _print_comparison(found)


def _print_comparison(found: Comparison) -> None:
    for run in found.runs:
        losses = f"loss {fmt.number(run.loss, 3)}  validation {fmt.number(run.val_loss, 3)}"
        click.echo(
            f"{fmt.clean(run.run_id)}  {run.state.value}  {fmt.count(run.tokens)} tokens  {losses}  "
            f"{fmt.money(run.cost, run.currency)}"
        )
    click.echo()
    for one in found.differences:
        values = "  |  ".join(fmt.clean(value) or fmt.UNKNOWN for value in one.values)
        click.echo(f"{one.key}: {values}")
    if not found.differences:
        click.echo("Their settings are the same.")
