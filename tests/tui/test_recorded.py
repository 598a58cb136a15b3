"""The recorded facts are such as the engine gives: in its words, and agreeing with each other."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from engine.records import RunSnapshot
from tests.tui.recorded import (
    RecordedBridge,
    booked,
    checks,
    closings,
    digest,
    in_state,
    opened_programs,
    unticked,
    with_long_reason,
)
from tui import language

STATES = (
    *("running", "gpu", "preparing", "ramp", "paused", "stale", "abandoned", "failed", "stopped"),
    "finished",
)
FREE_TEXT = ("laptop on a hard surface, fan free", "GPU")
"""What a person wrote, and a name that is the same in every language."""


@pytest.fixture
def azerbaijani() -> Iterator[None]:
    language.use("az")
    yield
    language.use("en")


def sentences() -> Iterator[str]:
    """All that the recording says in the engine's name."""
    for shot in (*map(in_state, STATES), with_long_reason()):
        yield from (event.text for event in shot.events)
        yield shot.status.reason or ""
        yield shot.phase
    for check in (*checks(), *checks(blocking=False), *unticked()):
        yield from (check.title, check.evidence, check.remedy)
        yield from (figure.label for figure in check.figures)
    programs = opened_programs().processes
    yield from (program.why_not for program in programs)
    outcomes = ("still-there", "refused", "gone", "closed")
    yield from (told.reason for told in closings(*((programs[0], outcome) for outcome in outcomes)).closings)
    yield from (incident.text for incident in digest().incidents)
    finished, failed = in_state("finished"), in_state("failed")
    bridge = RecordedBridge(finished, failed)
    for shot in (finished, failed):
        for kind in ("archive", "delete"):
            removal = bridge.removal(shot.status.id, kind)
            yield from (removal.goes, removal.stays)


def test_every_sentence_is_one_that_the_catalogue_knows(azerbaijani: None) -> None:
    unknown = {text for text in sentences() if text and language.told(text) == text}
    assert unknown == set(FREE_TEXT)


def test_what_the_engine_puts_together_is_told_in_one_language(azerbaijani: None) -> None:
    programs = language.told(checks()[3].evidence)
    assert programs.startswith(
        "Bağlanmalı 3: blender (pid 4410, ana, GPU yaddaşı 1,86 GiB, 3 d açıqdır), firefox"
    )
    assert "Web Content (pid 2377, ana, GPU yaddaşı yoxdur, 45 s açıqdır); açıq qalacaq 2: gnome" in programs
    assert "(4 dəq əvvəl 1,27 GiB)" in language.told(checks(blocking=False)[4].evidence)
    assert language.told(in_state("failed").status.reason or "").endswith(
        "), yeni nəzarət nöqtəsi olmadan ardıcıl 6 dəfə."
    )
    restart = next(event.text for event in in_state("failed").events if event.kind == "restart")
    assert language.told(restart).endswith("); 1 saniyəyə ən yeni yaxşı nöqtədən yenidən başladılır.")
    slower = language.told(in_state("ramp").events[-1].text)
    assert slower.startswith(
        "Sınandı: eyni anda 16 ardıcıllıq, yenidən hesablanan 12 blok; işləyir, amma yavaş,"
    )
    assert language.told("Stopped by ana. Saved step-347.").endswith("Yazıldı: step-347.")


