"""The call that is being made in this thread or task, between a method of an SDK and its transport."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class _Suppressed:
    """Stands for a call that must not be captured. It is at its end already: whatever comes changes nothing."""

    taken = True
    end = "complete"

    def finish(self, end: str) -> None:
        """It is not captured."""

    def fail(self, error: BaseException | None) -> None:
        """It is not captured."""


SUPPRESSED = _Suppressed()
ACTIVE_CALL: ContextVar[Any] = ContextVar("posthog_autoinstrument_active_call", default=None)
"""The `OpenCall` that a method opened and the transport has yet to take, or `SUPPRESSED`."""


@contextmanager
def suppressed() -> Iterator[None]:
    """No call that is made inside this block is captured."""
    token = ACTIVE_CALL.set(SUPPRESSED)
    try:
        yield
    finally:
        ACTIVE_CALL.reset(token)
