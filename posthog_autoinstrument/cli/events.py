"""`posthog-instrument events`: the events of the local store, as a table or as JSON lines."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from ..core.formatting import clean
from ..store.database import Store, StoreError, is_there
from ..store.summary import EventSummary
from . import follow
from .terminal import cut, detach, pad, width, write

DEFAULT_LAST = 20
WIDE = 150
"""From this width on there are more columns, and input and output are in the same line."""

_KINDS = {"generation": "gen", "embedding": "emb", "feedback": "fback"}
_GAP = "  "
_MIN_TEXT = 20
_STATUS = re.compile(r"^\w+: Error code: \d+ - ")
"""How messages of the SDK's exceptions begin: class and status."""


def main(
    argv: list[str],
    *,
    path: str | os.PathLike[str],
    summarise: Callable[[dict[str, Any]], EventSummary],
    stdout: TextIO,
    stderr: TextIO | None = None,
) -> int:
    """Run the command and return its exit code: 1 when there is nothing to show or it cannot be read, 130 for Ctrl-C.

    `path` is the store unless `--db` names another. Wrong arguments end in argparse's message and SystemExit(2).
    """
    stderr = stderr or sys.stderr
    options = _parser().parse_args(argv)
    path = Path(options.db or path)
    try:
        if options.follow:
            return _follow(path, options, summarise, stdout, stderr)
        return _show(path, options, summarise, stdout, stderr)
    except StoreError as error:
        print(clean(str(error)), file=stderr)
        return 1
    except BrokenPipeError:
        # The reader (`head`) has closed the pipe. What is still buffered must not fail again when Python exits.
        detach(stdout)
        return 0


