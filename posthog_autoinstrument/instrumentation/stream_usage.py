"""Token counts of chat streams: asked for where the host is known to take the question, and the answer hidden.

A streamed chat reports its token counts only when `stream_options.include_usage` asks for them. Then every chunk has
`"usage": null`, and one more chunk without choices brings the counts. The program did not ask, so it sees neither: what
the SDK parses is what it would have parsed, and what the program reads of such a stream's body itself is filtered too.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, AnyStr
from urllib.parse import urlsplit

from ..capture.calls import OpenCall
from ..capture.response import Content
from ..core import diagnostics, guard, patching

_RAW_RESPONSE = "x-stainless-raw-response"
"""The header by which the SDK (1.0 to 3.54) marks a call whose answer the program reads itself."""

_OF_EVERY_CHUNK = frozenset(
    ("id", "object", "created", "model", "service_tier", "system_fingerprint", "obfuscation", "provider")
    + ("x_groq", "time_info", "timings")
)
"""What a chunk that brings nothing but usage has beside it: what all chunks have, and the timings of Groq, Cerebras
and llama.cpp. A chunk with anything else in it is shown, without its usage."""

_ASKING = frozenset(("stream", "stream_options"))
"""What a program may set in `extra_body` as well, which takes precedence: without `stream` the options are refused."""

_LAST = r""",\s*"usage"\s*:\s*null((?:\s*,\s*"\w+"\s*:\s*(?:"[^"\\]*"|null|true|false|-?[0-9.eE+-]+))*\s*\})\s*\Z"""
"""The member among the last ones of an event's object, where it can be cut out without parsing: up to the closing brace
come only members with plain values, so that brace is the event's own."""
_EVENT_END = rb"(?:\r\n|\n|\r(?=[^\n])){2}"


@functools.cache
def _compiled(pattern: AnyStr) -> re.Pattern[AnyStr]:
    return re.compile(pattern)  # when the first stream is asked: `import openai` would wait for it


class StreamUsage:
    """Which hosts are asked. Made by the agent; shared by the calls of one provider."""

    def __init__(self, known: Iterable[str], listed: Iterable[str], active: bool) -> None:
        self._known = frozenset(known)
        """Hosts of the provider's own, documented to take it."""
        self._listed = frozenset(listed) - self._known
        """Hosts that the user lists, as `host` or `host:port`."""
        self._refused: set[str] = set()
        self.active = active

    @guard.guarded("ask for the token counts of a stream", None)
    def ask(self, call: OpenCall, client: Any, options: Any, kwargs: dict[str, Any]) -> Any:
        """Options that ask for usage as well, or None where the program asked already or must not be meddled with."""
        body = options.json_data
        if (
            not self.active
            or not kwargs.get("stream")
            or type(body) is not dict
            or body.get("stream") is not True
            or not _is_tapped(kwargs.get("stream_cls"), client)
            or _is_raw(options.headers)
            or not _ASKING.isdisjoint(getattr(options, "extra_json", None) or ())
        ):
            return None
        wanted = body.get("stream_options")
        if wanted is not None and (type(wanted) is not dict or "include_usage" in wanted):
            return None
        host = self._host(client, options.url)
        if host is None:
            return None
        asking = copy.copy(options)  # the program may hold the options, and its body too
        asking.json_data = {**body, "stream_options": {**(wanted or {}), "include_usage": True}}
        call.usage_host = host
        return asking

    def _host(self, client: Any, url: str) -> str | None:
        """The host that is asked, as it is listed; None where it must not be."""
        if "://" in url:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        else:
            base = client.base_url
            host, port = base.host, base.port
        for name in (host, f"{host}:{port}" if port else f"{host}:{443 if _is_https(client, url) else 80}"):
            if name in self._refused:
                return None
            if name in self._known or name in self._listed:
                return str(name)
        return None

    @guard.guarded("look at a refusal", None)
    def refused(self, call: OpenCall) -> None:
        """A call that was asked for usage ended. Where the host does not take it, it is not asked again."""
        if call.status != 400 or call.usage_host in self._refused:
            return
        host = call.usage_host
        if host in self._known:
            # It takes it; a 400 is about something else, unless it names the option.
            content = call.response.content() if call.response is not None else Content()
            body = content.body or b""
            if b"stream_options" not in body and b"include_usage" not in body:
                return
        self._refused.add(host)
        diagnostics.warn_once(
            f"usage {host}",
            f"{host} answered 400 to a stream that was asked for its token counts; it is not asked again",
        )


def _is_https(client: Any, url: str) -> bool:
    return (url if "://" in url else str(client.base_url)).startswith("https")


def _is_tapped(stream_class: Any, client: Any) -> bool:
    """Whether the events of this stream pass our tap, so that usage can be hidden again."""
    cls = getattr(stream_class, "__origin__", stream_class) or getattr(client, "_default_stream_cls", None)
    return patching.is_patched(getattr(cls, "_iter_events", None))


def _is_raw(headers: Any) -> bool:
    return isinstance(headers, Mapping) and any(str(name).lower() == _RAW_RESPONSE for name in headers)


def hidden(event: Any) -> Any:
    """The SSE event as the program would have got it; None for the one that only brings usage. Never raises."""
    if '"usage"' not in event.data:
        return event
    shown = guard.attempt("hide usage", _hidden, event.data)
    if shown is None or shown == event.data:
        return event
    return type(event)(event=event.event, data=shown, id=event.id, retry=event.retry) if shown else None


def _hidden(text: str) -> str:
    """The text of an event without its usage; an empty one where that is all it brings."""
    shown = _compiled(_LAST).sub(r"\1", text, count=1)
    if shown == text or '"usage"' in shown:
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            return text  # the SDK raises for it
        if not isinstance(parsed, dict) or "usage" not in parsed:
            return text
        usage = parsed.pop("usage")
        if usage is not None and not any(value for name, value in parsed.items() if name not in _OF_EVERY_CHUNK):
            return ""
        shown = json.dumps(parsed)
    return shown


class UsageFilter:
    """The bytes of an event stream as the program would have got them: event by event, each when all of it came."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def feed(self, piece: bytes) -> bytes:
        """What can be shown once `piece` has come. Never raises."""
        self._held.append(piece)
        if b"\n" not in piece and b"\r" not in piece:
            return b""
        held = b"".join(self._held)
        shown: list[bytes] = []
        start = 0
        for end in _compiled(_EVENT_END).finditer(held):
            shown.append(_shown(held[start : end.end()]))
            start = end.end()
        self._held = [held[start:]]
        return b"".join(shown)

    def rest(self) -> bytes:
        """The incomplete last event, without its usage."""
        held, self._held = b"".join(self._held), []
        return _shown(held)


def _shown(event: bytes) -> bytes:
    if b'"usage"' not in event:
        return event
    shown = guard.attempt("hide usage", _hidden_bytes, event)
    return event if shown is None else shown


def _hidden_bytes(event: bytes) -> bytes:
    """One event of a stream, with the empty line that ends it, without its usage."""
    lines = event.splitlines(keepends=True)
    data = [line for line in lines if line.startswith(b"data:")]
    text = "\n".join(line[5:].decode("utf-8", "surrogateescape").removeprefix(" ").rstrip("\r\n") for line in data)
    shown = _hidden(text)
    if shown == text:
        return event
    if not shown:
        return b""
    end = data[0][len(data[0].rstrip(b"\r\n")) :]
    data_lines = b"".join(b"data: " + line.encode("utf-8", "surrogateescape") + end for line in shown.split("\n"))
    first = lines.index(data[0])
    return b"".join([*lines[:first], data_lines, *(line for line in lines[first:] if not line.startswith(b"data:"))])
