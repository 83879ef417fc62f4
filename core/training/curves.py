"""Line charts as SVG text: no plotting library, sharp at any size, readable in a diff."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 640, 260  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 30, 40  # margins
_COLORS = ("#1f5fa8", "#d1495b", "#2e8b57", "#b8860b", "#7d4fa3", "#4a4a4a")


def chart(title: str, series: Mapping[str, Points], unit: str = "", across: str = "step") -> str:
    """One chart with a line for each series, over steps or what else ``across`` says.

    Lines that lie on each other stay visible: each is thinner than the one before it and drawn over it. Values that
    are not finite leave no point.

    Args:
        title: above the chart.
        series: name -> (step, value) in order; the names make the legend where there is more than one.
        unit: of the values, behind the title.
    """
    lines = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    xs, ys = ([point[axis] for points in lines.values() for point in points] or [0.0] for axis in (0, 1))
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    (left, right), (low, high) = _range(xs, []), _range(ys, y_ticks)

    def place(x: float, y: float) -> str:
        across = _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts = [_text(_LEFT, 18, f"{title}, {unit}" if unit else title, "start", bold=True)]
    for tick in y_ticks:
        (x0, y0), (x1, _) = (place(x, tick).split(",") for x in (left, right))
        parts.append(f'<path d="M{x0},{y0}H{x1}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 6, float(y0) + 4, f"{tick:.6g}", "end"))
    for tick in x_ticks:
        parts.append(_text(float(place(tick, low).split(",")[0]), _HEIGHT - _BOTTOM + 16, f"{tick:.6g}", "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, across, "middle"))
    for number, (name, points) in enumerate(lines.items()):
        color, width = _COLORS[number % len(_COLORS)], max(1.2, 4.0 - 2.4 * number) if len(lines) > 1 else 1.6
        path = " ".join(place(*point) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:.1f}"/>')
        if len(lines) > 1:
            parts.append(_text(_WIDTH - _RIGHT - 4, _TOP + 14 * number + 6, name, "end", color))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _range(values: Sequence[float], also: Sequence[float]) -> tuple[float, float]:
    low, high = min([*values, *also]), max([*values, *also])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _text(x: float, y: float, text: str, anchor: str, color: str = "#333333", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(text)}</text>'
