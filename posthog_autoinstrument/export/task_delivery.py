"""Delivery before the result of a task is handed over, after which the process may be killed (Ray's workers)."""

from __future__ import annotations

from collections.abc import Callable

from .flusher import Flusher


class TaskDelivery:
    """Waits for what was captured, within the exit timeout. Where PostHog did not answer in that time, no other task
    waits for the same."""

    def __init__(self, flusher: Flusher, timeout_s: float) -> None:
        self._flusher = flusher
        self._timeout_s = timeout_s
        self._gave_up = False

    def deliver(self) -> None:
        """Deliver what waits."""
        if self._is_due():
            self._gave_up = not self._flusher.flush(self._timeout_s)

    def begin(self) -> Callable[[], bool] | None:
        """The same without waiting, for a coroutine: a function that returns whether to look again later. None where
        there is nothing to wait for."""
        if not self._is_due():
            return None
        is_over = self._flusher.begin_flush(self._timeout_s)

        def look() -> bool:
            over = is_over()
            if over is not None:
                self._gave_up = not over
            return over is None

        return look

    def _is_due(self) -> bool:
        if not self._flusher.is_busy():
            self._gave_up = False
        return self._flusher.is_busy() and not self._gave_up
