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
from tui.language import mark, tr
from tui.ledger_text import cost_text, cost_texts, energy_text
from tui.plan_text import break_even_line, by_kind, hours_range, move_lines
from tui.verbs import state_word

if TYPE_CHECKING:
    from engine import Workspace
    from engine.estimate import Estimate

LINE_EVERY_S = 5.0
"""How often a line of progress is printed while nothing else happens."""
LOOK_EVERY_S = 0.5
MARKS = {
    "pass": mark("ok"),
    "warn": mark("warn"),
    "fail": mark("FAIL"),
    "waived": mark("waiv"),
    "skipped": mark("skip"),
}


def print_check(check: Check) -> None:
    """One verdict, its evidence, and its remedy where it did not pass."""
    width = max(len(tr(word)) for word in MARKS.values())
    word = tr(MARKS[check.status]).ljust(width)
    click.echo(f"{word}  {show.said(check.title)}: {show.said(check.evidence)}")
    if check.remedy and check.status in ("fail", "warn"):
        click.echo(f"{' ' * (width + 2)}→ {show.said(check.remedy)}")


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
        click.echo(
            tr("\nRun {run_id} goes on. `llm-tui` shows it, `llm-tui stop {run_id}` ends it.", run_id=run_id),
            err=True,
        )
        return int(ExitCode.OK)


def _farewell(status: Status) -> int:
    click.echo(
        tr(
            "Run {run_id} {state}. {reason}",
            run_id=status.id,
            state=state_word(status.state),
            reason=show.said(status.reason or ""),
        ).rstrip()
    )
    click.echo(
        tr(
            "machine {machine_energy_j} ({energy_source}), GPU {gpu_energy_j}, cost {cost}",
            machine_energy_j=show.energy(status.machine_energy_j),
            energy_source=tr(status.energy_source or mark("unknown")),
            gpu_energy_j=show.energy(status.gpu_energy_j),
            cost=show.money(status.cost, status.currency),
        )
    )
    return int(ExitCode.FAILED if status.state is RunState.FAILED else ExitCode.OK)


def _event_line(event: EventRow) -> str:
    level = "" if event.level == "info" else f"{tr(event.level)}: "
    return f"[{show.clock_s(event.at)}] {level}{show.said(event.text)}"


def _preparing_line(workspace: Workspace, run_id: str) -> str:
    snapshot = workspace.snapshot(run_id, num_points=1, num_buckets=1)
    return _progress_of(snapshot.progress) if snapshot.progress else ""


def _progress_of(progress: ProgressRow) -> str:
    done = show.size(progress.done_bytes)
    if progress.total_bytes:
        done = tr("{done} of {total}", done=done, total=show.size(progress.total_bytes))
    rate = f", {show.size(progress.bytes_per_s)}/s" if progress.bytes_per_s else ""
    return tr("corpus: {kind} {done}{rate}", kind=tr(progress.kind), done=done, rate=rate)


def progress_line(status: Status) -> str:
    """One line that tells where a run stands."""
    share = (status.tokens or 0) / status.tokens_total
    step = show.UNKNOWN if status.step is None else status.step
    gpu = f"GPU {show.whole(status.gpu_watts, 'W')} {show.whole(status.gpu_celsius, '°C')}"
    return tr(
        "step {step}/{steps}  {share}%  loss {loss}  val {val_loss}  {tokens_per_second} "
        "tok/s  eta {eta_s}  {gpu}  machine {machine_energy_j}  {cost}",
        step=step,
        steps=status.steps,
        share=round(100 * share),
        loss=show.number(status.loss, 3),
        val_loss=show.number(status.val_loss, 3),
        tokens_per_second=show.count(status.tokens_per_second),
        eta_s=show.duration(status.eta_s),
        gpu=gpu,
        machine_energy_j=show.energy(status.machine_energy_j),
        cost=show.money(status.cost, status.currency),
    )


