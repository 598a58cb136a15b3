"""Curves as a plain SVG that reads on light and on dark paper."""

from __future__ import annotations

import html
import math
from typing import NamedTuple

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 52, 48
_INK = "#808080"
"""Grey that both papers carry."""


class Curve(NamedTuple):
    """One line of the chart."""

    name: str
    colour: str
    is_dashed: bool
    points: list[tuple[float, float]]


def chart(title: str, x_name: str, y_name: str, curves: list[Curve], level: float, level_name: str) -> str:
    """A chart of some curves and a level that they are held against; x starts at 0."""
    x_most = max(x for curve in curves for x, _ in curve.points)
    y_least = min(y for curve in curves for _, y in curve.points)
    y_most = level + 4 * (level - y_least) if y_least < level else level * 1.6
    y_most = max(y_most, level * 1.4)
    y_least -= 0.03 * (y_most - y_least)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + x / x_most * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - (min(y, y_most) - y_least) / (y_most - y_least) * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}">',
        f"<title>{html.escape(title)}</title>",
        _text(_LEFT, 18, title, 'font-size="14"'),
        _text(WIDTH - _RIGHT, HEIGHT - 10, x_name, 'text-anchor="end"'),
        _text(_LEFT, _TOP - 6, y_name),
    ]
    for value in _ticks(y_least, y_most):
        x, y = at(0, value)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - _RIGHT}" stroke="{_INK}" stroke-opacity=".25"/>')
        parts.append(_text(x - 6, y + 4, f"{value:g}", 'text-anchor="end"'))
    for value in _ticks(0, x_most):
        x, y = at(value, y_least)
        parts.append(_text(x, HEIGHT - _BOTTOM + 16, f"{value:g}", 'text-anchor="middle"'))
    y = at(0, level)[1]
    parts.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="{_INK}" stroke-dasharray="2 3"/>')
    parts.append(_text(_LEFT + 4, y - 5, level_name))
    for index, curve in enumerate(curves):
        dash = ' stroke-dasharray="6 4"' if curve.is_dashed else ""
        style = f'fill="none" stroke="{curve.colour}" stroke-width="2"{dash}'
        shown = [at(*point) for point in curve.points if point[1] <= y_most]
        parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in shown)}" {style}/>')
        x, y = WIDTH - 210, _TOP + 10 + 18 * index
        parts.append(f'<path d="M{x} {y}h28" {style}/>')
        parts.append(_text(x + 36, y + 4, curve.name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(text)}</text>'


def _ticks(least: float, most: float) -> list[float]:
    """Round values between, about five."""
    rough = (most - least) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = int(least / step) + (least > 0)
    return [round(step * index, 10) for index in range(first, int(most / step) + 1)]
