"""Sampling and filters: which records make an event. Pure; on the flusher's thread.

A trace is kept or left out as a whole, decided by its id alone, so that every process and thread decides the same
without asking another. What is left out was never wanted: it counts as neither lost nor dropped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from fnmatch import translate
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..core import fastjson
from ..core.records import Call, Record, Span
from ..settings.config import NOT_ACCEPTED

if TYPE_CHECKING:
    from ..providers.generation import Generation
    from ..providers.provider import Endpoint
    from ..settings.config import Config


class Patterns:
    """What is allowed and what is denied of one kind of name; denied wins. Nothing is taken where one of the two could
    not be understood."""

    def __init__(self, allowed: Iterable[str], denied: Iterable[str]) -> None:
        self._not_accepted = NOT_ACCEPTED in allowed or NOT_ACCEPTED in denied
        self._allowed = _pattern(allowed)
        self._denied = _pattern(denied)
        self.active = self._allowed is not None or self._denied is not None

    def take(self, names: Iterable[str]) -> bool:
        """Whether something that goes by these names, in lower case, is taken."""
        if self._not_accepted:
            return False
        names = list(names)
        if self._denied is not None and any(map(self._denied.fullmatch, names)):
            return False
        return self._allowed is None or any(map(self._allowed.fullmatch, names))


def _pattern(globs: Iterable[str]) -> re.Pattern[str] | None:
    globs = sorted(globs)
    return re.compile("|".join(f"(?:{translate(glob)})" for glob in globs)) if globs else None


class Sampling:
    """The rules of one process."""

    def __init__(self, settings: Config) -> None:
        self._rate = settings.sample_rate
        self._keep_errors = settings.sample_errors
        self._hosts = Patterns(settings.allow_hosts, settings.deny_hosts)
        self._models = Patterns(settings.allow_models, settings.deny_models)
        self._endpoints = Patterns(settings.allow_endpoints, settings.deny_endpoints)
        self.active = self._rate < 1 or self._hosts.active or self._models.active or self._endpoints.active

    def take(self, record: Record) -> bool:
        """Whether a span or feedback makes an event. Filters are about calls."""
        failed = isinstance(record, Span) and record.error is not None
        return self._sampled(record.identity.trace_id, failed)

    def take_call(self, call: Call, generation: Generation, endpoint: Endpoint | None) -> bool:
        """Whether a call makes an event."""
        failed = call.error is not None or generation.failure is not None or (call.status or 0) >= 400
        return (
            self._sampled(call.identity.trace_id, failed)
            and (not self._hosts.active or self._hosts.take(hosts(call)))
            and (not self._endpoints.active or self._endpoints.take(endpoints(call, endpoint)))
            and (not self._models.active or self._models.take(models(call, generation)))
        )

    def _sampled(self, trace_id: str, failed: bool) -> bool:
        return self._rate >= 1 or (failed and self._keep_errors) or share(trace_id) < self._rate


def share(trace_id: str) -> float:
    """Where a trace stands between 0 and 1: the same in every process, and as good as random."""
    digest = hashlib.sha256(trace_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def hosts(call: Call) -> list[str]:
    """The host that was asked, without and with its port."""
    try:
        parts = urlsplit(call.request_url or call.base_url)
        host = (parts.hostname or "").lower()
        port = parts.port or {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme, 0)
    except ValueError:
        return []
    return [host, f"{host}:{port}"] if host else []


def endpoints(call: Call, endpoint: Endpoint | None) -> list[str]:
    """What was called, by name and by path: `chat`, `/chat/completions`."""
    return [call.endpoint.lower(), *([endpoint.path.lower()] if endpoint is not None else [])]


def models(call: Call, generation: Generation) -> list[str]:
    """The model that answered and the one that was asked for, which may be an alias of it."""
    asked = call.model
    if asked is None and call.request:
        try:
            body = fastjson.loads(call.request)
        except (ValueError, RecursionError):
            body = None
        asked = body.get("model") if isinstance(body, dict) else None
    return [name.lower() for name in (generation.model, asked) if isinstance(name, str) and name]
