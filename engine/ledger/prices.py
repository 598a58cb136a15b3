"""The dated table of cloud prices that ships with the program: `cloud_prices.csv` beside this file."""

from __future__ import annotations

import csv
import functools
import importlib.resources
import io
from decimal import Decimal, InvalidOperation

import msgspec

from engine.errors import StoreError

TABLE_NAME = "cloud_prices.csv"
_COLUMNS = (
    "provider",
    "instance",
    "gpu",
    "gpus",
    "gpu_memory_gib",
    "kind",
    "usd_per_hour",
    "as_of",
    "source",
)
KINDS = ("on-demand", "spot", "marketplace", "quoted")
COURSE = "course"
"""The provider of the row that the course quotes: a T4 at $0.70 an hour."""


class CloudPrice(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: what an hour of an instance costs."""

    provider: str
    instance: str
    gpu: str
    gpus: int
    """GPUs in the instance; the price is for all of them."""
    gpu_memory_gib: int
    """Of one GPU."""
    kind: str
    """on-demand, spot, marketplace or quoted."""
    usd_per_hour: Decimal
    as_of: str
    """Date, month, quarter or year that the price was seen, as the source tells it."""
    source: str


@functools.cache
def load() -> tuple[CloudPrice, ...]:
    """The table that ships.

    Raises: StoreError naming line, column and value where a row is broken; reinstall the program then.
    """
    try:
        text = importlib.resources.files("engine.ledger").joinpath(TABLE_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"The table of cloud prices, {TABLE_NAME}, cannot be read: {error}", "Install the program again."
        ) from error
    return parse(text)


def parse(text: str, name: str = TABLE_NAME) -> tuple[CloudPrice, ...]:
    """The rows of a table in CSV; `name` is what messages call it. Raises: StoreError as `load`."""
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(reader, [])
        if tuple(header) != _COLUMNS:
            raise StoreError(
                f"{name}:1: the columns are {', '.join(header) or 'missing'}.",
                f"They have to be {', '.join(_COLUMNS)}.",
            )
        return tuple(_price(row, f"{name}:{reader.line_num}") for row in reader if row)
    except csv.Error as error:
        raise StoreError(
            f"{name}:{reader.line_num}: not CSV: {error}", "Mend the quotes of that row."
        ) from error


def _price(row: list[str], where: str) -> CloudPrice:
    if len(row) != len(_COLUMNS):
        raise StoreError(
            f"{where}: {len(row)} fields instead of {len(_COLUMNS)}.",
            "Put a field with a comma in it between double quotes.",
        )
    cells = dict(zip(_COLUMNS, (cell.strip() for cell in row), strict=True))
    for column, cell in cells.items():
        if not cell:
            raise StoreError(f"{where}: {column} is empty.", "Every price needs all of its columns.")
    if cells["kind"] not in KINDS:
        raise StoreError(
            f"{where}: kind = {cells['kind']!r} is not known.", f"Use one of {', '.join(KINDS)}."
        )
    return CloudPrice(
        provider=cells["provider"],
        instance=cells["instance"],
        gpu=cells["gpu"],
        gpus=_whole(cells, "gpus", where),
        gpu_memory_gib=_whole(cells, "gpu_memory_gib", where),
        kind=cells["kind"],
        usd_per_hour=_price_per_hour(cells, where),
        as_of=cells["as_of"],
        source=cells["source"],
    )


def _whole(cells: dict[str, str], column: str, where: str) -> int:
    cell = cells[column]
    if not (cell.isascii() and cell.isdigit() and 0 < int(cell) < 100_000):
        raise StoreError(
            f"{where}: {column} = {cell!r} is not a whole number above 0.", "Write it in digits."
        )
    return int(cell)


def _price_per_hour(cells: dict[str, str], where: str) -> Decimal:
    cell = cells["usd_per_hour"]
    try:
        price = Decimal(cell)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price <= 0:
        raise StoreError(
            f"{where}: usd_per_hour = {cell!r} is not a price above 0.", "Write US dollars, like 0.526."
        )
    return price
