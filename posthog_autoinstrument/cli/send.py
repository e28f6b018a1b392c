"""`posthog-instrument send`: send a spool or the local store to PostHog, with the original ids and times.

Delivered events are removed from the spool, and marked in the local store, batch by batch: an interrupted run can be
continued.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..export import offline
from ..export.spool import writer
from ..export.spool.directory import PREFIX, AbandonedOutbox
from ..settings.config import Config
from ..store.database import StoreError, is_there
from ..viewer.upload import Progress, Upload

if TYPE_CHECKING:
    from ..export.batches import BatchSource
    from ..export.delivery import Delivery


def main(
    arguments: Sequence[str], settings: Config, stdout: IO[str] | None = None, stderr: IO[str] | None = None
) -> int:
    """Run the command. Exit code: 0 everything was sent, 1 something was not, 2 wrong usage."""
    stdout, stderr = stdout or sys.stdout, stderr or sys.stderr
    parser = argparse.ArgumentParser(
        prog="posthog-instrument send",
        description="Send a spool or the local store to PostHog. Continues where it was interrupted.",
    )
    parser.add_argument(
        "path",
        nargs="?",
        help="a spool directory, one outbox in it, or a local store (default: POSTHOG_SPOOL, else the local store)",
    )
    parser.add_argument(
        "--db",
        nargs="?",
        const=settings.db_path,
        metavar="PATH",
        help="a local store (without PATH: the one that events go to), also where POSTHOG_SPOOL is set",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print how many events there are to send")
    options = parser.parse_args(arguments)
    if options.path and options.db:
        parser.error("give only one of PATH and --db")
    path = Path(options.db or options.path or settings.spool or settings.db_path)
    if settings.token is None and not options.dry_run:
        stderr.write("send: set POSTHOG_PROJECT_TOKEN, the token of the project to send to\n")
        return 2
    if not is_there(path):
        stderr.write(f"send: {path} does not exist\n")
        return 2
    shown = _Progress(stderr)
    try:
        if not options.db and (os.path.isdir(path) or path.name.startswith(PREFIX)):
            left = _send_spool(path, settings, options.dry_run, shown, stderr)
        else:
            left = _send_store(path, settings, options.dry_run, shown, stderr)
    except StoreError as error:
        shown.end()
        stderr.write(f"send: {error}\n")
        return 1
    except KeyboardInterrupt:
        shown.end()
        stderr.write(f"send: interrupted; {shown.n_sent} sent, the rest is kept\n")
        return 130
    shown.end()
    if options.dry_run:
        stdout.write(f"{left} to send\n")
        return 0
    stdout.write(f"{shown.n_sent} sent, {left} left\n")
    return 1 if left else 0


class _Progress:
    """A progress line on a terminal; nothing elsewhere."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self.n_sent = 0
        self.n_all = 0
        self._reported: set[str] = set()

    def take(self, progress: Progress) -> None:
        """Show how far an upload is."""
        self.n_sent, self.n_all = progress.sent, progress.total
        if progress.waiting:
            self.wait(progress.waiting)
        self.show()

    def show(self) -> None:
        if self._live and self.n_all:
            done = int(30 * self.n_sent / self.n_all)
            self._stream.write(f"\r[{'#' * done}{'.' * (30 - done)}] {self.n_sent:,} of {self.n_all:,} events ")
            self._stream.flush()

    def wait(self, why: str) -> None:
        """Print why nothing is being sent, once for each reason."""
        if why not in self._reported:
            self._reported.add(why)
            self.end()
            self._stream.write(f"send: {why}; trying again, for 15 minutes\n")
            self._stream.flush()

    def end(self) -> None:
        if self._live and self.n_all:
            self._stream.write("\n")


def _deliver_all(delivery: Delivery, source: BatchSource, batch_events: int, shown: _Progress) -> None:
    """Deliver all that `source` has, or until PostHog takes no more."""
    before = shown.n_sent - delivery.delivered
    delivery.while_waiting = lambda: shown.wait(delivery.why)
    shown.show()
    while not delivery.stays and offline.deliver_next(delivery, source, batch_events):
        shown.n_sent = before + delivery.delivered
        shown.show()


def _send_spool(path: Path, settings: Config, dry_run: bool, shown: _Progress, stderr: IO[str]) -> int:
    folder = path if path.is_dir() else path.parent
    settings = replace(settings, spool=str(folder), local=False)
    delivery = offline.make_delivery(settings)
    reader = writer.make(settings, offline.make_pipeline(settings, delivery))
    reader.spool.check()
    ours = [one for one in reader.spool.paths() if path.is_dir() or one.name == path.name]
    counts = {one: _count(one, settings, stderr) for one in ours}
    shown.n_all = sum(counts.values())
    if dry_run:
        return shown.n_all
    left = 0
    for one, count in counts.items():
        try:
            abandoned = AbandonedOutbox(one, settings.spool_max_bytes) if count else None
        except (OSError, StoreError):  # `_count` printed the reason; or another process has taken it over
            abandoned = None
        if abandoned is None:
            left += count if one.exists() else 0
            continue
        try:
            if abandoned.outbox.writer_settings().get("hooked") == "1" and settings.before_send is None:
                stderr.write(
                    f"send: {one.name} stays: its program had a before_send; "
                    "name it in POSTHOG_AUTOINSTRUMENT_BEFORE_SEND\n"
                )
            else:
                _deliver_all(delivery, writer.AbandonedEvents(reader, abandoned), settings.flush_at, shown)
            left += abandoned.count()
        except StoreError as error:
            stderr.write(f"send: {error}\n")
            left += 1
        finally:
            abandoned.close()
    _print_losses(delivery.lost, delivery.stays, stderr)
    return left


def _count(path: Path, settings: Config, stderr: IO[str]) -> int:
    """How many rows an outbox has; at least 1 where that cannot be known, though there is something. One file is open
    at a time: a spool may have more of them than a process can open."""
    try:
        abandoned = AbandonedOutbox(path, settings.spool_max_bytes)
    except BlockingIOError:
        stderr.write(f"send: {path.name} belongs to a running process, which sends it itself\n")
        return 0
    except FileNotFoundError:
        return 0  # delivered meanwhile
    except (OSError, StoreError) as error:
        stderr.write(f"send: {error}\n")
        return 1
    try:
        return abandoned.count()
    except StoreError as error:
        stderr.write(f"send: {error}\n")
        return 1
    finally:
        abandoned.close()


def _send_store(path: Path, settings: Config, dry_run: bool, shown: _Progress, stderr: IO[str]) -> int:
    if settings.token is None:  # only to count: the project does not matter
        settings = replace(settings, token="phc_nobody")
    upload = Upload(path, settings, shown.take)
    if dry_run:
        return upload.count()
    result = upload.run()
    _print_losses(result.lost, result.stopped, stderr)
    return result.left


def _print_losses(lost: Mapping[str, int], stopped: str, stderr: IO[str]) -> None:
    for reason, count in lost.items():
        stderr.write(f"send: {count} could not be sent: {reason}\n")
    if stopped:
        stderr.write(f"send: stopped: {stopped}\n")
