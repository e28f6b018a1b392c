"""Shipping a local store to PostHog: with the original ids and times, batch by batch, and each event once.

What was taken is marked in the store, for each project, so a upload that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike

from ..core.records import EncodedEvent
from ..export import offline
from ..export.spool.directory import fingerprint
from ..settings.config import Config
from ..store.database import Store


class NoProjectError(Exception):
    """There is no token: nobody knows which project the events are for."""


@dataclass(frozen=True)
class Progress:
    """How far a upload is."""

    sent: int
    total: int
    waiting: str = ""
    """Why nothing moves now; it is tried again. "": it moves."""


@dataclass(frozen=True)
class UploadResult:
    """What became of a upload."""

    sent: int
    left: int
    """Events that are still to send: it was stopped, or they came meanwhile."""
    stopped: str = ""
    """Why it ended before all was sent; "": it did not."""
    lost: dict[str, int] = field(default_factory=dict)
    """Events that PostHog takes in no form: how many, by reason. They are not tried again."""


class Upload:
    """One upload of the store at `path` to the project of `settings`.

    `progress` is called on the thread of `run`: at the begin, after each batch, and before each wait for a server that
    does not answer.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        settings: Config,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        if settings.token is None:
            raise NoProjectError("set POSTHOG_PROJECT_TOKEN, the project that the events are for")
        self._path = path
        self._project = fingerprint(settings.host, settings.token)
        self._progress = progress
        self._delivery = offline.make_delivery(replace(settings, local=False))
        self._batch_events = settings.flush_at
        self._cancelled = False

    def count(self) -> int:
        """How many events there are to send. Raises StoreError."""
        with Store(self._path, forks_wait=False) as store:
            return store.count_unsent(self._project)

    def run(self) -> UploadResult:
        """Send all that is there, or until PostHog takes no more, or `cancel`. Raises StoreError."""
        delivery = self._delivery
        with Store(self._path, forks_wait=False) as store:
            total = store.count_unsent(self._project)
            rows = _Rows(store, self._project)
            delivery.while_waiting = lambda: self._progress(Progress(delivery.delivered, total, delivery.why))
            self._progress(Progress(0, total))
            while (
                not delivery.stays and not self._cancelled and offline.deliver_next(delivery, rows, self._batch_events)
            ):
                self._progress(Progress(delivery.delivered, max(total, delivery.delivered)))
            left = store.count_unsent(self._project)
        stopped = "cancelled" if self._cancelled and left else delivery.stays
        return UploadResult(delivery.delivered, left, stopped, dict(delivery.lost))

    def cancel(self) -> None:
        """Have `run` return soon. From any thread."""
        self._cancelled = True
        self._delivery.deadline = self._delivery.clock()
        self._delivery.hurry()


class _Rows:
    """The events of a store that have not gone to this project yet: as a source of batches."""

    def __init__(self, store: Store, project: str) -> None:
        self._store = store
        self._project = project
        self._last = 0
        self._uuids: dict[int, str] = {}
        """Of the events that were given last."""

    def next(self, limit: int) -> list[EncodedEvent] | None:
        """The next events; None where there are no more."""
        rows = self._store.unsent(self._project, self._last, limit)
        if not rows:
            return None
        self._last = rows[-1][0]
        self._uuids = {number: uuid for number, uuid, _, _ in rows}
        return [EncodedEvent(uuid, name, body.encode("utf-8"), (number,)) for number, uuid, name, body in rows]

    def done(self, numbers: Sequence[int]) -> None:
        """These were delivered, or cannot be."""
        self._store.mark_sent(self._project, [self._uuids[number] for number in numbers])

    def spill(self, numbers: Sequence[int]) -> None:
        """They stay where they are."""

    def close(self) -> None:
        """The store belongs to the upload."""
