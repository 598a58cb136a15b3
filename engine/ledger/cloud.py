"""What a run would cost on a rented GPU: hours by its FLOP, money by the dated table and the person's own offers.

Hours are the run's FLOP over what the GPU should sustain (`engine.chips`: its dense peak times the share of it
to expect, lowest to highest). Where this machine's own GPU was measured, the share is taken as many times the usual
as it was here; docs/decisions/0003-cloud-hours.md says why. The T4 of the course has its own basis, the 48 hours
that the course quotes, scaled by FLOP.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from engine.chips import find_chip
from engine.errors import StoreError
from engine.ledger import prices
from engine.records import CloudQuote, LedgerEntry, RunPlan
from engine.settings import CloudOffer
from engine.shape import PRESETS

COURSE_HOURS = Decimal(48)
COURSE_TOKENS = 1_000_000_000
COURSE_FLOP = PRESETS["134m"].flops_per_token * COURSE_TOKENS
COURSE_BASIS = "the course: 48 h for one billion tokens at 134M"
MANY_GPUS_FRAC = 0.9
"""Share of n times one GPU's speed that n of them in one machine reach, data-parallel."""
_WHOLE_COURSE_FRAC = 0.001
"""A run this close to the course's is the course's: its tokens are rounded up to whole steps."""
_MOST_SHARE = 0.7
"""Largest share of a peak that is believed, whatever this machine reaches of its own."""
_QUANTUM = Decimal("1e-12")
"""Finer than any figure that is shown: a run of a second is not to cost nothing."""


def run_flop(plan: RunPlan) -> float:
    """FLOP of the whole run, without recomputation."""
    return plan.shape.flops_per_token * plan.tokens_total


def entry_flop(entry: LedgerEntry) -> float:
    """FLOP that went into a run of the ledger: exact for a preset's own shape, else 6 a parameter and token."""
    return entry_flops_per_token(entry) * entry.tokens


def entry_flops_per_token(entry: LedgerEntry) -> float:
    """FLOP a token of a run of the ledger; see `entry_flop`."""
    preset = PRESETS.get(entry.preset)
    if preset is not None and preset.parameters == entry.parameters:
        return preset.flops_per_token
    return 6.0 * entry.parameters


def own_share(plan: RunPlan, tokens_per_s: float | None) -> float | None:
    """How the measured speed of this machine's GPU stands to what its data lets expect: 1 is as expected.

    None for a CPU, whose speed says nothing of a GPU's, for a GPU that is not in the table, or without measurement.
    """
    chip = find_chip(plan.device.name) if plan.device.kind == "cuda" else None
    if chip is None or not tokens_per_s:
        return None
    return tokens_per_s * plan.shape.flops_per_token / chip.sustained_flops


def quotes(
    plan: RunPlan, offers: Sequence[CloudOffer] = (), *, share: float | None = None, left_frac: float = 1.0
) -> list[CloudQuote]:
    """What the run would cost elsewhere: the person's own offers, then the table, cheapest first, unknown last.

    `share` is `own_share`, None: the usual one; `left_frac` is how much of the run is to be done there. Where that
    is not the course's own run, the course's example stands at the end as it was quoted, beside its scaled row.
    Raises: StoreError where the table that ships is broken.
    """
    return quotes_for(run_flop(plan) * left_frac, offers, share=share, left_frac=left_frac)


def quotes_for(
    flop: float, offers: Sequence[CloudOffer] = (), *, share: float | None = None, left_frac: float = 1.0
) -> list[CloudQuote]:
    """`quotes` for that many FLOP. Raises: StoreError as `quotes`."""
    table = [_quote(price, flop, share) for price in prices.load()]
    table.sort(key=lambda quote: (quote.usd is None, quote.usd or 0.0))
    own = [_own_quote(offer, flop, share, left_frac) for offer in offers]
    as_quoted = [course_quote_for(COURSE_FLOP)] if not _is_course(flop) else []
    return own + table + [msgspec.structs.replace(quote, is_for_this_run=False) for quote in as_quoted]


def course_quote(plan: RunPlan) -> CloudQuote:
    """The course's T4 for this run: 48 h and $33.60 for its own billion tokens at 134M, else scaled by FLOP."""
    return course_quote_for(run_flop(plan))