def _show(
    path: Path,
    options: argparse.Namespace,
    summarise: Callable[[dict[str, Any]], EventSummary],
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    if not is_there(path):
        advice = "run a program with `posthog-instrument --local ...` first"
        print(f"no events yet: {path} does not exist ({advice})", file=stderr)
        return 1
    with Store(path) as store:
        trace = _trace(store, options.trace)
        last = options.last
        if last is None and not options.json and trace is None:
            last = DEFAULT_LAST
        events = store.read(last=last, trace_id=trace)
        if options.json:
            shown = _print_json(events, stdout)
        else:
            summaries = [summarise(event) for event in events]
            print_table(summaries, _columns(), stdout)
            shown = len(summaries)
    stdout.flush()
    if not shown:
        print(f"no events in {path}", file=stderr)
    return 0


def _follow(
    path: Path,
    options: argparse.Namespace,
    summarise: Callable[[dict[str, Any]], EventSummary],
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    """Print events as they come until Ctrl-C; its exit code is that of a program that ends by it."""
    table = Table(_columns(), stdout)
    trace = options.trace.lstrip("…") if options.trace else ""
    try:
        for events in follow.batches(path, options.last or DEFAULT_LAST, stderr):
            found = [(event, summarise(event)) for event in events]
            found = [(event, summary) for event, summary in found if (summary.trace or "").endswith(trace)]
            if options.json:
                _print_json([event for event, _ in found], stdout)
            else:
                table.add([summary for _, summary in found], grows=True)
            stdout.flush()
    except KeyboardInterrupt:
        pass
    return 130


def _columns() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def print_table(summaries: Iterable[EventSummary], width: int, stdout: TextIO) -> None:
    """Print one row for each event, `width` columns wide; below `WIDE` the first words are in a second line."""
    Table(width, stdout).add(summaries)


class Table:
    """A table that more rows may be added to, under the head and in the columns of the first ones."""

    def __init__(self, columns: int, stdout: TextIO) -> None:
        self._room = columns
        self._wide = columns >= WIDE
        self._stdout = stdout
        self._columns: list[_Column] = []
        self._widths: list[int] = []
        self._day = date.today()

    def add(self, summaries: Iterable[EventSummary], grows: bool = False) -> None:
        """Print the rows, the first ones under a head. `grows`: more may come, which may need the optional columns."""
        rows = [_Row(summary) for summary in summaries]
        if not rows:
            return
        is_first = not self._columns
        if is_first:
            columns = [column for column in _COLUMNS if self._wide or not column.wide_only]
            self._columns = [
                column for column in columns if grows or not column.optional or any(column.cell(row) for row in rows)
            ]
        cells = [[column.cell(row) for column in self._columns] for row in rows]
        room = self._room - (2 * (_MIN_TEXT + len(_GAP)) if self._wide else 0)
        least = [column.usual if grows and not self._widths else 0 for column in self._columns]
        self._widths = _widths(self._columns, cells, room, self._widths or least)
        text_width = (self._room - sum(self._widths) - len(_GAP) * (len(self._widths) + 1)) // 2
        if is_first:
            head = _join([column.title for column in self._columns], self._columns, self._widths)
            write(self._stdout, head + (_GAP + pad("INPUT", text_width) + _GAP + "OUTPUT" if self._wide else ""))
        for row, line in zip(rows, cells, strict=True):
            if row.day is not None and row.day != self._day:
                self._day = row.day
                write(self._stdout, f"-- {row.day.isoformat()} --")
            text = _join(line, self._columns, self._widths)
            if self._wide:
                text += _GAP + pad(row.input, text_width) + _GAP + pad(row.error or row.output, text_width)
            write(self._stdout, text)
            if not self._wide:
                for words in row.lines(self._room - 2):
                    write(self._stdout, "  " + words)


class _Row:
    """A summary as text that is safe to print."""

    def __init__(self, summary: EventSummary) -> None:
        when = _local(summary.time)
        self.day = when.date() if when else None
        self.time = when.strftime("%H:%M:%S") if when else "?"
        self.kind = _KINDS.get(summary.kind, clean(summary.kind)[:6])
        self.model = clean(summary.model or "-")
        self.tokens = _tokens(summary.input_tokens, summary.output_tokens)
        self.latency = _seconds(summary.latency_s)
        self.ttft = _seconds(summary.ttft_s) if summary.ttft_s is not None else ""
        self.cost = f"${summary.cost_usd:.6f}" if summary.cost_usd is not None else ""
        self.status = _status(summary)
        self.user = "(anon)" if summary.anonymous else clean(summary.user or "-")
        self.trace = clean(summary.trace or "-")
        self.session = clean(summary.session or "")
        is_call = summary.kind in ("generation", "embedding")
        self.private = is_call and summary.input_text is None
        self.input = clean("(private)" if self.private else summary.input_text or "")
        private_output = self.private and summary.kind == "generation"
        self.output = clean(summary.output_text or ("(private)" if private_output and not summary.is_error else ""))
        # Class and status repeat the status column: this leaves room for the server's message.
        message = _STATUS.sub("", summary.error or "no message", count=1)
        self.error = clean(f"error: {message}") if summary.is_error else ""

    def lines(self, room: int) -> list[str]:
        """The indented lines below the row: first words of input and output, then the error."""
        words = ""
        if self.private and not self.error:
            words = self.input
        elif self.input and self.output and not self.error:
            share = (room - len("in:  / out: ")) // 2
            # What the output does not need the input may have.
            first = cut(self.input, share + max(0, share - width(self.output)))
            words = f"in: {first} / out: {self.output}"
        elif self.input:
            words = f"in: {self.input}"
        elif not self.error and self.output:
            words = f"out: {self.output}"
        return [cut(line, room) for line in (words, self.error) if line]


class _Column:
    """A column of the table. `least` is how narrow it may become; None: as wide as its cells. `usual` is how wide it is
    at least where more rows may come."""

    def __init__(
        self,
        title: str,
        cell: Callable[[_Row], str],
        least: int | None = None,
        right: bool = False,
        wide_only: bool = False,
        keep_end: bool = False,
        usual: int = 0,
    ) -> None:
        self.usual = usual
        self.title = title
        self.cell = cell
        self.least = least
        self.right = right
        self.wide_only = self.optional = wide_only
        self.keep_end = keep_end


_COLUMNS = (
    _Column("TIME", lambda row: row.time),
    _Column("KIND", lambda row: row.kind),
    _Column("MODEL", lambda row: row.model, least=10, usual=22),
    _Column("TOKENS", lambda row: row.tokens, right=True, usual=11),
    _Column("LATENCY", lambda row: row.latency, right=True, usual=7),
    _Column("TTFT", lambda row: row.ttft, right=True, usual=6, wide_only=True),
    _Column("COST", lambda row: row.cost, right=True, usual=9, wide_only=True),
    _Column("STATUS", lambda row: row.status),
    _Column("USER", lambda row: row.user, least=6, usual=12),
    # The end of an id distinguishes traces: UUIDs of version 7 begin with the time.
    _Column("TRACE", lambda row: row.trace, least=8, usual=13, keep_end=True),
    _Column("SESSION", lambda row: row.session, least=8, wide_only=True, keep_end=True),
)
_MOST = {"MODEL": 30, "USER": 24, "TRACE": 13, "SESSION": 13}
"""No column gets wider than this, in columns of the terminal."""


def _widths(columns: list[_Column], cells: list[list[str]], room: int, least: list[int]) -> list[int]:
    """How wide each column is, at least as before; the widest of the flexible ones give way until all fit into
    `room`."""
    widths = [
        max(
            min(max(width(line[index]) for line in [[c.title for c in columns], *cells]), _MOST.get(column.title, 99)),
            least[index],
        )
        for index, column in enumerate(columns)
    ]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - room
    while excess > 0:
        slack = {i: widths[i] - column.least for i, column in enumerate(columns) if column.least is not None}
        widest = max(slack, key=slack.__getitem__)
        if slack[widest] <= 0:
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _join(cells: list[str], columns: list[_Column], widths: list[int]) -> str:
    padded = [
        pad(cell, size, right=column.right, keep_end=column.keep_end)
        for cell, column, size in zip(cells, columns, widths, strict=True)
    ]
    return _GAP.join(padded)


def _tokens(given: int | None, made: int | None) -> str:
    if given is None and made is None:
        return "-"
    return f"{'?' if given is None else given}→{'-' if made is None else made}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}s" if value < 100 else f"{value:.0f}s"


def _status(summary: EventSummary) -> str:
    if summary.status:
        return str(summary.status)
    return "error" if summary.is_error else "-"


def _local(timestamp: str) -> datetime | None:
    """The ISO 8601 time in the time zone of this machine."""
    try:
        when = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))  # Python 3.10 does not read "Z"
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).astimezone()
    except (ValueError, OverflowError):  # OverflowError: year 1 or 9999 there, another one here
        return None


