"""Which outgoing HTTP requests have the open context in their headers: those to hosts that the user lists."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..context import headers as context_headers
from ..context.scope import Context, current_for_process, fields_to_propagate
from ..core import guard


def inject(url: Any, headers: Any, hosts: frozenset[str]) -> Any:
    """A copy of `headers`, of the same type, with `traceparent` and `baggage` of the open context. None where no
    context is open or the URL's host is not in `hosts` (`host` or `host:port`)."""
    context = current_for_process()
    if context is None or headers is None:
        return None
    return guard.attempt("propagate to another service", _inject, url, headers, hosts, context)


def _inject(url: Any, headers: Any, hosts: frozenset[str], context: Context) -> Any:
    if not is_listed(str(url), hosts):
        return None
    added = context_headers.inject(fields_to_propagate(context), lambda name: _value(headers, name))
    if not added:
        return None
    changed = headers.copy()
    changed.update(added)
    return changed


def is_listed(url: str, listed: frozenset[str]) -> bool:
    """Whether a URL is of a host that is listed as `host`, or as `host:port`."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return host in listed or f"{host}:{port}" in listed


class Replaced:
    """The headers of a request object while it is sent, with the context in them; as they were afterwards."""

    __slots__ = ("_before", "_headers", "_request")

    def __init__(self, request: Any, hosts: frozenset[str]) -> None:
        self._request = request
        self._before = getattr(request, "headers", None)
        self._headers = inject(getattr(request, "url", ""), self._before, hosts)

    def __enter__(self) -> None:
        if self._headers is not None:
            self._request.headers = self._headers

    def __exit__(self, *_: object) -> None:
        if self._headers is not None:
            self._request.headers = self._before


def _value(headers: Any, name: str) -> str | None:
    getall = getattr(headers, "getall", None)  # aiohttp's (multidict) may hold a name more than once
    value = headers.get(name) if getall is None else ",".join(getall(name, ())) or None
    return value.decode("latin-1") if isinstance(value, bytes) else value
