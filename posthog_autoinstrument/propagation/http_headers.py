"""Which request tells another service about the open context: one to a host that the user lists."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .. import propagation
from ..context.headers import inject
from ..context.scope import current_for_process, fields_to_propagate
from ..core import guard


def told(url: Any, headers: Any) -> Any:
    """A copy of a request's headers, of their own type, with what is told; None where nothing is."""
    context = current_for_process()
    if context is None:
        return None
    return guard.attempt("tell another service of a context", _told, url, headers, context)


def _told(url: Any, headers: Any, context: Any) -> Any:
    if not is_listed(str(url), propagation.hosts):
        return None
    added = inject(fields_to_propagate(context), lambda name: _value(headers, name))
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


def _value(headers: Any, name: str) -> str | None:
    getall = getattr(headers, "getall", None)  # aiohttp's (multidict) may hold a name more than once
    value = headers.get(name) if getall is None else ",".join(getall(name, ())) or None
    return value.decode("latin-1") if isinstance(value, bytes) else value
