"""The upload that the page starts: one at a time, on a thread of its own, which anybody may look at."""

from __future__ import annotations

import threading
from os import PathLike

from ..export import posthog_links
from ..settings.config import Config, mask
from ..store.database import StoreError
from .upload import Progress, Upload, UploadResult


class UploadJob:
    """What was sent to PostHog from this page, and what is being sent. Used by every thread."""

    def __init__(self, path: str | PathLike[str], settings: Config) -> None:
        self._path = path
        self._settings = settings
        self._lock = threading.Lock()
        self._upload: Upload | None = None
        self._thread: threading.Thread | None = None
        self._changes = 0
        self.progress: Progress | None = None
        """Of the upload that runs."""
        self.result: UploadResult | None = None
        """What became of the last one."""
        self.failure = ""
        """Why the last one ended in the middle, where it was our side."""

    @property
    def version(self) -> int:
        """Changes with everything here."""
        return self._changes

    @property
    def project(self) -> str | None:
        """The project as people may see it: host and the begin of its token; None where no token is set."""
        token = self._settings.token
        return None if token is None else f"{self._settings.host} ({mask(token)})"

    @property
    def runs(self) -> bool:
        """Whether there is a upload on its way."""
        return self._thread is not None and self._thread.is_alive()

    def waiting(self) -> int:
        """How many events have not gone to the project. Raises StoreError."""
        return Upload(self._path, self._settings).count() if self._settings.token is not None else 0

    def place(self) -> str | None:
        """Where PostHog lists traces."""
        return posthog_links.traces_url(self._settings.host) if self._settings.token is not None else None

    def place_of(self, trace_id: str, when: float) -> str | None:
        """Where PostHog has a trace once it was sent. None where no project is known."""
        return (
            posthog_links.trace_url(self._settings.host, trace_id, when) if self._settings.token is not None else None
        )

    def start(self) -> None:
        """Send what has not been sent; nothing where that is being done already. Raises NoProjectError."""
        with self._lock:
            if self.runs:
                return
            self.progress, self.result, self.failure = None, None, ""
            self._upload = Upload(self._path, self._settings, self._see)
            self._thread = threading.Thread(target=self._run, args=(self._upload,), name="posthog send", daemon=True)
            self._thread.start()
            self._changes += 1

    def cancel(self, wait_s: float = 0.0) -> None:
        """End the upload soon. What was sent is sent, the rest stays to be sent."""
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
            self._changes += 1

    def _see(self, progress: Progress) -> None:
        self.progress = progress
        self._changes += 1