def print_runs(runs: Sequence[RunSummary]) -> None:
    """A table of the runs."""
    if not runs:
        click.echo(tr("No run yet. `llm-tui run` starts one."))
        return
    width = max(len(run.id) for run in runs)
    for run in runs:
        status = run.status
        click.echo(
            tr(
                "{id}  {state:<9}  {parameters:>6} parameters  step {step}/{steps}  val {val_loss}  {cost}",
                id=f"{run.id:<{width}}",
                state=state_word(status.state),
                parameters=show.count(run.parameters),
                step=status.step or 0,
                steps=status.steps,
                val_loss=show.number(status.val_loss, 3),
                cost=show.money(status.cost, status.currency),
            )
        )


def print_damaged_runs(runs: Sequence[DamagedRun]) -> None:
    """What is wrong with each run that cannot be read, and what helps; on stderr."""
    for run in runs:
        click.echo(tr("{id}  damaged    {damage}", id=run.id, damage=show.clean(run.damage)), err=True)
        if run.remedy:
            click.echo(f"  → {show.clean(run.remedy)}", err=True)


def print_status(status: Status) -> None:
    """One run's state, a line a fact."""
    click.echo(tr("run      {run_id}\nstate    {state}", run_id=status.id, state=state_word(status.state)))
    if status.reason:
        click.echo(tr("reason   {reason}", reason=show.said(status.reason)))
    click.echo(tr("progress {line}", line=progress_line(status)))
    click.echo(
        tr(
            "restarts {restarts}\nelapsed  {elapsed_s}",
            restarts=status.restarts,
            elapsed_s=show.duration(status.elapsed_s),
        )
    )


def print_ledger(entries: Sequence[LedgerEntry]) -> None:
    """The entries, and what they come to."""
    if not entries:
        click.echo(tr("No run is booked yet: the first entry comes with the first checkpoint."))
        return
    for entry in entries:
        click.echo(
            tr(
                "{run_id}  {state:<8}  {tokens:>6} tokens  {elapsed_s:>8}  GPU {gpu_energy_j}  machine "
                "{machine_energy_j} ({energy_source})  {cost}",
                run_id=entry.run_id,
                state=state_word(entry.state),
                tokens=show.count(entry.tokens),
                elapsed_s=show.duration(entry.elapsed_s),
                gpu_energy_j=show.energy(entry.gpu_energy_j),
                machine_energy_j=energy_text(entry),
                energy_source=tr(entry.energy_source or mark("unknown")),
                cost=cost_text(entry),
            )
        )
    for entry in entries:
        if line := _predicted_line(entry):
            click.echo(line)
    for amount in cost_texts(entries):
        click.echo(tr("total {amount}", amount=amount))


def _predicted_line(entry: LedgerEntry) -> str:
    """What the plan said of a run, beside what came; empty where it said nothing."""
    if entry.predicted_memory_bytes is None:
        return ""
    return tr(
        "{run_id}  predicted/actual: memory {predicted_memory_bytes}/{memory_bytes}, time "
        "{predicted_hours}/{elapsed_s}, machine {predicted_machine_kwh}/{machine_energy_j}, cost "
        "{predicted_cost}/{cost}",
        run_id=entry.run_id,
        predicted_memory_bytes=show.size(entry.predicted_memory_bytes),
        memory_bytes=show.size(entry.memory_bytes),
        predicted_hours=show.hours(entry.predicted_hours),
        elapsed_s=show.duration(entry.elapsed_s),
        predicted_machine_kwh=show.kwh(entry.predicted_machine_kwh),
        machine_energy_j=show.energy(entry.machine_energy_j),
        predicted_cost=show.money(entry.predicted_cost, entry.currency),
        cost=show.money(entry.cost, entry.currency),
    )


