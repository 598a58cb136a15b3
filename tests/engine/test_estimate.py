"""The estimate: measured where it can be, by formula where not, unknown where neither."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.estimate import Estimate, estimate, predict
from engine.ledger import prices
from engine.ledger.book import FILE_NAME, LedgerBook
from engine.ledger.report import render
from engine.plan import make_plan
from engine.records import Device
from engine.rehearsal import Rehearsal, keep, path_of
from engine.settings import (
    CloudOffer,
    CloudSettings,
    EnergySettings,
    ModelSettings,
    ScaleSettings,
    Settings,
    TariffWindow,
    TrainingSettings,
)
from engine.shape import PRESETS
from tests.engine.ledger.entries import ledger_entry
from tests.engine.test_plan import CPU, gpu


def as_json(found: Estimate) -> dict[str, dict[str, object]]:
    decoded: dict[str, dict[str, object]] = msgspec.json.decode(msgspec.json.encode(found))
    return decoded


def test_the_json_has_the_promised_names(tmp_path: Path) -> None:
    found = as_json(estimate(Settings(), CPU, tmp_path))
    assert list(found)[:7] == ["model", "memory", "time", "energy", "storage", "cost", "cloud"]
    assert set(found["model"]) == {"parameters"}
    assert set(found["memory"]) >= {"device", "budget_bytes", "total_bytes", "parts", "micro_batch", "fits"}
    assert set(found["time"]) >= {"tokens", "tokens_per_second", "hours", "basis"}
    assert set(found["energy"]) >= {"kwh", "average_watts", "basis"}
    assert set(found["cost"]) >= {"currency", "local", "parts"}
    wanted = {"provider", "gpu", "usd_per_hour", "hours", "usd", "as_of", "source", "basis"}
    assert all(wanted <= set(quote) for quote in found["cloud"])  # type: ignore[arg-type]
    assert not (tmp_path / FILE_NAME).exists(), "looking makes no ledger"


def test_by_formula_it_says_so_and_adds_up(tmp_path: Path) -> None:
    settings = Settings(energy=EnergySettings(price_per_kwh=0.25, currency="EUR"))
    found = estimate(settings, gpu(3.3), tmp_path)
    assert "formula" in found.time.basis and "recomputed" in found.time.basis
    assert (
        found.time.hours and found.time.tokens_per_second and found.energy.kwh and found.energy.average_watts
    )
    assert found.time.hours == pytest.approx(found.time.tokens / found.time.tokens_per_second / 3600)
    assert found.energy.kwh == pytest.approx(found.energy.average_watts * found.time.hours / 1000)
    assert found.cost.local == pytest.approx(found.energy.kwh * 0.25, abs=1e-5)
    assert sum(found.cost.parts.values()) == pytest.approx(found.cost.local)
    assert set(found.cost.parts) == {"gpu", "cpu", "rest_of_machine", "power_supply"}
    assert 43 < found.time.hours < 120, "an RTX 2050 takes days for a billion tokens, not hours or weeks"


def test_recomputed_blocks_are_counted_in_words_and_in_the_time(tmp_path: Path) -> None:
    some = estimate(Settings(), gpu(4.0), tmp_path)
    number = some.memory.num_recomputed_blocks
    assert 0 < number < 12
    assert some.memory.recomputed_text == f"recomputes {number} of 12 blocks"
    training = TrainingSettings(activation_checkpointing="on")
    all_of_them = estimate(Settings(training=training), gpu(4.0), tmp_path)
    assert all_of_them.memory.recomputed_text == "recomputes 12 of 12 blocks"
    assert (some.time.hours or 0) < (all_of_them.time.hours or 0)
    assert estimate(Settings(), CPU, tmp_path).memory.recomputed_text == ""


def test_the_hours_of_several_processes_say_that_they_are_those_of_one(tmp_path: Path) -> None:
    one = estimate(Settings(), gpu(3.3), tmp_path).time
    many = estimate(Settings(scale=ScaleSettings(processes=4, nodes=2)), gpu(3.3), tmp_path).time
    assert many.hours == one.hours
    assert "for one process" in many.basis and "8" in many.basis and "process" not in one.basis


def test_the_drivers_limit_wins_over_the_boards(tmp_path: Path) -> None:
    rated = estimate(Settings(), gpu(3.3), tmp_path).energy.average_watts
    limited = estimate(Settings(), gpu(3.3), tmp_path, gpu_limit_watts=30.0).energy.average_watts
    assert rated and limited and limited < rated


def test_an_unknown_gpu_gives_none_and_never_zero(tmp_path: Path) -> None:
    found = estimate(Settings(), gpu(3.3, name="An unheard-of GPU"), tmp_path)
    assert found.time.hours is None and found.time.tokens_per_second is None and "unknown" in found.time.basis
    assert found.energy.kwh is None and found.energy.average_watts is None and "unknown" in found.energy.basis
    assert found.cost.local is None and found.cost.parts == {}
    assert found.cloud[0].usd is not None, "the cloud's hours do not hang on this machine"


def test_an_earlier_run_on_the_device_is_believed(tmp_path: Path) -> None:
    LedgerBook(tmp_path).record(
        ledger_entry(
            device=CPU.name, tokens=2_000_000, elapsed_s=500.0, machine_watts_mean=50.0, gpu_watts_mean=None
        )
    )
    found = estimate(Settings(), CPU, tmp_path)
    assert found.time.tokens_per_second == pytest.approx(4000.0)
    assert "measured" in found.time.basis and "run-1" in found.time.basis
    assert found.energy.average_watts == 50.0 and "run-1" in found.energy.basis
    larger = estimate(Settings(model=ModelSettings(preset="15m")), CPU, tmp_path)
    ratio = PRESETS["tiny"].flops_per_token / PRESETS["15m"].flops_per_token
    assert larger.time.tokens_per_second == pytest.approx(4000.0 * ratio)
    assert "scaled" in larger.time.basis


def test_runs_that_tell_nothing_are_left_out(tmp_path: Path) -> None:
    book = LedgerBook(tmp_path)
    book.record(ledger_entry(run_id="other", device="Another CPU"))
    book.record(ledger_entry(run_id="short", device=CPU.name, elapsed_s=5.0))
    book.record(ledger_entry(run_id="none", device=CPU.name, tokens=0))
    assert "formula" in estimate(Settings(), CPU, tmp_path).time.basis
    book.record(ledger_entry(run_id="tiny", device=CPU.name))
    far = estimate(Settings(model=ModelSettings(preset="134m")), CPU, tmp_path)
    assert "formula" in far.time.basis, "a tiny model's speed says little of a large one's"


def test_a_damaged_ledger_only_costs_the_measured_figures(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all, " * 100)
    found = estimate(Settings(), CPU, tmp_path)
    assert found.time.hours is not None
    assert "ledger cannot be read" in found.time.basis


def test_storage_counts_the_checkpoint_being_written(tmp_path: Path) -> None:
    settings = Settings(model=ModelSettings(preset="134m"), training=TrainingSettings(tokens=10_000_000))
    storage = estimate(settings, CPU, tmp_path).storage
    parameters, matrices = PRESETS["134m"].parameters, PRESETS["134m"].matrix_parameters
    assert storage.checkpoints_bytes == 3 * (12 * parameters - 4 * matrices)
    assert storage.corpus_bytes is None
    known = estimate(settings, CPU, tmp_path, corpus_tokens=1000).storage
    assert known.corpus_bytes == 2000
    assert known.total_bytes == storage.total_bytes + 2000


def test_own_offers_come_first(tmp_path: Path) -> None:
    offer = CloudOffer(name="A friend", gpu="T4", usd_per_hour=0.1, hours=2)
    found = estimate(Settings(cloud=CloudSettings(offers=[offer])), CPU, tmp_path).cloud[0]
    assert (found.provider, found.kind, found.hours, found.usd) == ("A friend", "yours", 2.0, 0.2)


def test_device_names_pass_through_raw(tmp_path: Path) -> None:
    device = Device(kind="cpu", name="x\x1b[31m", identity="cpu", total_bytes=None, free_bytes=None)
    found = estimate(Settings(), device, tmp_path)
    assert found.memory.device == "x\x1b[31m", "cleaning is the window's business"
    assert found.memory.fits is None


def test_hours_energy_and_money_have_ranges_and_the_gpu_stands_apart(tmp_path: Path) -> None:
    found = estimate(Settings(), gpu(3.3), tmp_path)
    time, energy, cost = found.time, found.energy, found.cost
    assert time.source == "formula" and energy.gpu_kwh and energy.kwh and cost.gpu and cost.local
    assert time.hours_low and time.hours and time.hours_high
    assert time.hours_low < time.hours < time.hours_high
    assert time.hours_high / time.hours_low == pytest.approx(0.45 / 0.30)
    assert energy.kwh_low and energy.kwh_high and energy.kwh_low < energy.kwh < energy.kwh_high
    assert energy.gpu_kwh < energy.kwh and cost.gpu < cost.local
    assert cost.local_low and cost.local_high and cost.local_low < cost.local < cost.local_high
    assert found.storage.end_bytes < found.storage.total_bytes
    unknown = estimate(Settings(), gpu(3.3, name="An unheard-of GPU"), tmp_path)
    assert (
        unknown.time.hours_low is None and unknown.cost.local_low is None and unknown.energy.gpu_kwh is None
    )


def test_a_tariff_is_taken_over_the_hours_of_the_run(tmp_path: Path) -> None:
    whole_day = TariffWindow(begins="00:00", ends="24:00", price_per_kwh=2.0)
    flat = estimate(Settings(energy=EnergySettings(price_per_kwh=1.0)), gpu(3.3), tmp_path).cost
    twice = estimate(
        Settings(energy=EnergySettings(price_per_kwh=1.0, tariff=[whole_day])), gpu(3.3), tmp_path
    ).cost
    assert flat.local and twice.local == pytest.approx(2 * flat.local, rel=1e-4)
    assert twice.price_per_kwh == 2.0 and "00:00-24:00" in twice.tariff


def test_the_fast_end_of_an_earlier_run_is_its_steps_alone(tmp_path: Path) -> None:
    LedgerBook(tmp_path).record(
        ledger_entry(device=CPU.name, tokens=2_000_000, elapsed_s=500.0, training_tokens_per_s=5000.0)
    )
    found = estimate(Settings(), CPU, tmp_path).time
    assert found.source == "earlier run" and found.hours_low and found.hours and found.hours_high
    assert found.tokens / found.hours_low / 3600 == pytest.approx(5000.0)
    assert found.hours == pytest.approx(found.hours_high)


def test_a_rehearsal_of_this_very_plan_goes_before_an_older_run_and_another_plans(tmp_path: Path) -> None:
    plan = make_plan(Settings(), CPU)
    measured = Rehearsal(
        at=2e9,
        device=CPU.name,
        flops_per_token=plan.shape.flops_per_token,
        precision=plan.precision,
        micro_batch=8,
        steps=6,
        tokens_per_s=1000.0,
        tokens_per_s_low=900.0,
        tokens_per_s_high=1100.0,
        memory_bytes=None,
    )
    LedgerBook(tmp_path).record(ledger_entry(device=CPU.name, tokens=2_000_000, elapsed_s=500.0))
    keep(tmp_path, measured)
    assert estimate(Settings(), CPU, tmp_path).time.tokens_per_second == 1000.0
    other = estimate(Settings(model=ModelSettings(preset="15m")), CPU, tmp_path).time
    assert other.source == "earlier run", "another model was not rehearsed"
    path_of(tmp_path).write_text("not json")
    assert estimate(Settings(), CPU, tmp_path).time.source == "earlier run"


def test_a_broken_row_of_the_price_table_costs_the_table_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> tuple[prices.CloudPrice, ...]:
        header = "provider,instance,gpu,gpus,gpu_memory_gib,kind,usd_per_hour,as_of,source"
        return prices.parse(f"{header}\nAWS,x,NVIDIA T4,1,16,on-demand,-0.5,2026,y")

    monkeypatch.setattr(prices, "load", broken)
    found = estimate(Settings(), CPU, tmp_path)
    assert found.time.hours and found.cost.local and found.cloud == () and found.break_even == ()
    assert "cloud_prices.csv:2: usd_per_hour = '-0.5'" in found.cloud_problem
    assert "Write US dollars" in found.cloud_problem
    assert predict(Settings(), make_plan(Settings(), CPU), tmp_path).cost
    assert "a cloud T4 instead: —" in render([ledger_entry()])


def test_the_prediction_counts_what_the_trainer_will_report(tmp_path: Path) -> None:
    plan = make_plan(Settings(), gpu(3.3))
    found = predict(Settings(), plan, tmp_path)
    assert found.memory_bytes == plan.memory_total_bytes - plan.memory_parts_bytes["workspace"]
    on_cpu = make_plan(Settings(), CPU)
    assert predict(Settings(), on_cpu, tmp_path).memory_bytes == on_cpu.memory_total_bytes
    assert found.hours and found.machine_kwh and found.cost and "formula" in found.basis
