"""The commands of the shelf of runs: tag, archive, delete, compare."""

from __future__ import annotations

import sys

import click

from engine.errors import EngineError
from engine.shelf import Comparison, RemovalKind
from tui import format as fmt
from tui.cli_parts import open_workspace_of
from tui.language import tr
from tui.spoken_help import SpokenCommand
from tui.verbs import state_word


def add_to(group: click.Group) -> None:
    """Make them commands of the command line."""
    for command in (tag_command, archive_command, delete_command, compare_command):
        group.add_command(command)


@click.command("tag", cls=SpokenCommand)
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
    click.echo(
        tr(
            "{run_id}: {kind} frees {freed}.",
            run_id=fmt.clean(folder.id),
            kind=tr(kind),
            freed=fmt.size(told.freed_bytes),
        )
    )
    click.echo(tr("  goes:  {goes}\n  stays: {stays}", goes=fmt.said(told.goes), stays=fmt.said(told.stays)))
    if not is_sure:
        if not sys.stdin.isatty():
            raise EngineError(
                tr("Nobody is there to be asked whether to {kind} it.", kind=tr(kind)), tr("Give --yes.")
            )
        if not click.confirm(tr("{kind} it?", kind=tr(kind))):
            click.echo(tr("Nothing was removed."))
            return
    click.echo(tr("{freed} freed.", freed=fmt.size(remove(folder, kind).freed_bytes)))


@click.command("archive", cls=SpokenCommand)
@click.argument("run", metavar="RUN")
@click.option("--yes", is_flag=True, help="do not ask")
@click.pass_context
def archive_command(ctx: click.Context, run: str, yes: bool) -> None:
    """Delete a run's checkpoints; its model, or the newest of them, and all else stay."""
    _remove(ctx, run, "archive", yes)


@click.command("delete", cls=SpokenCommand)
@click.argument("run", metavar="RUN")
@click.option("--yes", is_flag=True, help="do not ask")
@click.pass_context
def delete_command(ctx: click.Context, run: str, yes: bool) -> None:
    """Delete a run's folder; what it has cost stays in the ledger."""
    _remove(ctx, run, "delete", yes)


@click.command("compare", cls=SpokenCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on stdout and nothing else")
@click.pass_context
def compare_command(ctx: click.Context, runs: tuple[str, ...], as_json: bool) -> None:
    """Show where runs stand, and in which settings they differ."""
    from engine.runs.overlay import compare
    from tui.bridge import to_json

    if len(runs) < 2:
        raise EngineError(tr("A comparison takes two runs or more."), tr("`llm-tui runs` lists them."))
    workspace = open_workspace_of(ctx)
    found = compare([workspace.folder_of(workspace.find(run)) for run in runs], 400)
    if as_json:
        click.echo(to_json(found))
        return
    _print_comparison(found)


def _print_comparison(found: Comparison) -> None:
    for run in found.runs:
        losses = tr(
            "loss {loss}  validation {val_loss}",
            loss=fmt.number(run.loss, 3),
            val_loss=fmt.number(run.val_loss, 3),
        )
        click.echo(
            tr(
                "{run_id}  {state}  {tokens} tokens  {losses}  {cost}",
                run_id=fmt.clean(run.run_id),
                state=state_word(run.state),
                tokens=fmt.count(run.tokens),
                losses=losses,
                cost=fmt.money(run.cost, run.currency),
            )
        )
    click.echo()
    for one in found.differences:
        values = "  |  ".join(fmt.clean(value) or fmt.UNKNOWN for value in one.values)
        click.echo(f"{one.key}: {values}")
    if not found.differences:
        click.echo(tr("Their settings are the same."))
