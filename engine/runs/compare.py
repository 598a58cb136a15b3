"""Runs of a workspace against the cloud: the one that is going, and those of the ledger."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.bill import EntryDetail, Move
from engine.errors import EngineError, StoreError
from engine.ledger.breakeven import break_evens, move_of, per_usd
from engine.ledger.cloud import entry_flop, own_share, quotes, quotes_for
from engine.ledger.tariff import J_PER_KWH
from engine.records import LedgerEntry
from engine.runs import folder as folders
from engine.runs.books import run_storage
from engine.runs.view import read_snapshot, read_status
from engine.settings import CloudSettings


def move_of_live_run(workspace: Path) -> Move | None:
    """The newest run that is going: finish it here, or move the rest; None where none is."""
    for folder in folders.all_runs(workspace):
        try:
            snapshot, settings = read_snapshot(folder, 1, 1), folder.settings()
        except EngineError:
            continue
        status = snapshot.status
        if status.state.is_over or not status.tokens:
            continue
        left_frac = 1 - status.tokens / status.tokens_total
        share = own_share(snapshot.plan, status.tokens_per_second)
        try:
            found = quotes(snapshot.plan, settings.cloud.offers, share=share, left_frac=left_frac)
        except StoreError:  # the estimate says what is wrong with the table
            found = []
        return move_of(status, snapshot.cost, found, settings.cloud)
    return None


def entry_detail(workspace: Path, entry: LedgerEntry, cloud: CloudSettings) -> EntryDetail:
    """What a run of the ledger keeps on the disk, and what the work it has done had cost in the cloud.

    Raises: StoreError where the table of cloud prices is broken.
    """
    # An offer's own hours are for a whole run of the settings, which this one need not be.
    offers = [msgspec.structs.replace(offer, hours=None) for offer in cloud.offers]
    storage = None
    for folder in folders.all_runs(workspace):
        if folder.id == entry.run_id:
            try:
                status = read_status(folder)
                share_done = (status.tokens or 0) / status.tokens_total
                storage = run_storage(folder, status.state, share_done=share_done)
            except EngineError:
                break
    return EntryDetail(
        storage=storage,
        break_even=break_evens(
            quotes_for(entry_flop(entry), offers),
            local=entry.cost,
            kwh=None if entry.machine_energy_j is None else entry.machine_energy_j / J_PER_KWH,
            hours=entry.elapsed_s / 3600,
            currency=entry.currency,
            rate=per_usd(cloud, entry.currency),
        ),
    )
