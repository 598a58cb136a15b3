"""Plain lines for pipes, logs and CI: what the screens show, as text that only ever grows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine.errors import ExitCode
from engine.records import (
    Check,
    CloudQuote,
    DamagedRun,
    EventRow,
    LedgerEntry,
    ProgressRow,
    RunState,
    RunSummary,
    Status,
)
from tui import format as show
from tui.plan_text import break_even_line, by_kind, hours_range, move_lines

if TYPE_CHECKING:
    from engine import Workspace
    from engine.estimate import Estimate

LINE_EVERY_S = 5.0
"""How often a line of progress is printed while nothing else happens."""
LOOK_EVERY_S = 0.5
MARKS = {"pass": "ok  ", "warn": "warn", "fail": "FAIL", "waived": "waiv", "skipped": "skip"}


def print_check(check: Check) -> None:
    """One verdict, its evidence, and its remedy where it did not pass."""
    click.echo(f"{MARKS[check.status]}  {show.clean(check.title)}: {show.clean(check.evidence)}")
    if check.remedy and check.status in ("fail", "warn"):
        click.echo(f"      → {show.clean(check.remedy)}")


def follow(workspace: Workspace, run_id: str) -> int:
    """Print a run's progress until it is over; the exit code of `llm-tui run`.

    An interrupt leaves the run alone.
    """
    seen, last_line, last_at = 0, "", float("-inf")
    try:
        while True:
            # The state is read first: what happened before it ended is then all printed.
            status = workspace.status(run_id)
            for number, event in workspace.events(run_id, seen):
                seen = number
                click.echo(_event_line(event))
            is_due = time.monotonic() - last_at >= LINE_EVERY_S
            line = progress_line(status) if status.step else _preparing_line(workspace, run_id)
            if line and line != last_line and (is_due or status.state.is_over):
                click.echo(line)
                last_line, last_at = line, time.monotonic()
            if status.state.is_over:
                return _farewell(status)
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        click.echo(f"\nRun {run_id} goes on. `llm-tui` shows it, `llm-tui stop {run_id}` ends it.", err=True)
        return int(ExitCode.OK)


def _farewell(status: Status) -> int:
    click.echo(f"Run {status.id} {status.state}. {show.clean(status.reason or '')}".rstrip())
    click.echo(
        f"machine {show.energy(status.machine_energy_j)} ({status.energy_source or 'unknown'}), "
        f"GPU {show.energy(status.gpu_energy_j)}, cost {show.money(status.cost, status.currency)}"
    )
    return int(ExitCode.FAILED if status.state is RunState.FAILED else ExitCode.OK)


def _event_line(event: EventRow) -> str:
    mark = "" if event.level == "info" else f"{event.level}: "
    return f"[{show.clock_s(event.at)}] {mark}{show.clean(event.text)}"


def _preparing_line(workspace: Workspace, run_id: str) -> str:
    snapshot = workspace.snapshot(run_id, num_points=1, num_buckets=1)
    return _progress_of(snapshot.progress) if snapshot.progress else ""


def _progress_of(progress: ProgressRow) -> str:
    of = f" of {show.size(progress.total_bytes)}" if progress.total_bytes else ""
    rate = f", {show.size(progress.bytes_per_s)}/s" if progress.bytes_per_s else ""
    return f"corpus: {progress.kind} {show.size(progress.done_bytes)}{of}{rate}"


def progress_line(status: Status) -> str:
    """One line that tells where a run stands."""
    share = (status.tokens or 0) / status.tokens_total
    step = show.UNKNOWN if status.step is None else status.step
    gpu = f"GPU {show.whole(status.gpu_watts, 'W')} {show.whole(status.gpu_celsius, '°C')}"
    return (
        f"step {step}/{status.steps}  {share:.0%}  loss {show.number(status.loss, 3)}  "
        f"val {show.number(status.val_loss, 3)}  {show.count(status.tokens_per_second)} tok/s  "
        f"eta {show.duration(status.eta_s)}  {gpu}  "
        f"machine {show.energy(status.machine_energy_j)}  {show.money(status.cost, status.currency)}"
    )


def print_runs(runs: Sequence[RunSummary]) -> None:
    """A table of the runs."""
    if not runs:
        click.echo("No run yet. `llm-tui run` starts one.")
        return
    width = max(len(run.id) for run in runs)
    for run in runs:
        status = run.status
        click.echo(
            f"{run.id:<{width}}  {status.state:<9}  {show.count(run.parameters):>6} parameters  "
            f"step {status.step or 0}/{status.steps}  val {show.number(status.val_loss, 3)}  "
            f"{show.money(status.cost, status.currency)}"
        )


def print_damaged_runs(runs: Sequence[DamagedRun]) -> None:
    """What is wrong with each run that cannot be read, and what helps; on stderr."""
    for run in runs:
        click.echo(f"{run.id}  damaged    {show.clean(run.damage)}", err=True)
        if run.remedy:
            click.echo(f"  → {show.clean(run.remedy)}", err=True)


def print_status(status: Status) -> None:
    """One run's state, a line a fact."""
    click.echo(f"run      {status.id}\nstate    {status.state}")
    if status.reason:
        click.echo(f"reason   {show.clean(status.reason)}")
    click.echo(f"progress {progress_line(status)}")
    click.echo(f"restarts {status.restarts}\nelapsed  {show.duration(status.elapsed_s)}")