def print_estimate(estimate: Estimate) -> None:
    """What a run would need, a line a resource, with what each figure rests on; the cloud beside it."""
    memory, time_, energy, cost = estimate.memory, estimate.time, estimate.energy, estimate.cost
    storage = estimate.storage
    fits = {
        True: tr("fits"),
        False: tr("does NOT fit"),
        None: tr("unknown whether it fits"),
    }[memory.fits]
    click.echo(tr("model    {parameters} parameters", parameters=show.count(estimate.model.parameters)))
    recomputed = f", {show.said(memory.recomputed_text)}" if memory.recomputed_text else ""
    click.echo(
        tr(
            "memory   {total_bytes} of {budget_bytes} on {device}: {fits}; micro-batch "
            "{micro_batch}{recomputed}",
            total_bytes=show.size(memory.total_bytes),
            budget_bytes=show.size(memory.budget_bytes),
            device=show.clean(memory.device),
            fits=fits,
            micro_batch=memory.micro_batch,
            recomputed=recomputed,
        )
    )
    parts = ", ".join(f"{tr(name)} {show.size(num_bytes)}" for name, num_bytes in memory.parts.items())
    click.echo(
        tr("         {parts}; {free_bytes} free now", parts=parts, free_bytes=show.size(memory.free_bytes))
    )
    click.echo(
        tr(
            "time     {hours} for {tokens} tokens",
            hours=hours_range(estimate),
            tokens=show.count(time_.tokens),
        )
    )
    click.echo(f"         {show.said(time_.basis)}")
    click.echo(
        tr(
            "energy   machine {kwh} ({kwh_low} to {kwh_high}), GPU {gpu_kwh}",
            kwh=show.kwh(energy.kwh),
            kwh_low=show.kwh(energy.kwh_low),
            kwh_high=show.kwh(energy.kwh_high),
            gpu_kwh=show.kwh(energy.gpu_kwh),
        )
    )
    click.echo(f"         {show.said(energy.basis)}")
    click.echo(
        tr(
            "storage  {end_bytes} at the end, {total_bytes} at its peak; a month of it in the cloud "
            "{usd_per_month} ({basis})",
            end_bytes=show.size(storage.end_bytes),
            total_bytes=show.size(storage.total_bytes),
            usd_per_month=show.money(storage.usd_per_month, "USD"),
            basis=show.said(storage.basis),
        )
    )
    click.echo(
        tr(
            "cost     {local} ({local_low} to {local_high}), of it the GPU {gpu}",
            local=show.money(cost.local, cost.currency),
            local_low=show.money(cost.local_low, cost.currency),
            local_high=show.money(cost.local_high, cost.currency),
            gpu=show.money(cost.gpu, cost.currency),
        )
    )
    click.echo(f"         {show.said(cost.tariff)}")
    for quote in by_kind(estimate.cloud):
        click.echo(tr("cloud    {line}", line=quote_line(quote)))
    if estimate.cloud_problem:
        click.echo(tr("cloud    {line}", line=show.said(estimate.cloud_problem)))
    for even in estimate.break_even:
        click.echo(f"         {show.clean(break_even_line(even))}")
    if estimate.move is not None:
        for line in move_lines(estimate.move):
            click.echo(tr("move     {line}", line=show.clean(line)))


def quote_line(quote: CloudQuote) -> str:
    """One offer: its price, its hours, and what both rest on."""
    quoted = "" if quote.is_for_this_run else tr(", as quoted, not for this run")
    return tr(
        "{provider} {gpu} {kind}: {usd}, {hours} at {price} USD/h as of {as_of}{quoted} ({basis}; {source})",
        provider=show.clean(quote.provider),
        gpu=show.clean(quote.gpu),
        kind=tr(quote.kind),
        usd=show.money(quote.usd, "USD"),
        hours=show.span(quote.hours, quote.hours_low, quote.hours_high),
        price=show.short(quote.usd_per_hour),
        as_of=show.said(show.day(quote.as_of)),
        quoted=quoted,
        basis=show.said(quote.basis),
        source=show.said(quote.source),
    )
