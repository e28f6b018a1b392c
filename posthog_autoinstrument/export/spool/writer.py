"""What is written to the spool on the program's thread, and how it becomes events again.

Loaded only where there is a spool: it needs sqlite3.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ...core import diagnostics, guard
from ...core.records import Call, EncodedEvent, Record, Span, record_from_bytes
from ...processing import sanitize
from ...processing.pipeline import Pipeline, Source, uncounted
from ...settings.config import Config
from ...settings.hook_loader import NotYetError
from ...store.database import StoreError
from .directory import AbandonedOutbox, Spool, fingerprint
from .outbox import EVENT, RECORD, OutboxRow


class SpoolWriter:
    """Writes records to the spool of this process, and reads them back: its own, and those of dead processes."""

    def __init__(self, settings: Config, spool: Spool, pipeline: Pipeline) -> None:
        self._config = settings
        self.spool = spool
        self.pipeline = pipeline
        self._destination = ""
        self.note_settings()

    def note_settings(self) -> None:
        """Write the settings into the outbox, for the process that may take it over."""
        self.spool.write_settings(
            keep_media=str(int(self._config.keep_media)),
            provider=self._config.provider or "",
            hooked=str(int(self.pipeline.before_send.is_set())),
        )

    def go_to(self, *destination: str) -> None:
        """Where this process's events go: host and token, or the name of another exporter."""
        self._destination = fingerprint(*destination)
        self.spool.write_settings(destination=self._destination)

    def keep(self, record: Record) -> None:
        """On the program's thread: commit a record to the spool."""
        numbers: list[int] = []
        try:
            self._commit(record, numbers)
        finally:
            record.spooled = tuple(numbers)

    def _commit(self, record: Record, numbers: list[int]) -> None:
        if _must_be_reduced(record):
            if not self.pipeline.takes(record):
                return  # an event that is read back is not asked about again
            kind, body = EVENT, sanitize.dumps(self.pipeline.build_to_keep(record))
        else:
            kind, body = RECORD, record.to_bytes()
        self.spool.keep(kind, record.uuid, body, numbers)

    def read_back(self, row: OutboxRow) -> EncodedEvent | None:
        """The event of a row of our own outbox."""
        own = self.pipeline.own
        return self.read_row(row, uncounted(own) if self.spool.is_postponed(row.number) else own)

    def read_row(self, row: OutboxRow, source: Source) -> EncodedEvent | None:
        """The event of a row of `source`; None where it makes none, or not yet."""
        rows = (row.number,)
        try:
            if row.kind == EVENT:
                return self.pipeline.process_event(json.loads(row.body), rows, len(row.body), source)
            return self.pipeline.process(record_from_bytes(row.body, rows), source)
        except (ValueError, TypeError, KeyError):
            source.forget(rows)
            self.pipeline.count_lost(1, "damaged in the spool")
            return None

    def next_abandoned(self) -> AbandonedEvents | None:
        """What a dead process left in the spool, if it is ours to deliver."""
        found = self.spool.take_over(self._may_deliver)
        return AbandonedEvents(self, found) if found is not None else None

    def _may_deliver(self, settings: dict[str, str]) -> bool:
        destination = settings.get("destination")
        if destination and destination != self._destination:
            return False  # of another project
        try:
            if self.pipeline.before_send.is_broken():
                return False  # none of them would be sent; a line has given the reason
        except NotYetError:
            return False  # later
        if settings.get("hooked") == "1" and not self.pipeline.before_send.is_set():
            diagnostics.warn_once("hooked", "what a dead process left in the spool stays there: it has a before_send")
            return False
        return True


class AbandonedEvents:
    """What a dead process left in its outbox: the rows as events, made with the settings that it had."""

    def __init__(self, spool_writer: SpoolWriter, abandoned: AbandonedOutbox) -> None:
        self._spool_writer = spool_writer
        self._abandoned = abandoned
        settings = guard.quietly(abandoned.outbox.writer_settings) or {}
        keep_media = settings["keep_media"] == "1" if "keep_media" in settings else None
        # Its own background calls: the numbers of rows are of this outbox.
        self._source = uncounted(spool_writer.pipeline.source(self.done, keep_media, settings.get("provider")))
        self._last = 0
        self._over = False

    def next(self, limit: int) -> list[EncodedEvent] | None:
        """The events of the next rows; None where there are no more."""
        try:
            rows = self._abandoned.outbox.rows(self._last, limit)
        except StoreError as error:
            self._spool_writer.spool.refuse(self._abandoned, error)
            return None
        if rows:
            self._last = rows[-1].number
            step = "read what a dead process left"
            read = [guard.attempt(step, self._spool_writer.read_row, row, self._source) for row in rows]
            return [event for event in read if event is not None]
        if self._over:
            return None
        self._over = True
        return self._spool_writer.pipeline.overdue_of(self._source, True)

    def done(self, numbers: Sequence[int]) -> None:
        """These were delivered, or make no event."""
        try:
            self._abandoned.done(numbers)
        except StoreError as error:
            self._spool_writer.spool.refuse(self._abandoned, error)
            diagnostics.write_once("taken over", f"{error}; what was delivered of it may be sent again")

    def postpone(self, numbers: Sequence[int]) -> None:
        """They stay where they are."""

    def close(self) -> None:
        """Leave the rest to the next process."""
        self._spool_writer.spool.abandoned = None
        self._abandoned.close()


def _must_be_reduced(record: Record) -> bool:
    """Whether a record goes to disk as the event made of it: privacy mode takes the content out of that, redaction the
    credentials of URLs, of errors and of MCP tools. All other requests are on the disk as they were sent."""
    if record.identity.privacy_mode:
        return True
    if not isinstance(record, Call):
        return isinstance(record, Span) and record.error is not None
    urls = record.base_url + record.request_url
    return record.error is not None or "?" in urls or "@" in urls or b'"mcp"' in (record.request or b"")


def make(settings: Config, pipeline: Pipeline) -> SpoolWriter:
    """The spool writer of this process."""
    return SpoolWriter(settings, Spool(str(settings.spool), settings.spool_max_bytes), pipeline)