@pytest.mark.parametrize("state", STATES)
def test_a_run_agrees_with_itself(state: str) -> None:
    shot = in_state(state)
    status, plan, cost = shot.status, shot.plan, shot.cost
    assert shot.span is not None and shot.span.from_at is not None and shot.span.until_at is not None
    began = time.strftime("%m%d-%H%M%S", time.localtime(shot.span.from_at))
    assert status.id.startswith(f"{began}-{plan.preset}-")
    assert shot.span.newest_s == status.elapsed_s == pytest.approx(shot.span.until_at - shot.span.from_at)
    assert plan.steps * plan.tokens_per_step == plan.tokens_total
    assert plan.micro_batch * plan.grad_accum * plan.shape.context == plan.tokens_per_step
    assert (status.cost, status.energy_source) == (cost.cost, cost.machine_source)
    assert shot.sensor is not None and shot.sensor.machine_watts_source == cost.machine_source
    assert list(shot.events) == sorted(shot.events, key=lambda event: event.at)
    assert all(shot.span.from_at <= event.at <= shot.span.until_at + 1e-3 for event in shot.events)
    assert sum(event.kind == "restart" for event in shot.events) == status.restarts
    _assert_sensors_can_read_so(shot)
    if status.step is None:
        return
    assert status.tokens == status.step * plan.tokens_per_step
    assert (status.loss, status.val_loss) == (shot.train_losses[-1].loss, shot.val_losses[-1].loss)
    assert status.tokens and status.tokens_per_second and status.elapsed_s
    assert status.tokens / status.tokens_per_second < status.elapsed_s
    saved = [event for event in shot.events if event.text.startswith("Saved step-")]
    assert shot.checkpoint is not None and shot.checkpoint.step <= status.step
    assert saved[-1].text.startswith(f"Saved {shot.checkpoint.folder}:")
    assert shot.text_sample is not None and shot.text_sample.step <= status.step


def _assert_sensors_can_read_so(shot: RunSnapshot) -> None:
    limit = shot.limits.gpu_watts or 0.0
    most = {"gpu_util_frac": 1.0, "cpu_load_frac": 1.0, "gpu_watts": 1.02 * limit, "gpu_celsius": 87.0}
    for name, series in shot.sensors.items():
        assert not series.buckets or (series.high or 0.0) <= most.get(name, 1e12), name
        if shot.sensor is not None and hasattr(shot.sensor, name):
            assert getattr(shot.sensor, name) == (series.now and pytest.approx(series.now)), name


def test_the_list_is_the_newest_first_and_the_ledger_books_the_same_runs() -> None:
    shots = [in_state(state) for state in ("failed", "running", "stopped", "finished")]
    bridge = RecordedBridge(*shots)
    began = [run.created_at for run in bridge.runs()]
    assert began == sorted(began, reverse=True) and len({*began}) == 4
    assert len({(run.status.loss, run.status.elapsed_s, run.status.cost) for run in bridge.runs()}) == 4
    for shot in shots:
        entry = booked(shot)
        assert (entry.run_id, entry.cost, entry.tokens) == (
            shot.status.id,
            shot.status.cost,
            shot.status.tokens,
        )
        parts = (entry.checkpoints_bytes or 0) + (entry.model_bytes or 0) + (entry.database_bytes or 0)
        assert parts <= (entry.storage_bytes or 0) < parts + 2**20


def test_a_night_is_one_of_the_run_that_is_going() -> None:
    shot, told = in_state("gpu"), digest()
    assert (told.run_id, told.tokens_now, told.loss) == (
        shot.status.id,
        shot.status.tokens,
        shot.status.loss,
    )
    assert told.gpu_celsius_max == shot.sensors["gpu_celsius"].high
    assert told.restarts == shot.status.restarts == 1
    assert shot.thermal is not None and shot.thermal.throttled_s == told.throttled_s


def test_samples_were_said_by_the_run_they_are_of() -> None:
    shot = in_state("running")
    book = RecordedBridge(shot).book
    assert shot.span is not None and shot.span.from_at is not None and shot.checkpoint is not None
    assert all(sample.step <= (shot.status.step or 0) for sample in book.samples)
    assert all(sample.at > shot.span.from_at for sample in book.samples)
    assert book.sources[0] == shot.checkpoint.folder


async def test_a_rehearsal_waits_for_what_blocks_as_the_engine_has_it_wait() -> None:
    bridge = RecordedBridge()

    async def rehearsal(waivers: dict[str, str]) -> str:
        found = [check async for check in bridge.checks(waivers)]
        assert found[-1].id == "rehearsal"
        return found[-1].status

    assert await rehearsal({}) == await rehearsal({"power": "ups"}) == "skipped"
    assert await rehearsal({"power": "ups", "close-apps": "mine"}) == "pass"
