"""The kinds of values that a setting may have: how the text of a variable is parsed, and what is accepted.

A parser returns the value or raises ValueError. Its text never appears in a message: it may be a secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..core.environment import flag

US_HOST = "https://us.i.posthog.com"
EU_HOST = "https://eu.i.posthog.com"
_INGESTION = {
    "app.posthog.com": US_HOST,
    "us.posthog.com": US_HOST,
    "posthog.com": US_HOST,
    "www.posthog.com": US_HOST,
    "i.posthog.com": US_HOST,
    "eu.posthog.com": EU_HOST,
}


class Kind(NamedTuple):
    """A kind of value. `accepts` completes "wanted: ..."."""

    parse: Callable[[str], Any]
    accepts: str


def ingestion_host(host: str) -> str:
    """The base URL that takes events, for what people write as host: `eu.posthog.com`, `https://us.posthog.com/`.

    PostHog's app hosts become their ingestion hosts; any other host keeps its scheme, port and path prefix. A missing
    scheme is https. Raises ValueError when it is no URL.
    """
    host = host.strip().strip("'\"")
    if "://" not in host:
        host = "https://" + host.lstrip("/")
    parts = urlsplit(host)
    if not parts.hostname or parts.scheme not in ("http", "https") or any(map(str.isspace, host)):
        raise ValueError(f"not a host: {host!r}")
    return _INGESTION.get(parts.hostname) or f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def parse_host(text: str) -> str | None:
    """`ingestion_host` of a host that the program set in code; None where it is not an address."""
    try:
        return ingestion_host(text)
    except ValueError:
        return None


def _token(text: str) -> str:
    token = text.strip().strip("'\"")
    if token.startswith("phx_") or not token or any(character.isspace() for character in token):
        raise ValueError
    return token


def token_warning(variable: str, token: str) -> str:
    """A line about a token that does not look like one, else "". It is used all the same: tokens of old projects have
    another form."""
    body = token.removeprefix("phc_")
    looks_real = all(character.isascii() and (character.isalnum() or character in "_-") for character in body)
    if looks_real and body != token and not body.lower().startswith(("your", "xxx")):
        return ""
    return (
        f"{variable} does not look like a project token (phc_ and letters and digits): PostHog drops what is sent with "
        "a wrong one, and reports no error (posthog-instrument doctor shows whether a project has it)"
    )


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


def _hook(text: str) -> str:
    from . import hook_loader  # only where one is set

    hook_loader.parse(text)
    return text.strip()


def _tracing_headers(text: str) -> str:
    return "anonymous" if text.strip().lower() == "anonymous" else str(int(flag(text)))


def _scrub(text: str) -> str:
    try:
        return str(int(flag(text)))
    except ValueError:
        names = [part.strip() for part in text.split(",") if part.strip()]
        if not all(any(character.isascii() and character.isalnum() for character in name) for name in names):
            raise
        return ",".join(names)


def _hosts(text: str) -> frozenset[str]:
    found = set()
    for part in text.split(","):
        host = part.strip().lower()
        if not host:
            continue
        parts = urlsplit(f"//{host}")
        if "/" in host or "@" in host or not parts.hostname or any(map(str.isspace, host)):
            raise ValueError
        _ = parts.port  # raises ValueError for what is no number
        found.add(host)
    return frozenset(found)


def _patterns(text: str) -> frozenset[str]:
    found = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    # A list in JSON, other separators, addresses: as patterns they would match nothing, and deny nothing.
    if not found or any(character.isspace() or character in "\"'`;{}()" for part in found for character in part):
        raise ValueError
    return found


def _host_patterns(text: str) -> frozenset[str]:
    found = _patterns(text)
    if any("/" in part or "@" in part for part in found):
        raise ValueError
    return found


def _between(convert: Callable[[str], float], low: float, high: float) -> Callable[[str], Any]:
    def parse(text: str) -> float:
        value = convert(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def number(low: float, high: float, accepts: str) -> Kind:
    return Kind(_between(float, low, high), accepts)


def whole(low: int, high: int, accepts: str) -> Kind:
    return Kind(_between(int, low, high), accepts)


_PATTERNS = "patterns (`*`, `?`, `[...]`), separated by commas"

FLAG = Kind(flag, "1 or 0 (also true, yes, on; false, no, off)")
TEXT = Kind(lambda text: text.strip() or None, "text")
FILE = Kind(lambda text: os.path.abspath(os.path.expanduser(text.strip())), "a file path")
DIRECTORY = Kind(FILE.parse, "a directory")
JSON_OBJECT = Kind(_json_object, "a JSON object")
HOOK = Kind(_hook, "module:function")
HOSTS = Kind(_hosts, "hosts, as host or host:port, separated by commas")
PATTERNS = Kind(_patterns, _PATTERNS)
HOST_PATTERNS = Kind(_host_patterns, _PATTERNS)
TOKEN = Kind(_token, "a project token (phc_...), not a personal key (phx_...)")
HOST = Kind(ingestion_host, "an http(s) address")
TRACING_HEADERS = Kind(_tracing_headers, "1, 0 or anonymous")
SCRUB = Kind(_scrub, "1, 0, or names separated by commas")
