"""The shapes of the calls that tests make: which method, with which arguments, in which ways.

One table for the tests of capture, the comparison with PostHog's own wrapper, the promises and the damaged answers.
What an endpoint answers is in `exchanges`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]

_PLAIN = ("create", "stream", "raw", "raw stream", "streaming", "unread")
_ALL = (*_PLAIN, "parse", "helper", "closed")


@dataclass(frozen=True)
class CallShape:
    """The simplest call of an endpoint."""

    endpoint: str
    resource: str
    """Where the client has it: `client.chat.completions`."""
    arguments: dict[str, Any]
    ways: tuple[str, ...]
    """How it is called, as `fuzz.drive` does it, by either client. unread: the body is never read. closed: the stream
    is closed after its first event."""
    format_argument: str | None = None
    """The argument of `parse` that takes the type of the answer."""

    @property
    def method(self) -> str:
        return f"{self.resource}.create"

    def called(self, way: str, is_async: bool) -> dict[str, Any]:
        """The call as plain data, for `fuzz.drive`."""
        return {
            "resource": self.resource,
            "arguments": self.arguments,
            "format_argument": self.format_argument,
            "way": way,
            "is_async": is_async,
        }


CHAT = CallShape(
    "chat",
    "chat.completions",
    {"model": "gpt-4o-mini", "messages": HELLO},
    _ALL,
    format_argument="response_format",
)
RESPONSES = CallShape(
    "responses",
    "responses",
    {"model": "gpt-4o-mini", "input": "Hello"},
    _ALL,
    format_argument="text_format",
)
COMPLETIONS = CallShape(
    "completions", "completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Hello"}, (*_PLAIN, "closed")
)
EMBEDDINGS = CallShape(
    "embeddings",
    "embeddings",
    {"model": "text-embedding-3-small", "input": "Hello"},
    ("create", "raw", "streaming", "unread"),
)
SHAPES = {shape.endpoint: shape for shape in (CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS)}
