"""One trace as a tree with a time axis: each event a row, below the one that it names as its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .plots import nice_step
from .shapes import Entry

MAX_DEPTH = 12
"""Deeper rows are not indented further."""
_LONG_STEPS_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0)
_REMARKS = ("feedback", "metric")


@dataclass(frozen=True)
class Row:
    """One line of the tree. Places on the time axis are percent of its length."""

    entry: Entry
    depth: int
    children: int
    """How many rows are below it, at any depth."""
    left: float
    width: float
    first_token: float | None
    """Of a stream: how much of the width went by before its first token."""
    cost_usd: float | None
    """With everything below it. None: nothing of it has a known price."""
    tokens: int | None


@dataclass(frozen=True)
class Tree:
    """The rows from top to bottom, and what there is beside them."""

    rows: tuple[Row, ...]
    remarks: tuple[Entry, ...]
    """Feedback and metrics: they take no time."""
    trace: Entry | None
    """What was said of the trace as a whole, where somebody said it."""
    started: float
    """Epoch seconds."""
    duration_s: float
    ticks: tuple[tuple[float, float], ...]
    """Percent of the axis, and seconds since the start."""


def plant(entries: Sequence[Entry]) -> Tree:
    """The tree of the events of one trace, whatever they say of each other: missing parents, circles, ids twice."""
    trace = next((entry for entry in entries if entry.kind == "trace"), None)
    steps = sorted(
        (e for e in entries if e.kind != "trace" and e.kind not in _REMARKS), key=lambda e: (e.started, e.number)
    )
    remarks = tuple(entry for entry in entries if entry.kind in _REMARKS)
    started = min((entry.started for entry in steps), default=trace.started if trace else 0.0)
    ended = max((entry.epoch for entry in steps), default=started)
    length = max(ended - started, 1e-6)

    by_span = {entry.span: entry for entry in reversed(steps) if entry.span}
    below: dict[int, list[Entry]] = {}
    roots = []
    for entry in steps:
        parent = by_span.get(entry.parent or "")
        if parent is None or parent is entry or _is_above(entry, parent, by_span):
            roots.append(entry)
        else:
            below.setdefault(parent.number, []).append(entry)

    rows: list[Row] = []
    # Not recursive: a program may nest its spans deeper than Python's stack is.
    open_rows: list[tuple[Entry, int]] = [(root, 0) for root in reversed(roots)]
    order: list[tuple[Entry, int]] = []
    while open_rows:
        entry, depth = open_rows.pop()
        order.append((entry, depth))
        open_rows += [(child, depth + 1) for child in reversed(below.get(entry.number, []))]
    for place, (entry, depth) in enumerate(order):
        end = place + 1
        while end < len(order) and order[end][1] > depth:
            end += 1
        family = [one for one, _ in order[place:end]]
        costs = [one.cost_usd for one in family if one.cost_usd is not None]
        tokens = [n for one in family for n in (one.input_tokens, one.output_tokens) if n is not None]
        duration = max(0.0, entry.epoch - entry.started)
        first = entry.ttft_s / duration if entry.ttft_s is not None and duration > 0 else None
        rows.append(
            Row(
                entry=entry,
                depth=depth,
                children=end - place - 1,
                left=100 * (entry.started - started) / length,
                width=100 * duration / length,
                first_token=None if first is None else min(1.0, first),
                cost_usd=sum(costs) if costs else None,
                tokens=sum(tokens) if tokens else None,
            )
        )
    step = _step(length / 5)
    ticks = tuple((100 * n * step / length, n * step) for n in range(int(length / step) + 1))
    return Tree(tuple(rows), remarks, trace, started, ended - started, ticks)


def _step(least: float) -> float:
    """A round time that is not below `least`: minutes and hours have sixty parts."""
    if least <= 20:
        return nice_step(least)
    day = 86_400.0
    return next((step for step in _LONG_STEPS_S if step >= least), day * nice_step(least / day))


def _is_above(entry: Entry, parent: Entry, by_span: dict[str, Entry]) -> bool:
    """Whether `entry` is an ancestor of its own parent: ids that a program made up may run in a circle."""
    seen = set()
    above: Entry | None = parent
    while above is not None and above.number not in seen:
        if above is entry:
            return True
        seen.add(above.number)
        above = by_span.get(above.parent or "")
    return False
