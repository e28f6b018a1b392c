"""Sending the local store to PostHog, with the original ids and times, batch by batch, each event once.

Sent events are marked in the store, for each project, so an interrupted upload continues where it stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike

from ..core.records import EncodedEvent
from ..export import offline, posthog_links
from ..export.spool.directory import fingerprint
from ..settings.config import Config, mask
from ..store.database import Store, StoreError


class NoProjectError(Exception):
    """There is no token, so the project of the events is not known."""


@dataclass(frozen=True)
class Progress:
    """How far an upload is."""

    sent: int
    total: int
    waiting: str = ""
    """Why nothing is being sent now; the upload goes on trying. "": events are being sent."""


@dataclass(frozen=True)
class UploadResult:
    """How an upload ended."""

    sent: int
    left: int
    """Events that are still to be sent: the upload was stopped, or they were stored meanwhile."""
    stopped: str = ""
    """Why it ended before all events were sent; "": all were sent."""
    lost: dict[str, int] = field(default_factory=dict)
    """Number of events that PostHog does not accept, by reason. They are not sent again."""


class Upload:
    """One upload of the store at `path` to the project of `settings`.

    `progress` is called on the thread of `run`: at its start, after each batch, and before each wait for a server that
    does not respond.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        settings: Config,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        if settings.token is None:
            raise NoProjectError("set POSTHOG_PROJECT_TOKEN, the token of the project to send to")
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
        """Send all unsent events, until PostHog accepts no more or `cancel` is called. Raises StoreError."""
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
        """Make `run` return soon. May be called from any thread."""
        self._cancelled = True
        self._delivery.deadline = self._delivery.clock()
        self._delivery.hurry()


class _Rows:
    """The events of a store that were not sent to this project yet, as a source of batches."""

    def __init__(self, store: Store, project: str) -> None:
        self._store = store
        self._project = project
        self._last = 0
        self._uuids: dict[int, str] = {}
        """Number -> uuid of the last batch."""

    def next(self, limit: int) -> list[EncodedEvent] | None:
        """The next events; None where there are no more."""
        rows = self._store.unsent(self._project, self._last, limit)
        if not rows:
            return None
        self._last = rows[-1][0]
        self._uuids = {number: uuid for number, uuid, _, _ in rows}
        return [EncodedEvent(uuid, name, body.encode("utf-8"), (number,)) for number, uuid, name, body in rows]

    def done(self, numbers: Sequence[int]) -> None:
        """Mark these as sent: they were delivered, or cannot be."""
        self._store.mark_sent(self._project, [self._uuids[number] for number in numbers])

    def postpone(self, numbers: Sequence[int]) -> None:
        """Nothing to do: they are still in the store."""

    def close(self) -> None:
        """Nothing to do: `Upload.run` closes the store."""


class UploadJob:
    """The upload that the page starts, on a thread of its own, one at a time. Used by every thread of the page."""

    def __init__(self, path: str | PathLike[str], settings: Config) -> None:
        self._path = path
        self._settings = settings
        self._lock = threading.Lock()
        self._upload: Upload | None = None
        self._thread: threading.Thread | None = None
        self.version = 0
        """Changes whenever anything here changes."""
        self.progress: Progress | None = None
        """Of the upload that is running."""
        self.result: UploadResult | None = None
        """Of the last one."""
        self.failure = ""
        """Why the last one could not go on, where the reason was the store."""

    @property
    def project(self) -> str | None:
        """The project as the page shows it: host and the beginning of its token; None if no token is set."""
        token = self._settings.token
        return None if token is None else f"{self._settings.host} ({mask(token)})"

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def count(self) -> int:
        """How many events were not sent to the project. Raises StoreError."""
        return 0 if self.project is None else Upload(self._path, self._settings).count()

    def traces_url(self) -> str | None:
        """The list of traces in PostHog; None if no project is known."""
        return None if self.project is None else posthog_links.traces_url(self._settings.host)

    def trace_url(self, trace_id: str, when: float) -> str | None:
        """A trace in PostHog, once it was sent; None if no project is known."""
        return None if self.project is None else posthog_links.trace_url(self._settings.host, trace_id, when)

    def start(self) -> None:
        """Send what was not sent yet; does nothing while an upload is running. Raises NoProjectError."""
        with self._lock:
            if self.is_running:
                return
            self.progress, self.result, self.failure = None, None, ""
            self._upload = Upload(self._path, self._settings, self._show)
            self._thread = threading.Thread(target=self._run, args=(self._upload,), name="posthog send", daemon=True)
            self._thread.start()
            self.version += 1

    def cancel(self, wait_s: float = 0.0) -> None:
        """End the upload soon, and wait up to `wait_s` seconds for that."""
        with self._lock:
            if self._upload is not None:
                self._upload.cancel()
            if self._thread is not None and wait_s:
                self._thread.join(wait_s)

    def _run(self, upload: Upload) -> None:
        try:
            self.result = upload.run()
        except StoreError as error:
            self.failure = str(error)
        finally:
            self.version += 1

    def _show(self, progress: Progress) -> None:
        self.progress = progress
        self.version += 1