def course_quote_for(flop: float) -> CloudQuote:
    """The course's T4 for that many FLOP. Raises: StoreError where the table has no course row."""
    for price in prices.load():
        if price.provider == prices.COURSE:
            return _course_quote(price, flop)
    raise StoreError(f"{prices.TABLE_NAME} has no row of the course.", "Install the program again.")


def _quote(price: prices.CloudPrice, flop: float, share: float | None) -> CloudQuote:
    if price.provider == prices.COURSE:
        return _course_quote(price, flop)
    hours, low, high, basis = _hours(price.gpu, price.gpus, flop, share)
    return CloudQuote(
        provider=price.provider,
        gpu=price.gpu if price.gpus == 1 else f"{price.gpus} x {price.gpu}",
        kind=price.kind,
        usd_per_hour=float(price.usd_per_hour),
        hours=_float(hours),
        usd=_float(None if hours is None else hours * price.usd_per_hour),
        as_of=price.as_of,
        source=f"{price.source}; {price.instance}",
        basis=basis,
        hours_low=low,
        hours_high=high,
    )


def _course_quote(price: prices.CloudPrice, flop: float) -> CloudQuote:
    is_whole = _is_course(flop)
    hours = COURSE_HOURS if is_whole else COURSE_HOURS * Decimal(flop / COURSE_FLOP)
    return CloudQuote(
        provider=price.provider,
        gpu=price.gpu,
        kind=price.kind,
        usd_per_hour=float(price.usd_per_hour),
        hours=_float(hours),
        usd=_float(hours * price.usd_per_hour),
        as_of=price.as_of,
        source=price.source,
        basis=COURSE_BASIS if is_whole else f"{COURSE_BASIS}, scaled by FLOP to this run",
    )


def _is_course(flop: float) -> bool:
    """Whether that much arithmetic is the course's own run."""
    return abs(flop / COURSE_FLOP - 1) < _WHOLE_COURSE_FRAC


def _own_quote(offer: CloudOffer, flop: float, share: float | None, left_frac: float) -> CloudQuote:
    price = Decimal(str(offer.usd_per_hour))
    hours, low, high, basis = _hours(offer.gpu, 1, flop, share)
    if offer.hours is not None:
        hours, low, high = Decimal(str(offer.hours)) * Decimal(left_frac), None, None
        basis = "hours by your settings" if left_frac == 1.0 else "hours by your settings, for what is left"
    elif hours is None:
        basis += "; give the offer its hours"
    return CloudQuote(
        provider=offer.name,
        gpu=offer.gpu,
        kind="yours",
        usd_per_hour=offer.usd_per_hour,
        hours=_float(hours),
        usd=_float(None if hours is None else hours * price),
        as_of="your settings",
        source="cloud.offers in settings.toml",
        basis=basis,
        hours_low=low,
        hours_high=high,
    )


def _hours(
    gpu: str, num_gpus: int, flop: float, share: float | None
) -> tuple[Decimal | None, float | None, float | None, str]:
    """Hours of a run on that many of a GPU, their range, and what they rest on; None: the GPU is not in the table."""
    chip = find_chip(gpu)
    if chip is None:
        return None, None, None, "unknown: this GPU's speed is not in the table"
    factor = 1.0 if share is None else share
    low, high = (min(_MOST_SHARE, frac * factor) for frac in chip.utilisation_frac)
    flops, many = chip.peak_flops * (low + high) / 2, ""
    scaling = 1.0
    if num_gpus > 1:
        scaling = num_gpus * MANY_GPUS_FRAC
        many = f", {num_gpus} of them at {MANY_GPUS_FRAC:.0%} of {num_gpus} times one"
    whose = "" if share is None else f", {share:.2f} times the usual as measured on this machine"
    basis = f"this run's FLOP at {low:.0%} to {high:.0%} of {chip.peak_flops / 1e12:g} TFLOP/s{whose}{many}"

    def hours_at(frac: float) -> float:
        return flop / (chip.peak_flops * frac * scaling) / 3600

    return Decimal(flop / (flops * scaling) / 3600), hours_at(high), hours_at(low), basis


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value.quantize(_QUANTUM))
