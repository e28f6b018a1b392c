"""Whether and when the summary of a process is written: at its end, on demand, and in a terminal after the first run
whose calls went to a destination."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..core import diagnostics, forks
from ..settings.config import Config
from .project import Project

if TYPE_CHECKING:
    from .delivery import Delivery
    from .run_summary import RunSummary

_EXCLUSIVE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class FinalSummary:
    """The counts of this process where a summary may be due at its end, and nothing where not."""

    def __init__(self, settings: Config) -> None:
        self._config = settings
        self._in_terminal = diagnostics.is_main_process() and _in_terminal()
        self._counts: RunSummary | None = None

    def note(self, event: dict[str, Any]) -> None:
        """Count an event. On the flusher's thread."""
        counts = self._wanted()
        if counts is not None:
            counts.note(event)

    def leave_out(self, reason: str) -> None:
        """Count a call that makes no event."""
        counts = self._wanted()
        if counts is not None:
            counts.leave_out(reason)

    def clear(self) -> None:
        """In a forked child: count anew."""
        self._counts = None

    def _is_wanted(self) -> bool:
        return self._in_terminal or self._config.summary

    def _wanted(self) -> RunSummary | None:
        if self._counts is None and self._is_wanted():
            with forks.IMPORTS:
                from .run_summary import RunSummary

            self._counts = RunSummary()
        return self._counts

    def write(self, delivery: Delivery, project: Project | None, asked_hosts: Collection[str]) -> None:
        """Write the summary where it is due. The program is over. `asked_hosts` are asked for the tokens of streams."""
        if not self._is_wanted() or not diagnostics.is_main_process():
            return
        counts = self._counts
        if not self._config.summary:
            captured = counts is not None and counts.calls and delivery.delivered
            if not captured or not _is_first(self._config.state_folder, project.host if project else "local"):
                return
        if self._config.disabled:
            diagnostics.write_once("summary", "no calls were captured: POSTHOG_AUTOINSTRUMENT_DISABLED is set")
            return
        from .run_summary import RunSummary, where_to_look

        is_anything_there = delivery.delivered or not delivery.n_lost
        where = where_to_look(delivery.exporter, self._config.db) if is_anything_there else ""
        line = (counts or RunSummary()).line(self._config.prices_path, where, asked_hosts, delivery.n_lost)
        diagnostics.write_once("summary", line)


def _in_terminal() -> bool:
    """Whether the standard error of this process is a terminal."""
    stream = sys.__stderr__
    try:
        return stream is not None and not stream.closed and os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


def _is_first(folder: str, destination: str) -> bool:
    """Whether no earlier run had calls go to `destination`, by an empty file in `folder`, which this makes. True also
    where no file can be written. Never raises."""
    name = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in destination)[:100]
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        os.close(os.open(os.path.join(folder, f"summed-up.{name}"), _EXCLUSIVE, 0o600))
    except FileExistsError:
        return False
    except (OSError, ValueError):
        pass
    return True