def print_ledger(entries: Sequence[LedgerEntry]) -> None:
    """The entries, and what they come to."""
    if not entries:
        click.echo("No run is booked yet: the first entry comes with the first checkpoint.")
        return
    for entry in entries:
        click.echo(
            f"{entry.run_id}  {entry.state:<8}  {show.count(entry.tokens):>6} tokens  "
            f"{show.duration(entry.elapsed_s):>8}  GPU {show.energy(entry.gpu_energy_j)}  "
            f"machine {show.energy(entry.machine_energy_j)} ({entry.energy_source or 'unknown'})  "
            f"{show.money(entry.cost, entry.currency)}"
        )
    for entry in entries:
        if line := _predicted_line(entry):
            click.echo(line)
    for currency in sorted({entry.currency for entry in entries}):
        costs = [entry.cost for entry in entries if entry.currency == currency]
        known = [cost for cost in costs if cost is not None]
        at_least = "at least " if len(known) < len(costs) else ""
        click.echo(f"total {at_least}{show.money(sum(known), currency)}")


def _predicted_line(entry: LedgerEntry) -> str:
    """What the plan said of a run, beside what came; empty where it said nothing."""
    if entry.predicted_memory_bytes is None:
        return ""
    return (
        f"{entry.run_id}  predicted/actual: memory {show.size(entry.predicted_memory_bytes)}/"
        f"{show.size(entry.memory_bytes)}, time {show.hours(entry.predicted_hours)}/"
        f"{show.duration(entry.elapsed_s)}, machine {show.kwh(entry.predicted_machine_kwh)}/"
        f"{show.energy(entry.machine_energy_j)}, cost {show.money(entry.predicted_cost, entry.currency)}/"
        f"{show.money(entry.cost, entry.currency)}"
    )


def print_estimate(estimate: Estimate) -> None:
    """What a run would need, a line a resource, with what each figure rests on; the cloud beside it."""
    memory, time_, energy, cost = estimate.memory, estimate.time, estimate.energy, estimate.cost
    storage = estimate.storage
    fits = {True: "fits", False: "does NOT fit", None: "unknown whether it fits"}[memory.fits]
    click.echo(f"model    {show.count(estimate.model.parameters)} parameters")
    recomputed = f", {memory.recomputed_text}" if memory.recomputed_text else ""
    click.echo(
        f"memory   {show.size(memory.total_bytes)} of {show.size(memory.budget_bytes)} on "
        f"{show.clean(memory.device)}: {fits}; micro-batch {memory.micro_batch}{recomputed}"
    )
    parts = ", ".join(f"{name} {show.size(num_bytes)}" for name, num_bytes in memory.parts.items())
    click.echo(f"         {parts}; {show.size(memory.free_bytes)} free now")
    click.echo(f"time     {hours_range(estimate)} for {show.count(time_.tokens)} tokens")
    click.echo(f"         {show.clean(time_.basis)}")
    click.echo(
        f"energy   machine {show.kwh(energy.kwh)} ({show.kwh(energy.kwh_low)} to {show.kwh(energy.kwh_high)}), "
        f"GPU {show.kwh(energy.gpu_kwh)}"
    )
    click.echo(f"         {show.clean(energy.basis)}")
    click.echo(
        f"storage  {show.size(storage.end_bytes)} at the end, {show.size(storage.total_bytes)} at its peak; "
        f"a month of it in the cloud {show.money(storage.usd_per_month, 'USD')} ({show.clean(storage.basis)})"
    )
    click.echo(
        f"cost     {show.money(cost.local, cost.currency)} ({show.money(cost.local_low, cost.currency)} to "
        f"{show.money(cost.local_high, cost.currency)}), of it the GPU {show.money(cost.gpu, cost.currency)}"
    )
    click.echo(f"         {show.clean(cost.tariff)}")
    for quote in by_kind(estimate.cloud):
        click.echo(f"cloud    {quote_line(quote)}")
    if estimate.cloud_problem:
        click.echo(f"cloud    {show.clean(estimate.cloud_problem)}")
    for even in estimate.break_even:
        click.echo(f"         {show.clean(break_even_line(even))}")
    if estimate.move is not None:
        for line in move_lines(estimate.move):
            click.echo(f"move     {show.clean(line)}")


def quote_line(quote: CloudQuote) -> str:
    """One offer: its price, its hours, and what both rest on."""
    quoted = "" if quote.is_for_this_run else ", as quoted, not for this run"
    return (
        f"{show.clean(quote.provider)} {show.clean(quote.gpu)} {quote.kind}: {show.money(quote.usd, 'USD')}, "
        f"{show.span(quote.hours, quote.hours_low, quote.hours_high)} at {quote.usd_per_hour:g} USD/h "
        f"as of {show.clean(quote.as_of)}{quoted} ({show.clean(quote.basis)}; {show.clean(quote.source)})"
    )
