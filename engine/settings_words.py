"""What values a setting takes, in words and one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from msgspec import inspect as types

from engine.settings import CURRENCY_PATTERN, TIME_PATTERN


def describe(kind: Any) -> str:
    """What values a type takes, in words: "a whole number from 1 to 200", "one of muon, adamw"."""
    return _describe(types.type_info(kind), literals(kind))


Literals = Mapping[frozenset[Any], tuple[Any, ...]]
"""The values of a Literal to the same in their order, which msgspec does not keep."""


def literals(kind: Any) -> Literals:
    """Every Literal within a type."""
    if get_origin(kind) is Literal:
        return {frozenset(get_args(kind)): get_args(kind)}
    return {key: values for part in get_args(kind) for key, values in literals(part).items()}


def _describe(info: types.Type, orders: Literals) -> str:
    match info:
        case types.Metadata():
            return _describe(info.type, orders)
        case types.UnionType():
            parts = [part for part in info.types if not isinstance(part, types.NoneType)]
            return " or ".join(_describe(part, orders) for part in parts)
        case types.LiteralType():
            return _quoted(info, orders) if len(info.values) == 1 else f"one of {_quoted(info, orders)}"
        case types.IntType():
            return f"a whole number{_range(info)}"
        case types.FloatType():
            return f"a number{_range(info)}"
        case types.BoolType():
            return "true or false"
        case types.StrType():
            named = {
                CURRENCY_PATTERN: "three capital letters in quotes",
                TIME_PATTERN: 'a time of day in quotes, like "22:00"',
            }
            return named.get(info.pattern or "", "a text in quotes")
        case types.ListType(item_type=types.StructType()):
            return "tables"
        case types.ListType(item_type=types.LiteralType() as literal):
            return f"a list of {_quoted(literal, orders)}"
        case types.ListType():
            return "a list of texts"
        case _:
            return "a table"


def _quoted(info: types.LiteralType, orders: Literals) -> str:
    return ", ".join(f'"{value}"' for value in ordered(info, orders))


def ordered(info: types.LiteralType, orders: Literals) -> tuple[Any, ...]:
    """The values of a Literal in the order in which they were written."""
    return orders.get(frozenset(info.values), tuple(info.values))


def _range(info: types.IntType | types.FloatType) -> str:
    low = (
        f" above {info.gt:g}" if info.gt is not None else f" from {info.ge:,g}" if info.ge is not None else ""
    )
    return low + (f" to {info.le:,.15g}" if info.le is not None else "")
