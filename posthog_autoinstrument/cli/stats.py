"""`posthog-instrument stats`: costs, tokens and latencies of the calls in the local store, as numbers and small bars.

In colours on a terminal if `rich` (extra `cli`) is installed; otherwise the same as plain text.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, get_args

from ..core.formatting import clean, count, money, seconds, stretch
from ..settings.config import Config
from ..store.database import StoreError, is_there
from ..store.prices import Prices, PricesError
from ..store.queries import Queries
from ..store.results import Group, Series, Totals
from ..store.selection import Selection, parse_time
from ..store.sums import By
from .terminal import cut, detach, pad, width, write

_BAR = 12
_SPARKS = " ▁▂▃▄▅▆▇█"
_NAMELESS = {"user": "(anonymous)"}


def main(arguments: Sequence[str], settings: Config, stdout: TextIO, stderr: TextIO | None = None) -> int:
    """Run the command and return its exit code: 1 when there is nothing to show or it cannot be read.

    Wrong arguments end in argparse's message and SystemExit(2).
    """
    stderr = stderr or sys.stderr
    options = _parser().parse_args(list(arguments))
    path = Path(options.db or settings.db_path)
    if not is_there(path):
        advice = "run a program with `posthog-instrument --local ...` first"
        print(f"no events yet: {clean(str(path))} does not exist ({advice})", file=stderr)
        return 1
    selection = Selection(since=options.since or "", user=options.user, model=options.model)
    try:
        prices = Prices.load(settings.prices_path)
        with Queries(path, prices) as queries:
            _catch_up(queries, stderr)
            calls = queries.calls(selection, options.by)
        totals, groups, series = calls.totals, calls.groups(options.by, options.limit), calls.series(48)
        if options.json:
            stdout.write(json.dumps(_as_json(options, totals, groups, series)) + "\n")
        else:
            _print(options, totals, groups, series, stdout)
        stdout.flush()
    except (StoreError, PricesError) as error:
        print(clean(str(error)), file=stderr)
        return 1
    except BrokenPipeError:
        detach(stdout)
        return 0
    if totals.unpriced and not prices.names and stderr.isatty():
        print('no prices for costs: pip install "posthog-autoinstrument[viewer]"', file=stderr)
    if not totals.calls:
        since = f" since {options.since}" if options.since else ""
        print(f"no calls{since} in {clean(str(path))}", file=stderr)
    return 0


def _catch_up(queries: Queries, stderr: TextIO) -> None:
    """Calculate the costs that are missing: 20,000 per second."""
    begin, shown = time.monotonic(), False
    while left := _left(queries, stderr):
        if stderr.isatty() and time.monotonic() - begin > 1:
            stderr.write(f"\rreading {left:,} events ... ")
            stderr.flush()
            shown = True
    if shown:
        stderr.write("\r" + " " * 40 + "\r")


def _left(queries: Queries, stderr: TextIO) -> int:
    try:
        return queries.refresh(0.5, search=False)
    except StoreError as error:  # the file may be read-only: what is known can be shown
        print(f"the newest events may be missing: {clean(str(error))}", file=stderr)
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="posthog-instrument stats", description="Calls, errors, tokens, costs and times of the local store."
    )
    parser.add_argument("--by", choices=get_args(By), default="model", help="what to group by (default: model)")
    parser.add_argument(
        "--since",
        type=_time,
        metavar="WHEN",
        help="15m, 24h, 7d or 4w ago, or a time such as 2026-01-31 (default: all)",
    )
    parser.add_argument("--user", metavar="ID", help="only the calls of this user")
    parser.add_argument("--model", metavar="NAME", help="only the calls of this model")
    parser.add_argument("--limit", type=_positive, default=20, metavar="N", help="how many rows (default: 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--db", metavar="PATH", help="another store file")
    return parser


def _time(text: str) -> str:
    if parse_time(text, 0.0) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: 15m, 24h, 7d, 4w, 2026-01-31 or 2026-01-31T12:00:00Z"
        )
    return text


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows (1, 2, ...)")
    return number


def _as_json(options: argparse.Namespace, totals: Totals, groups: list[Group], series: Series) -> dict[str, Any]:
    return {
        "since": options.since,
        "by": options.by,
        "totals": asdict(totals),
        "groups": [{"key": group.key, **asdict(group.totals)} for group in groups],
        "series": {
            "start": series.start,
            "step_s": series.step_s,
            "calls": [point.totals.calls for point in series.points],
        },
    }


# --- as text ---


def _print(options: argparse.Namespace, totals: Totals, groups: list[Group], series: Series, stdout: TextIO) -> None:
    if not totals.calls:
        return
    room = shutil.get_terminal_size((100, 24)).columns
    painted = _Paint(stdout)
    for line in _head(totals, series, room):
        painted.write([(line, "")])
    painted.write([])
    table = [_cells(group, options.by) for group in groups]
    titles = (options.by.upper(), "CALLS", "ERRORS", "TOKENS", "COST", "P50", "P95")
    sizes = [max(width(row[place]) for row in [titles, *table]) for place in range(len(titles))]
    # The name gives way first, then the bar.
    bar = _BAR if room >= sum(sizes[1:]) + 2 * len(titles) + _BAR + 16 else 0
    sizes[0] = max(8, min(sizes[0], room - sum(sizes[1:]) - 2 * len(titles) - bar))
    painted.write(
        [(pad(titles[0], sizes[0]) + "  " + (" " * (bar + 2) if bar else ""), "bold")]
        + [(pad(title, size, right=True) + "  ", "bold") for title, size in zip(titles[1:], sizes[1:], strict=True)]
    )
    most = max(group.totals.calls for group in groups)
    for group, row in zip(groups, table, strict=True):
        parts = [(pad(row[0], sizes[0], keep_end=options.by in ("trace", "session")) + "  ", "cyan")]
        if bar:
            parts.append((pad(_bar(group.totals.calls, most, bar), bar) + "  ", "green"))
        for place, (cell, size) in enumerate(zip(row[1:], sizes[1:], strict=True)):
            parts.append((pad(cell, size, right=True) + "  ", "red" if place == 1 and group.totals.errors else ""))
        painted.write(parts)
    rest = totals.calls - sum(group.totals.calls for group in groups)
    if rest:
        painted.write([(f"and {count(rest)} more calls (--limit)", "dim")])


def _head(totals: Totals, series: Series, room: int) -> list[str]:
    cost = money(totals.cost_usd)
    if totals.cost_usd is not None and totals.unpriced:
        cost += f" and the unknown cost of {count(totals.unpriced)}"
    lines = [
        f"{count(totals.calls)} calls, {count(totals.errors)} failed",
        f"{_tokens(totals)} tokens",
        f"cost {cost}",
    ]
    if width(", ".join(lines)) <= room:
        lines = [", ".join(lines)]
    timings = f"latency p50 {seconds(totals.latency_p50_s)}, p95 {seconds(totals.latency_p95_s)}"
    if totals.ttft_p50_s is not None:
        timings += f"; first token p50 {seconds(totals.ttft_p50_s)}, p95 {seconds(totals.ttft_p95_s)}"
    lines.append(timings)
    if len(series.points) > 1:
        calls = [point.totals.calls for point in series.points]
        label = f" calls per {stretch(series.step_s)}"
        lines.append(_sparks(calls[-max(1, room - len(label)) :]) + label)
    return [cut(line, room) for line in lines]


def _cells(group: Group, by: str) -> tuple[str, ...]:
    totals = group.totals
    name = _NAMELESS.get(by, "(none)") if group.key is None else clean(group.key) or "(invisible)"
    cost = money(totals.cost_usd) + ("+?" if totals.cost_usd is not None and totals.unpriced else "")
    return (
        name,
        count(totals.calls),
        count(totals.errors),
        _tokens(totals),
        cost,
        seconds(totals.latency_p50_s),
        seconds(totals.latency_p95_s),
    )


def _tokens(totals: Totals) -> str:
    return f"{count(totals.input_tokens)}→{count(totals.output_tokens)}"


def _bar(value: int, most: int, columns: int) -> str:
    """A bar in eighths of a column; at least one eighth if the value is not 0."""
    eighths = max(1, round(8 * columns * value / most)) if value else 0
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def _sparks(values: list[int]) -> str:
    most = max(values) or 1
    return "".join(_SPARKS[-(-8 * value // most)] for value in values)


class _Paint:
    """Writes lines of (text, style): by rich on a terminal where it is there, else without the styles."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._console: Any = None
        if stdout.isatty():
            try:
                from rich.console import Console
            except ImportError:
                return
            self._console = Console(file=stdout, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def write(self, parts: list[tuple[str, str]]) -> None:
        text = "".join(part for part, _ in parts).rstrip()
        encoding = getattr(self._stdout, "encoding", None) or "utf-8"
        if self._console is None or not _fits(text, encoding):
            write(self._stdout, text if _fits(text, encoding) else _plain(text))
            return
        from rich.text import Text

        line = Text(end="\n")
        for part, style in parts:
            line.append(part, style or None)
        line.rstrip()
        self._console.print(line)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _plain(text: str) -> str:
    """Bars and dashes for terminals that have no other characters."""
    for found, instead in (("█", "#"), ("—", "-"), ("▏▎▍▌", "-"), ("▋▊▉", "#"), ("▁▂▃", "."), ("▄▅▆▇", "+")):
        for char in found:
            text = text.replace(char, instead)
    return text
