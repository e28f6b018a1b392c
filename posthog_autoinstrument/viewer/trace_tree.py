"""One trace as a tree with a time axis: one row for each event, below its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..store.results import Entry
from .charts import nice_step

MAX_DEPTH = 12
"""Deeper rows are not indented further."""
_LONG_STEPS_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0)
_FEEDBACK = ("feedback", "metric")


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
    """Of a stream: the part of the width before its first token, 0 to 1."""
    cost_usd: float | None
    """Including everything below it. None: no price is known for any of it."""
    tokens: int | None


@dataclass(frozen=True)
class Tree:
    """The rows from top to bottom, and the other events of the trace."""

    rows: tuple[Row, ...]
    feedback: tuple[Entry, ...]
    """Feedback and metrics: they take no time."""
    trace: Entry | None
    """The event of the trace as a whole, if there is one."""
    started: float
    """Epoch seconds."""
    duration_s: float
    ticks: tuple[tuple[float, float], ...]
    """Percent of the axis, and seconds since the start."""


def build(entries: Sequence[Entry]) -> Tree:
    """The tree of one trace's events, even with missing parents, cycles and duplicate ids."""
    trace = next((entry for entry in entries if entry.kind == "trace"), None)
    steps = sorted(
        (e for e in entries if e.kind != "trace" and e.kind not in _FEEDBACK), key=lambda e: (e.started, e.number)
    )
    feedback = tuple(entry for entry in entries if entry.kind in _FEEDBACK)
    started = min((entry.started for entry in steps), default=trace.started if trace else 0.0)
    ended = max((entry.epoch for entry in steps), default=started)
    length = max(ended - started, 1e-6)

    by_span = {entry.span: entry for entry in reversed(steps) if entry.span}
    circling = _circling(steps, by_span)
    below: dict[int, list[Entry]] = {}
    roots = []
    for entry in steps:
        parent = by_span.get(entry.parent or "")
        if parent is None or entry.number in circling:
            roots.append(entry)
        else:
            below.setdefault(parent.number, []).append(entry)

    # Not recursive, and each step once: a program may nest its spans thousands deep.
    order: list[tuple[Entry, int, int]] = []
    open_rows = [(root, 0, -1) for root in reversed(roots)]
    while open_rows:
        entry, depth, above = open_rows.pop()
        open_rows += [(child, depth + 1, len(order)) for child in reversed(below.get(entry.number, []))]
        order.append((entry, depth, above))
    families = [_Family() for _ in order]
    for place in range(len(order) - 1, -1, -1):
        entry, _, above = order[place]
        families[place].add_own(entry)
        if above >= 0:
            families[above].add_all(families[place])

    rows: list[Row] = []
    for (entry, depth, _), family in zip(order, families, strict=True):
        duration = max(0.0, entry.epoch - entry.started)
        first = entry.ttft_s / duration if entry.ttft_s is not None and duration > 0 else None
        rows.append(
            Row(
                entry=entry,
                depth=depth,
                children=family.steps - 1,
                left=100 * (entry.started - started) / length,
                width=100 * duration / length,
                first_token=None if first is None else min(1.0, first),
                cost_usd=family.cost_usd,
                tokens=family.tokens,
            )
        )
    step = _step(length / 5)
    ticks = tuple((100 * n * step / length, n * step) for n in range(int(length / step) + 1))
    return Tree(tuple(rows), feedback, trace, started, ended - started, ticks)


def _step(least: float) -> float:
    """A round time not below `least`, in units of minutes and hours if it is long."""
    if least <= 20:
        return nice_step(least)
    day = 86_400.0
    return next((step for step in _LONG_STEPS_S if step >= least), day * nice_step(least / day))


class _Family:
    """A step and everything below it."""

    def __init__(self) -> None:
        self.steps = 0
        self.cost_usd: float | None = None
        self.tokens: int | None = None

    def add_own(self, entry: Entry) -> None:
        known = [count for count in (entry.input_tokens, entry.output_tokens) if count is not None]
        self._add(1, entry.cost_usd, sum(known) if known else None)

    def add_all(self, other: _Family) -> None:
        self._add(other.steps, other.cost_usd, other.tokens)

    def _add(self, steps: int, cost_usd: float | None, tokens: int | None) -> None:
        self.steps += steps
        if cost_usd is not None:
            self.cost_usd = cost_usd + (self.cost_usd or 0.0)
        if tokens is not None:
            self.tokens = tokens + (self.tokens or 0)


def _circling(steps: Sequence[Entry], by_span: dict[str, Entry]) -> set[int]:
    """The numbers of the events that are their own ancestors: a program's own ids may form a cycle."""
    found: set[int] = set()
    seen: set[int] = set()
    for entry in steps:
        path: dict[int, int] = {}
        above: Entry | None = entry
        while above is not None and above.number not in seen and above.number not in path:
            path[above.number] = len(path)
            above = by_span.get(above.parent or "")
        if above is not None and above.number in path:
            begin = path[above.number]
            found.update(number for number, place in path.items() if place >= begin)
        seen.update(path)
    return found
