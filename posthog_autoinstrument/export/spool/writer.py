"""Durable mode: what is written to the spool on the program's thread, and how it becomes events again.

Loaded only where there is a spool: it needs sqlite3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from ...core import diagnostics, guard
from ...core.records import Call, EncodedEvent, Record, Sealable, Sealed, Span, record_from_bytes
from ...processing import sanitize
from ...processing.background_responses import Background
from ...processing.pipeline import Maker, drop
from ...settings.config import Config
from ...settings.hook_loader import NotYetError
from ...store.database import StoreError
from .directory import Orphan, Spool, fingerprint
from .outbox import EVENT, RECORD, Kept


class Durable:
    """Writes records to the spool of this process, and reads them back: its own, and those of dead processes."""

    def __init__(self, settings: Config, spool: Spool, maker: Maker) -> None:
        self._config = settings
        self.spool = spool
        self.maker = maker
        self._destination = ""
        self.note_settings()

    def note_settings(self) -> None:
        """Write down what whoever takes our outbox over must know of the settings."""
        self.spool.state(
            keep_media=str(int(self._config.keep_media)),
            provider=self._config.provider or "",
            hooked=str(int(self.maker.has_hook())),
        )

    def go_to(self, *destination: str) -> None:
        """Where this process's events go: host and token, or the name of another sink."""
        self._destination = fingerprint(*destination)
        self.spool.state(destination=self._destination)

    def keep(self, record: Sealable, take: Callable[[Sealed], None]) -> None:
        """On the program's thread: seal a record, let `take` have it, unless it makes no event, and commit it to the
        spool. `take` has it first: a signal handler of the program's may raise through the commit."""
        call = record.seal()
        if call is None:
            return
        numbers: list[int] = []
        take(Sealed(call, record.pid, record.size))
        try:
            self._commit(call, numbers)
        finally:
            call.spooled = tuple(numbers)

    def _commit(self, call: Record, numbers: list[int]) -> None:
        if _must_be_reduced(call):
            if not self.maker.takes(call):
                return  # an event that is read back is not asked about again
            kind, body = EVENT, sanitize.dumps(self.maker.kept(call))
        else:
            kind, body = RECORD, call.to_bytes()
        self.spool.keep(kind, call.uuid, body, numbers)

    def read_back(self, row: Kept) -> EncodedEvent | None:
        """The event of a row of our own outbox."""
        return self.read_row(row, self.maker.background, self.maker.forget, {})

    def read_row(
        self, row: Kept, background: Background, forget: Callable[[tuple[int, ...]], None], facts: dict[str, str]
    ) -> EncodedEvent | None:
        """The event of a row; `facts` are those of the process that wrote it."""
        rows = (row.number,)
        try:
            if row.kind == EVENT:
                return self.maker.read_event(json.loads(row.body), rows, len(row.body), background, forget)
            call = record_from_bytes(row.body, rows)
            keep_media = facts["keep_media"] == "1" if "keep_media" in facts else None
            return self.maker.build_record(call, background, forget, keep_media, facts.get("provider"))
        except (ValueError, TypeError, KeyError):
            forget(rows)
            self.maker.lose(1, "damaged in the spool")
            return None

    def orphaned(self) -> Rest | None:
        """What a dead process left in the spool, if it is ours to deliver."""
        found = self.spool.take_over(self._may_deliver)
        return Rest(self, found) if found is not None else None

    def _may_deliver(self, facts: dict[str, str]) -> bool:
        destination = facts.get("destination")
        if destination and destination != self._destination:
            return False  # of another project
        try:
            hook = self.maker.hook()
        except NotYetError:
            return False  # later
        if hook is drop:
            return False  # none of them would be sent, and it was said why
        if facts.get("hooked") == "1" and hook is None:
            diagnostics.warn_once("hooked", "what a dead process left in the spool stays there: it has a before_send")
            return False
        return True


class Rest:
    """What a dead process left: its rows as events, with the settings that it had."""

    def __init__(self, durable: Durable, orphan: Orphan) -> None:
        self._durable = durable
        self._orphan = orphan
        self._facts = guard.quietly(orphan.outbox.facts) or {}
        self._background = Background(durable.maker.built)  # the numbers of the rows are the orphan's own
        self._last = 0
        self._over = False

    def next(self, limit: int) -> list[EncodedEvent] | None:
        """The events of the next rows; None where there are no more."""
        maker = self._durable.maker
        counted = maker.on_event, maker.on_left_out
        maker.on_event = lambda event: None  # these are not calls of this process
        maker.on_left_out = lambda reason: None
        try:
            return self._next(limit)
        finally:
            maker.on_event, maker.on_left_out = counted

    def _next(self, limit: int) -> list[EncodedEvent] | None:
        try:
            rows = self._orphan.outbox.rows(self._last, limit)
        except StoreError as error:
            self._durable.spool.refuse(self._orphan, error)
            return None
        if rows:
            self._last = rows[-1].number
            read = [
                guard.attempt(
                    "read what a dead process left",
                    self._durable.read_row,
                    row,
                    self._background,
                    self.done,
                    self._facts,
                )
                for row in rows
            ]
            return [event for event in read if event is not None]
        if self._over:
            return None
        self._over = True
        return self._durable.maker.overdue_of(self._background, True, self.done)

    def done(self, numbers: Sequence[int]) -> None:
        """These were delivered, or make no event."""
        try:
            self._orphan.done(numbers)
        except StoreError as error:
            self._durable.spool.refuse(self._orphan, error)
            diagnostics.write_once("taken over", f"{error}; what was delivered of it may be sent again")

    def spill(self, numbers: Sequence[int]) -> None:
        """They stay where they are."""

    def close(self) -> None:
        """Leave the rest to the next process."""
        self._durable.spool.orphan = None
        self._orphan.close()


def _must_be_reduced(record: Record) -> bool:
    """Whether a record goes to disk as the event made of it: privacy mode takes the content out of that, redaction the
    credentials of URLs, of errors and of MCP tools. All other requests are on the disk as they were sent."""
    if record.identity.privacy_mode:
        return True
    if not isinstance(record, Call):
        return isinstance(record, Span) and record.error is not None
    urls = record.base_url + record.request_url
    return record.error is not None or "?" in urls or "@" in urls or b'"mcp"' in (record.request or b"")


def make(settings: Config, maker: Maker) -> Durable:
    """The durable mode of this process."""
    return Durable(settings, Spool(str(settings.spool), settings.spool_max_bytes), maker)
