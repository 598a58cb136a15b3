"""Commands that take something out of a run: text, the model itself, its curves."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui.cli_parts import json_option, open_workspace_of, run_argument
from tui.format import clean, thousands
from tui.language import tr
from tui.spoken_help import SpokenCommand

if TYPE_CHECKING:
    from engine.runs.export import Format, Numbers


_BAR_CELLS = 24


@click.command("generate", cls=SpokenCommand)
@run_argument
@click.option("--prompt", default="def ", show_default=True, help="how the text begins")
@click.option("--max-tokens", default=200, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--temperature", default=0.8, show_default=True, type=click.FloatRange(0, 10))
@click.option(
    "--top-p",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="choose among the likeliest that have this share of the probability",
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**31 - 1))
@click.option("--from", "source", default="", metavar="NAME", help='"model", or a checkpoint like step-1000')
@click.pass_context
def generate_command(
    ctx: click.Context,
    run: str | None,
    prompt: str,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    source: str,
) -> None:
    """Let a run's model go on with a text, on the CPU; by default the newest good checkpoint's."""
    for name, value in (("--temperature", temperature), ("--top-p", top_p)):
        if not math.isfinite(value):
            raise click.BadParameter(tr("it is no number."), param_hint=name)
    workspace = open_workspace_of(ctx)
    argv = workspace.generate_argv(
        workspace.find(run),
        prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        source=source,
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


@click.command("export", cls=SpokenCommand)
@run_argument
@click.option("--to", required=True, metavar="DIR", help="a folder that is not there yet, or is empty")
@click.option(
    "--format",
    "format_",
    default="transformers",
    show_default=True,
    type=click.Choice(["transformers", "gguf"]),
    help="gguf: one file for llama.cpp, ollama, LM Studio; needs the extra [export]",
)
@click.option(
    "--numbers",
    type=click.Choice(["f32", "f16", "q8_0"]),
    help="how a .gguf keeps its matrices; f16 by default",
)
@click.option("--from", "source", default="", metavar="NAME", help='"model", or a checkpoint like step-1000')
@click.pass_context
def export_command(
    ctx: click.Context, run: str | None, to: str, format_: Format, numbers: Numbers | None, source: str
) -> None:
    """Write a run's model for other programs, with a card of its training and what it cost."""
    if numbers and format_ != "gguf":
        raise click.BadParameter(tr("only a .gguf has a choice of it."), param_hint="--numbers")
    from engine.runs.export import ExportRequest, export

    workspace = open_workspace_of(ctx)
    run_folder = workspace.folder_of(workspace.find(run))
    request = ExportRequest(to=Path(to), format=format_, numbers=numbers or "f16", source=source)
    written = export(run_folder, request, _bar(f"Exporting {run_folder.id}"))
    click.echo(tr("Wrote {path}", path=clean(str(written))))


def _bar(label: str) -> Callable[[int, int], None]:
    """Who is told of bytes and draws a bar on stderr: on a terminal as it goes, elsewhere not at all."""
    began_s, is_shown = time.monotonic(), sys.stderr.isatty()

    def tell(done: int, total: int) -> None:
        if not is_shown:
            return
        full = _BAR_CELLS * done // max(1, total)
        rate = done / max(1e-3, time.monotonic() - began_s)
        amount = tr(
            "{done} of {total} MB, {rate} MB/s",
            done=thousands(done / 1e6),
            total=thousands(total / 1e6),
            rate=thousands(rate / 1e6),
        )
        bar = "█" * full + "░" * (_BAR_CELLS - full)
        click.echo(f"\r{clean(label)} {bar} {amount}", err=True, nl=done >= total)

    return tell


@click.command("metrics", cls=SpokenCommand)
@run_argument
@click.option("--csv", "as_csv", is_flag=True, help="a row a step, for a spreadsheet")
@json_option
@click.option("--tensorboard", metavar="DIR", help="write DIR/RUN for `tensorboard --logdir DIR`")
@click.pass_context
def metrics_command(
    ctx: click.Context, run: str | None, as_csv: bool, as_json: bool, tensorboard: str | None
) -> None:
    """A run's curves for other tools: a row a step, with validations and sensors; docs/metrics.md has the columns."""
    from engine.runs import metrics

    if as_csv + as_json + (tensorboard is not None) != 1:
        raise click.UsageError(tr("Ask for one of --csv, --json and --tensorboard DIR."))
    workspace = open_workspace_of(ctx)
    folder = workspace.folder_of(workspace.find(run))
    if tensorboard is not None:
        click.echo(tr("Wrote {path}", path=clean(str(metrics.write_tensorboard(folder, Path(tensorboard))))))
        return
    for piece in metrics.csv_lines(folder) if as_csv else metrics.json_lines(folder):
        click.echo(piece, nl=False)


@click.command("cloud", cls=SpokenCommand)
@run_argument
@click.option("--to", required=True, metavar="FILE", help="where to write it, e.g. move.yaml")
@click.option(
    "--offer", default="", metavar="WORDS", help='whose and which, e.g. "google l4"; the cheapest by default'
)
@click.pass_context
def cloud_command(ctx: click.Context, run: str | None, to: str, offer: str) -> None:
    """Write a SkyPilot task that goes on with a run on a rented GPU; what it will cost stands above it."""
    from engine.runs.cloud_task import write_task

    workspace = open_workspace_of(ctx)
    quote = write_task(workspace.folder_of(workspace.find(run)), Path(to), offer)
    price = f"{quote.usd_per_hour:g} USD/h"
    click.echo(
        tr(
            "Wrote {path}: {provider}, {gpu}, {kind}, {price}.",
            path=clean(to),
            provider=clean(quote.provider),
            gpu=clean(quote.gpu),
            kind=tr(quote.kind),
            price=price,
        )
    )
    click.echo(tr("Its first lines say what it costs, and the commands there and back."))


COMMANDS = (generate_command, export_command, metrics_command, cloud_command)
