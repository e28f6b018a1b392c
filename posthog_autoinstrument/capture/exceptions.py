"""An exception of an SDK as text. Taken when it is raised: the exception object keeps the program's frames alive."""

from __future__ import annotations

from typing import Any

from ..core import guard

CANCELLATIONS = frozenset(("CancelledError", "Cancelled"))
"""Names of the exceptions that cancel a task: asyncio's and trio's."""
MAX_ERROR_CHARS = 100_000
_MAX_CAUSES = 8
_MAX_REASON_CHARS = 1_000


def describe(error: BaseException) -> tuple[Any, ...]:
    """The arguments of `records.Error`. Attributes as openai 1.0 to 3.54 `APIError` and `APIStatusError` have them."""

    # Not `getattr`: a property may do anything, and those of websockets' ConnectionClosed warn the program.
    own = vars(error)

    def text(name: str) -> str | None:
        value = own.get(name)
        return value if isinstance(value, str) else None

    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 3:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    status = own.get("status_code")
    return (
        type(error).__name__,
        (guard.quietly(str, error) or "")[:MAX_ERROR_CHARS],  # a `__str__` of the program's may raise
        status if isinstance(status, int) else None,
        text("code"),
        text("type"),
        text("param"),
        text("request_id"),
        tuple(causes),
        tuple(_reasons(error)),
    )


def _reasons(error: BaseException) -> list[str]:
    """Names and texts of the exceptions that this one was raised from, each once: "Connection error." alone explains
    nothing.

    By `__cause__` only: what merely was being handled may be the program's own affair.
    """
    found: list[str] = []
    names: set[str] = set()
    last = ""
    cause = error.__cause__
    for _ in range(_MAX_CAUSES):
        if cause is None:
            break
        name = type(cause).__name__
        text = (guard.quietly(str, cause) or "")[:_MAX_REASON_CHARS]
        # httpx wraps httpcore's exceptions, which have the same names and texts.
        if (text and text != last) or (not text and name not in names):
            found.append(f"{name}: {text}" if text else name)
        names.add(name)
        last = text or last
        cause = cause.__cause__
    return found
