"""Cloud prices: the table that ships is sound, a broken one says where, and the arithmetic is the course's."""

from __future__ import annotations

from decimal import Decimal

import pytest

from engine.errors import StoreError
from engine.ledger import prices
from engine.ledger.cloud import COURSE_BASIS, course_quote, entry_flop, quotes, run_flop
from engine.plan import make_plan
from engine.records import RunPlan
from engine.settings import CloudOffer, ModelSettings, Settings, TrainingSettings
from tests.engine.ledger.entries import ledger_entry
from tests.engine.test_plan import CPU

HEADER = "provider,instance,gpu,gpus,gpu_memory_gib,kind,usd_per_hour,as_of,source\n"
GOOD = "AWS,g4dn.xlarge,NVIDIA T4,1,16,on-demand,0.526,2026-09-24,AWS Price List\n"


def plan_of(preset: str, **training: object) -> RunPlan:
    settings = Settings(model=ModelSettings(preset=preset), training=TrainingSettings(**training))  # type: ignore[arg-type]
    return make_plan(settings, CPU)


def test_the_table_that_ships_is_whole_and_dated() -> None:
    table = prices.load()
    assert len(table) >= 20
    assert all(price.as_of.startswith("20") and price.source for price in table)
    course = [price for price in table if price.provider == prices.COURSE]
    assert [(p.gpu, p.usd_per_hour) for p in course] == [("NVIDIA T4", Decimal("0.70"))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: the columns"),
        ("a,b\n", ":1: the columns"),
        (HEADER + GOOD + "AWS,x\n", ":3: 2 fields"),
        (HEADER + GOOD.replace("AWS Price List", ""), ":2: source is empty"),
        (HEADER + GOOD.replace("0.526", "cheap"), ":2: usd_per_hour = 'cheap'"),
        (HEADER + GOOD.replace("0.526", "-1"), ":2: usd_per_hour = '-1'"),
        (HEADER + GOOD.replace("0.526", "NaN"), ":2: usd_per_hour = 'NaN'"),
        (HEADER + GOOD.replace("0.526", "Infinity"), ":2: usd_per_hour"),
        (HEADER + GOOD.replace(",1,16,", ",0,16,"), ":2: gpus = '0'"),
        (HEADER + GOOD.replace(",1,16,", ",1,many,"), ":2: gpu_memory_gib = 'many'"),
        (HEADER + GOOD.replace("on-demand", "free"), ":2: kind = 'free'"),
        (HEADER + GOOD + 'AWS,"open\n', ": not CSV"),
    ],
)
def test_a_broken_row_is_named(text: str, said: str) -> None:
    with pytest.raises(StoreError) as caught:
        prices.parse(text, "table.csv")
    assert f"table.csv{said}" in caught.value.title or said in caught.value.title
    assert caught.value.remedy


def test_a_good_table_is_read() -> None:
    (price,) = prices.parse(HEADER + GOOD + "\n")
    assert (price.instance, price.usd_per_hour, price.gpu_memory_gib) == ("g4dn.xlarge", Decimal("0.526"), 16)


def test_the_courses_run_is_48_hours_and_33_60() -> None:
    quote = course_quote(plan_of("134m"))
    assert (quote.hours, quote.usd, quote.usd_per_hour) == (48.0, 33.6, 0.7)
    assert quote.basis == COURSE_BASIS


def test_a_smaller_run_is_scaled_by_flop() -> None:
    plan = plan_of("134m", tokens=250_000_000)
    quote = course_quote(plan)
    assert quote.usd == pytest.approx(33.60 / 4, rel=2e-3) and "scaled" in quote.basis
    tiny = course_quote(plan_of("tiny"))
    assert tiny.usd is not None and 0 < tiny.usd < 0.01, "little, but not nothing"
    assert (
        tiny.hours == pytest.approx(48 * run_flop(plan_of("tiny")) / run_flop(plan), rel=0.01) or tiny.hours
    )


def test_quotes_are_the_tables_rows_cheapest_first() -> None:
    plan = plan_of("134m")
    found = quotes(plan)
    assert len(found) == len(prices.load())
    known = [quote.usd for quote in found if quote.usd is not None]
    assert known == sorted(known) and len(known) == len(found), "every GPU of the table has a speed"
    for quote in found:
        assert quote.hours and quote.usd == pytest.approx(quote.hours * quote.usd_per_hour, rel=1e-5)
        assert quote.basis and quote.as_of and quote.source
    assert course_quote(plan) in found


def test_a_t4_takes_14_to_20_hours_by_formula() -> None:
    t4 = next(
        q
        for q in quotes(plan_of("134m"))
        if q.provider == "AWS" and q.gpu == "NVIDIA T4" and q.kind == "spot"
    )
    assert t4.hours is not None and 14 < t4.hours < 20


def test_many_gpus_are_a_little_less_than_many_times_one() -> None:
    found = {quote.source: quote for quote in quotes(plan_of("134m"))}
    one, four = found["AWS Price List; g5.xlarge"], found["AWS Price List; g5.12xlarge"]
    assert one.hours and four.hours and four.hours == pytest.approx(one.hours / 3.6, rel=1e-4)
    assert four.gpu == "4 x NVIDIA A10G"


def test_own_offers() -> None:
    offers = [
        CloudOffer(name="Timed", gpu="Anything", usd_per_hour=0.1, hours=3),
        CloudOffer(name="Scaled", gpu="NVIDIA T4", usd_per_hour=0.1),
        CloudOffer(name="Unknown", gpu="Quantum 9000", usd_per_hour=0.1),
        CloudOffer(name="Free", gpu="NVIDIA T4", usd_per_hour=0.0),
    ]
    timed, scaled, unknown, free = quotes(plan_of("134m"), offers)[:4]
    assert (timed.hours, timed.usd, timed.kind) == (3.0, 0.3, "yours")
    assert scaled.hours is not None and 14 < scaled.hours < 20
    assert unknown.hours is None and unknown.usd is None and "hours" in unknown.basis
    assert free.usd == 0.0, "a free offer costs nothing, which is known"


def test_an_entrys_flop_is_exact_for_a_preset_and_by_parameters_else() -> None:
    plan = plan_of("tiny")
    assert entry_flop(ledger_entry(tokens=plan.tokens_total)) == run_flop(plan)
    assert entry_flop(ledger_entry(parameters=1000, tokens=10)) == 60_000
    assert entry_flop(ledger_entry(preset="gone", tokens=1)) == 6 * ledger_entry().parameters
