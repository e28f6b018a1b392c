"""Sums over calls: in all, over time, and by model, user, endpoint and so on. `stats` and the page show the same ones.

The calls are read once (`Queries.calls`) and summed here. With one query for each sum, the overview would read the
table ten times: 1.1 s instead of 0.7 s for 100,000 calls.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from .results import Group, Point, Series, Totals
from .selection import Selection

By = Literal["model", "user", "endpoint", "trace", "provider", "session"]
COLUMN_OF: dict[str, str] = {
    "model": "model",
    "user": "user",
    "endpoint": "endpoint",
    "trace": "trace_id",
    "provider": "provider",
    "session": "session_id",
}
"""What calls are grouped by, and the column that holds it."""

SUMMED = (
    "epoch", "is_error", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "latency_s",
    "ttft_s",
)  # fmt: skip
"""The columns that sums are made of: the first ones of each row."""

Row = tuple[Any, ...]
_EPOCH = SUMMED.index("epoch")
_STEPS_S = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400, 28 * 86_400)


class Calls:
    """The calls of a selection: rows of `SUMMED` and of what they can be grouped `by`. `now` is epoch seconds."""

    def __init__(self, rows: Sequence[Row], by: Sequence[By], selection: Selection, now: float) -> None:
        self._rows = rows
        self._place = {name: len(SUMMED) + number for number, name in enumerate(by)}
        self._selection = selection
        self._now = now
        self.totals = totals(rows)

    def series(self, points: int = 60) -> Series:
        """Sums over time, in at most about `points` steps of a round length (UTC)."""
        if self.totals.first is None or self.totals.last is None:
            return Series(0.0, 0.0, ())
        start, step, number = steps(self._selection, self.totals.first, self.totals.last, points, self._now)
        buckets: dict[int, list[Row]] = defaultdict(list)
        for row in self._rows:
            buckets[int((row[_EPOCH] - start) / step)].append(row)
        none = Totals()
        of_step = (totals(buckets[place]) if place in buckets else none for place in range(number))
        return Series(start, step, tuple(Point(start + place * step, one) for place, one in enumerate(of_step)))

    def groups(self, by: By, limit: int | None = None) -> list[Group]:
        """The groups with the most calls; of those with as many, the one with the newest call first."""
        place = self._place[by]
        found: dict[str | None, list[Row]] = defaultdict(list)
        for row in self._rows:
            found[row[place]].append(row)
        ordered = sorted(found.items(), key=_size, reverse=True)
        return [Group(key, totals(rows)) for key, rows in ordered[:limit]]


def _size(group: tuple[str | None, list[Row]]) -> tuple[int, float]:
    return len(group[1]), max(row[_EPOCH] for row in group[1])


def totals(rows: Sequence[Row]) -> Totals:
    """The sum of all of them."""
    if not rows:
        return Totals()
    columns: Mapping[str, Sequence[Any]] = dict(zip(SUMMED, zip(*rows, strict=True)))  # noqa: B905
    costs = _known(columns["cost_usd"])
    latencies, firsts = sorted(_known(columns["latency_s"])), sorted(_known(columns["ttft_s"]))
    failed = columns["is_error"]
    return Totals(
        calls=len(rows),
        errors=sum(failed),
        input_tokens=_sum(columns["input_tokens"]),
        output_tokens=_sum(columns["output_tokens"]),
        cached_tokens=_sum(columns["cached_tokens"]),
        reasoning_tokens=_sum(columns["reasoning_tokens"]),
        cost_usd=math.fsum(costs) if costs else None,
        # A call that failed has no price, and does not count as one whose price is missing.
        unpriced=sum(cost is None and not bad for cost, bad in zip(columns["cost_usd"], failed, strict=True)),
        first=min(columns["epoch"]),
        last=max(columns["epoch"]),
        latency_p50_s=percentile(latencies, 0.5),
        latency_p95_s=percentile(latencies, 0.95),
        ttft_p50_s=percentile(firsts, 0.5),
        ttft_p95_s=percentile(firsts, 0.95),
    )


def steps(selection: Selection, first: float, last: float, points: int, now: float) -> tuple[float, float, int]:
    """How a plot of calls from `first` to `last` divides its time: begin, length and number of the steps.

    At most about `points` steps, of a round length (UTC).
    """
    since, until = selection.span(now)
    begin = first if since is None else since
    # Up to now where the range is open at its end: a plot that ends with the last call hides that nothing came.
    end = max(begin, last, until if until is not None else (now if since is not None else last))
    end = min(end, max(now, last))
    step = next((step for step in _STEPS_S if (end - begin) / step <= points), _STEPS_S[-1])
    while (end - begin) / step > 10 * points:  # timestamps of thousands of years
        step *= 10
    start = math.floor(begin / step) * step
    return float(start), float(step), int((end - start) // step) + 1


def percentile(ordered: list[float], share: float) -> float | None:
    """The smallest of the ordered values that at least this share of them does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _known(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _sum(values: Iterable[Any]) -> int | None:
    known = _known(values)
    return sum(known) if known else None