# --- the command ---


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="posthog-instrument events", description="Show the events in the local store, oldest first."
    )
    parser.add_argument(
        "--last",
        type=_positive,
        metavar="N",
        help=f"only the newest N (default: {DEFAULT_LAST}; with --trace or --json all, except with --follow)",
    )
    parser.add_argument("--trace", metavar="ID", help="only this trace (the end of its id, as shown, is enough)")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="keep printing new events as they are stored, until Ctrl-C"
    )
    parser.add_argument("--json", action="store_true", help="whole events, one JSON object a line")
    parser.add_argument("--db", metavar="PATH", help="another store file")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of events (1, 2, ...)")
    return number


def _trace(store: Store, wanted: str | None) -> str | None:
    """The whole id of the trace that was asked for."""
    if wanted is None:
        return None
    found = store.traces_ending(wanted.lstrip("…"))
    if not found:
        raise StoreError(f"no trace {wanted} in {store.path}")
    if len(found) > 1:
        raise StoreError(f"{len(found)} traces end with {wanted}: {', '.join(found[:5])}")
    return found[0]


def _print_json(events: Iterable[dict[str, Any]], stdout: TextIO) -> int:
    shown = 0
    for event in events:
        # ASCII: control characters of any kind come out as escapes, on terminals of any encoding.
        stdout.write(json.dumps(event).replace("\x7f", "\\u007f") + "\n")
        shown += 1
    return shown
