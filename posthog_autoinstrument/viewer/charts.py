"""Charts as geometry, which the templates draw as SVG. Positions are percent of width and height, from the top left.

Computed on the server: a chart is part of the first response, needs no script, and is the same in every browser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..core.formatting import local, money, seconds, short
from ..store.results import Point, Series, Totals

Reading = Callable[[Totals], float | None]


@dataclass(frozen=True)
class Layer:
    """One series of a chart: its name, its CSS class, and how to read its value."""

    name: str
    look: str
    read: Reading


@dataclass(frozen=True)
class Bar:
    """A rectangle of a stack."""

    look: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Line:
    """Points of a line without gaps, `x,y` pairs. A single point is a dot."""

    layer: str
    points: tuple[tuple[float, float], ...]

    @property
    def look(self) -> str:
        """CSS classes."""
        return self.layer if len(self.points) > 1 else f"{self.layer} dot"

    @property
    def path(self) -> str:
        """The `points` of a polyline; a dot is two equal points, which round line caps make visible."""
        points = self.points if len(self.points) > 1 else self.points * 2
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


@dataclass(frozen=True)
class Slot:
    """One step of the time axis: its position, its tooltip, and the time that it covers."""

    left: float
    width: float
    start: float
    end: float
    words: str
    figures: tuple[str, ...]
    """One value for each layer, as text."""


@dataclass(frozen=True)
class Plot:
    """One chart, ready to be drawn."""

    title: str
    layers: tuple[Layer, ...]
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    slots: tuple[Slot, ...]
    marks: tuple[tuple[float, str], ...]
    """Horizontal lines: percent from the top, and their value as text."""
    times: tuple[str, ...]
    """Labels below the axis: at its start, middle and end."""
    is_empty: bool


def stacked(title: str, series: Series, layers: Sequence[Layer], format_value: Callable[[float], str] = short) -> Plot:
    """One bar for each step, the layers stacked."""
    values = [[layer.read(point.totals) or 0.0 for layer in layers] for point in series.points]
    top = nice_top(max((sum(one) for one in values), default=0.0))
    width = 100 / max(1, len(values))
    bars = []
    for place, one in enumerate(values):
        used = 0.0
        for layer, value in zip(layers, one, strict=True):
            height = 100 * value / top
            if value > 0:
                bars.append(Bar(layer.look, place * width + width * 0.1, 100 - used - height, width * 0.8, height))
            used += height
    return _plot(title, series, layers, format_value, top, tuple(bars), ())


def lines(title: str, series: Series, layers: Sequence[Layer], format_value: Callable[[float], str] = seconds) -> Plot:
    """One line for each layer, with gaps where there is no value."""
    read = [[layer.read(point.totals) for point in series.points] for layer in layers]
    top = nice_top(max((value for one in read for value in one if value is not None), default=0.0))
    width = 100 / max(1, len(series.points))
    found = []
    for layer, values in zip(layers, read, strict=True):
        points: list[tuple[float, float]] = []
        for place, value in enumerate([*values, None]):
            if value is not None:
                points.append(((place + 0.5) * width, 100 - 100 * value / top))
            elif points:
                found.append(Line(layer.look, tuple(points)))
                points = []
    return _plot(title, series, layers, format_value, top, (), tuple(found))


def _plot(
    title: str,
    series: Series,
    layers: Sequence[Layer],
    format_value: Callable[[float], str],
    top: float,
    bars: tuple[Bar, ...],
    drawn: tuple[Line, ...],
) -> Plot:
    width = 100 / max(1, len(series.points))
    slots = tuple(
        _slot(point, place * width, width, series.step_s, layers, format_value)
        for place, point in enumerate(series.points)
    )
    marks = tuple((100 - 100 * part, format_value(top * part)) for part in (1.0, 0.5))
    end = series.start + series.step_s * len(series.points)
    times = tuple(_axis_time(when, end - series.start) for when in (series.start, (series.start + end) / 2, end))
    return Plot(title, tuple(layers), bars, drawn, slots, marks, times if slots else (), not (bars or drawn))


def _slot(
    point: Point,
    left: float,
    width: float,
    step_s: float,
    layers: Sequence[Layer],
    format_value: Callable[[float], str],
) -> Slot:
    figures = tuple(
        "—" if value is None else format_value(value) for value in (layer.read(point.totals) for layer in layers)
    )
    words = ", ".join(f"{figure} {layer.name}" for layer, figure in zip(layers, figures, strict=True))
    when = f"{_axis_time(point.start, step_s)} to {_axis_time(point.start + step_s, step_s)}"
    return Slot(left, width, point.start, point.start + step_s, f"{when}: {words}", figures)


def _axis_time(epoch: float, span_s: float) -> str:
    when = local(epoch)
    if span_s >= 2 * 86400:
        return f"{when:%b} {when.day}"
    if span_s >= 86400 or when.date() != datetime.now().date():
        return f"{when:%b} {when.day}, {when:%H:%M}"
    return f"{when:%H:%M:%S}" if span_s < 600 else f"{when:%H:%M}"


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... (and 0.5, 0.2, ...) that is not below `least`."""
    if least <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(least))
    return next(step * size for step in (1.0, 2.0, 5.0, 10.0) if step * size >= least * 0.999999)


def nice_top(highest: float) -> float:
    """The end of the value axis: a round number not below the highest value; 1 if there are no values."""
    return nice_step(highest / 4) * math.ceil(highest / nice_step(highest / 4) - 1e-9) if highest > 0 else 1.0


def overview(series: Series) -> tuple[Plot, ...]:
    """The charts of the overview."""
    return (
        stacked(
            "Calls",
            series,
            (
                Layer("succeeded", "ok", lambda totals: totals.calls - totals.errors),
                Layer("failed", "bad", lambda totals: totals.errors),
            ),
        ),
        stacked(
            "Tokens",
            series,
            (
                Layer("input", "one", lambda totals: totals.input_tokens),
                Layer("output", "two", lambda totals: totals.output_tokens),
            ),
        ),
        stacked("Cost", series, (Layer("cost", "one", lambda totals: totals.cost_usd),), money),
        lines(
            "Latency",
            series,
            (
                Layer("median", "one", lambda totals: totals.latency_p50_s),
                Layer("95th percentile", "two", lambda totals: totals.latency_p95_s),
            ),
        ),
        lines(
            "Time to first token",
            series,
            (
                Layer("median", "one", lambda totals: totals.ttft_p50_s),
                Layer("95th percentile", "two", lambda totals: totals.ttft_p95_s),
            ),
        ),
    )
