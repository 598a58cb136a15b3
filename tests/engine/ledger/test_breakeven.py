"""Here against the cloud: where both cost the same, by arithmetic that is done again here; limits; storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ledger.breakeven import break_evens, per_usd
from engine.ledger.cloud import own_share, quotes
from engine.ledger.limits import GIB, LimitGuard, Standing
from engine.ledger.storage import storage_book
from engine.plan import make_plan
from engine.records import RunState
from engine.settings import (
    CloudOffer,
    CloudSettings,
    LimitSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
)
from tests.engine.test_plan import CPU, gpu

COURSE = make_plan(
    Settings(model=ModelSettings(preset="134m"), training=TrainingSettings(tokens=1_000_000_000)), gpu(3.3)
)
TINY = make_plan(Settings(model=ModelSettings(preset="tiny")), CPU)


def test_the_courses_row_is_always_there_and_exact() -> None:
    for plan, num in ((COURSE, 1), (TINY, 2)):
        rows = [quote for quote in quotes(plan) if quote.provider == "course"]
        assert len(rows) == num
        assert (rows[-1].usd_per_hour, rows[-1].hours, rows[-1].usd) == (0.7, 48.0, 33.6)
        assert rows[-1].is_for_this_run is (num == 1) and rows[0].is_for_this_run


def test_hours_have_a_range_and_follow_the_measured_speed_of_this_gpu() -> None:
    usual = {(q.provider, q.gpu, q.kind): q for q in quotes(COURSE)}
    for quote in usual.values():
        if quote.hours is not None and quote.provider != "course":
            assert quote.hours_low and quote.hours_high and quote.hours_low < quote.hours < quote.hours_high
    rate = 0.5 * 11e12 * 0.375 / COURSE.shape.flops_per_token
    share = own_share(COURSE, rate)
    assert share == pytest.approx(0.5), "half of what the table lets expect of an RTX 2050"
    for quote in quotes(COURSE, share=share):
        before = usual[quote.provider, quote.gpu, quote.kind]
        if quote.provider != "course" and before.hours and quote.hours:
            assert quote.hours == pytest.approx(2 * before.hours, rel=1e-3)
            assert "as measured on this machine" in quote.basis
    assert own_share(TINY, 1000.0) is None, "a CPU says nothing of a GPU"


def test_break_even_is_where_both_cost_the_same() -> None:
    offers = [CloudOffer(name="A friend", gpu="T4", usd_per_hour=0.5, hours=10)]
    evens = break_evens(
        quotes(COURSE, offers),
        local=2.0,
        kwh=8.0,
        hours=50.0,
        currency="USD",
        rate=per_usd(CloudSettings(), "USD"),
    )
    assert [even.kind for even in evens] == ["yours", "quoted", "on-demand", "spot", "marketplace"]
    own = evens[0]
    assert (own.cloud, own.is_local_cheaper) == (5.0, True)
    assert own.price_per_kwh == pytest.approx(5.0 / 8.0)
    assert own.local_hours == pytest.approx(125.0) and own.cloud_hours == pytest.approx(4.0)
    assert evens[1].cloud == 33.6


def test_no_rate_of_exchange_is_invented() -> None:
    assert per_usd(CloudSettings(), "EUR") is None
    assert per_usd(CloudSettings(currency_per_usd=0.9), "EUR") == 0.9
    even = break_evens(quotes(COURSE), local=2.0, kwh=8.0, hours=50.0, currency="EUR", rate=None)[0]
    assert even.cloud is None and even.is_local_cheaper is None and even.price_per_kwh is None


def test_what_is_left_of_a_run_costs_what_is_left() -> None:
    offers = [CloudOffer(name="A friend", gpu="T4", usd_per_hour=0.5, hours=10)]
    whole, half = quotes(COURSE, offers), quotes(COURSE, offers, left_frac=0.5)
    assert half[0].hours == 5.0
    course = [q for q in half if q.provider == "course" and q.is_for_this_run]
    assert course[0].usd == pytest.approx(16.8, rel=1e-3) and whole[0].hours == 10.0


# --- limits


def test_a_limit_is_told_at_80_and_90_percent_once_and_then_reached() -> None:
    guard = LimitGuard(LimitSettings(max_cost=10.0, max_hours=0.0, min_free_disk_gib=0.0), "EUR")

    def told(cost: float | None) -> list[str]:
        return guard.warnings(Standing(hours=1e5, cost=cost, free_bytes=0))

    assert told(None) == [] and told(7.9) == []
    assert len(told(8.0)) == 1 and told(8.5) == [] and len(told(9.1)) == 1 and told(9.9) == []
    assert guard.reached(Standing(hours=0.0, cost=9.99, free_bytes=0)) is None
    reached = guard.reached(Standing(hours=0.0, cost=10.0, free_bytes=0))
    assert reached == "limits.max_cost is reached: 10 of 10 EUR."


def test_the_disk_is_told_before_it_is_full() -> None:
    guard = LimitGuard(LimitSettings(min_free_disk_gib=2.0), "USD")
    far, near, at = (Standing(hours=0.0, cost=None, free_bytes=int(gib * GIB)) for gib in (4, 2.4, 2.0))
    assert guard.warnings(far) == [] and "2.40 GiB free" in guard.warnings(near)[0]
    assert guard.reached(at) is None
    assert "min_free_disk_gib" in (guard.reached(at._replace(free_bytes=int(1.9 * GIB))) or "")
    assert guard.reached(at._replace(free_bytes=None)) is None, "unknown is not full"


# --- storage


def test_the_storage_book_of_a_folder(tmp_path: Path) -> None:
    for name, num_bytes in (("step-9", 100), ("step-10", 300), ("step-100", 400)):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "model").write_bytes(b"x" * num_bytes)
    (tmp_path / "run.db").write_bytes(b"x" * 50)
    (tmp_path / "run.db-wal").write_bytes(b"x" * 10)
    (tmp_path / "log").write_bytes(b"x" * 7)

    def book(state: RunState, price: float | None = None):
        cloud = CloudSettings(usd_per_gib_month=price)
        return storage_book(
            tmp_path, state, keep_checkpoints=2, share_done=0.5, weights_bytes=150, cloud=cloud
        )

    going = book(RunState.RUNNING)
    assert [point.name for point in going.checkpoints] == ["step-9", "step-10", "step-100"]
    assert (going.checkpoints_bytes, going.database_bytes, going.other_bytes) == (800, 60, 7)
    assert going.run_bytes == 867 and going.shards_bytes is None and going.corpus_bytes is None
    assert going.retention_bytes == 100, "beyond the two that are kept"
    assert going.forecast_bytes == 2 * 400 + 150 + 120 + 7 and going.peak_bytes == going.forecast_bytes + 400
    assert going.cloud_usd_per_month is None and "set cloud.usd_per_gib_month" in going.cloud_basis
    stopped = book(RunState.STOPPED, price=2**30)
    assert stopped.retention_bytes == 400 and stopped.forecast_bytes == 867
    assert stopped.cloud_usd_per_month == 867 and "your settings" in stopped.cloud_basis
    assert book(RunState.FINISHED).retention_bytes == 400, "without a model the newest checkpoint stays"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x" * 150)
    assert book(RunState.FINISHED).retention_bytes == 800
