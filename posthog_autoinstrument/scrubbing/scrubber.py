"""The scrubber: removes credentials from the program's own values before they are sent, written or propagated, by the
names of values (`secret_names`) and by the form of texts (`secret_texts`). Prompts and answers are content, and stay.
Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from . import secret_names
from .secret_names import REDACTED, has_secret_name, is_schema, is_secret
from .secret_texts import scrub_text

_MAX_DEPTH = 100
_TOO_DEEP = "[nested too deeply]"
_OURS = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}|[0-9a-f]{16}")
"""Ids as we make them."""


def scrub(value: Any, name: str = "") -> Any:
    """A value of JSON's types without credentials, by the names in it (its own is `name`) and by its texts."""
    return value if secret_names.is_off() else _scrubbed(value, is_secret(name), 0)


def _scrubbed(value: Any, hidden: bool, depth: int) -> Any:
    if isinstance(value, str):
        return REDACTED if hidden and value else scrub_text(value)
    if isinstance(value, dict):
        return _scrubbed_dict(value, hidden, depth) if depth < _MAX_DEPTH else _TOO_DEEP
    if isinstance(value, (list, tuple)):
        if depth >= _MAX_DEPTH:
            return _TOO_DEEP
        if set(map(type, value)) <= _NUMBERS:
            return value
        named = len(value) == 2 and isinstance(value[0], str) and is_secret(value[0])
        found = [_scrubbed(one, hidden or (named and at == 1), depth + 1) for at, one in enumerate(value)]
        return value if all(map(_is, found, value)) else found
    return value


_NUMBERS = {int, float, bool, type(None)}


def _is(one: Any, other: Any) -> bool:
    return one is other


def _scrubbed_dict(value: dict[Any, Any], hidden: bool, depth: int) -> Any:
    if hidden and is_schema(value):
        hidden = False
    named = 2 <= len(value) <= 10 and has_secret_name(value.items())
    found = {}
    changed = False
    for key, one in value.items():
        shown, by_name = _key_of(key) if isinstance(key, str) else (key, False)
        new = _scrubbed(
            one, hidden or by_name or (named and isinstance(key, str) and key.lower() == "value"), depth + 1
        )
        changed = changed or new is not one or shown is not key
        found[shown] = new
    return found if changed else value


def _key_of(key: str) -> tuple[str, bool]:
    shown = scrub_text(key)
    return (key if shown == key else shown), is_secret(key)


# --- properties ---

PATH, ROUTE, URL = "$request_path", "$request_route", "$current_url"
_TELLING = frozenset(
    ("reset", "verify", "verification", "confirm", "confirmation", "invite", "invitation", "activate", "activation")
    + ("token", "tokens", "magic", "unsubscribe", "password", "oauth", "share", "secret", "key", "auth")
)
"""Parts of a path behind which a token stands."""
_PARAMETER = re.compile(r"<[^>/]*>|\{[^}/]*\}|:\w+|\(\?P[^/]*\)")
"""What stands in a route for a part of the path, as frameworks write it."""
_RUN_OF_KEY = re.compile(r"[A-Za-z0-9_\-]{20,}")


_NONE: frozenset[str] = frozenset()


def scrub_properties(
    properties: Mapping[str, Any], content: frozenset[str] = _NONE, ids: frozenset[str] = _NONE
) -> dict[str, Any]:
    """Properties of an event without credentials. Those named in `content` (prompts and answers) stay; those in
    `ids` are replaced by ids that are as distinct."""
    if secret_names.is_off():
        return dict(properties)
    found = {}
    for name, value in properties.items():
        if name in content:
            found[name] = value
        elif name in ids and isinstance(value, str):
            found[name] = scrub_id(value)
        else:
            shown, by_name = _key_of(name)
            found[shown] = _scrubbed(value, by_name, 0)
    path = found.get(PATH)
    if isinstance(path, str):
        shown = scrub_path(path, found.get(ROUTE))
        if shown != path:
            found[PATH] = shown
            url = found.get(URL)
            if isinstance(url, str):
                found[URL] = url.replace(path, shown) if path in url else REDACTED
    return found


def scrub_path(path: str, route: Any = None) -> str:
    """The path of a web request without tokens: `/reset/<token>`, or its route where that is known."""
    parts = path.split("/")
    hidden = [_is_token(part, parts[at - 1] if at else "") for at, part in enumerate(parts)]
    parameters = _PARAMETER.findall(route) if isinstance(route, str) else []
    if parameters and (any(hidden) or any(map(is_secret, parameters))):
        return str(route) if str(route).startswith("/") else f"/{route}"
    return "/".join(REDACTED if hide else part for part, hide in zip(parts, hidden, strict=True))


def _is_token(part: str, before: str) -> bool:
    if len(part) < 6 or part == REDACTED:
        return False
    if scrub_text(part) != part:
        return True
    has_digit = any(map(str.isdigit, part))
    if before.lower() in _TELLING or not _TELLING.isdisjoint(secret_names.words_of(before)):
        return has_digit or len(part) >= 16
    # A key is one long run with digits among its letters; ids of rows and slugs are not.
    return any(
        sum(map(str.isdigit, run)) >= 4 and sum(map(str.isalpha, run)) >= 4 and not _is_slug(run)
        for run in _RUN_OF_KEY.findall(part)
    ) and not _UUID.fullmatch(part)


_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def _is_slug(run: str) -> bool:
    """Words and numbers, between hyphens."""
    return all(part.isdigit() or part.isalpha() for part in re.split("[-_]", run))


def scrub_id(text: str) -> str:
    """An id that is a credential as one that is none, and the same each time."""
    if _OURS.fullmatch(text) is not None or scrub_text(text) == text:
        return text
    return "redacted-" + hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
