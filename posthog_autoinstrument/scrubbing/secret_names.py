"""Names whose values are credentials: of arguments, properties, headers, fields, variables. Whole words count:
`access_token`, `accessToken` and `X-Access-Token` are one name, `tokenizer` and `max_tokens` are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

REDACTED = "[REDACTED]"

_MAX_CHARS = 200
"""A longer text is no name."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""`awsSecretKey`, `AWS_SECRET_KEY`, `x-api-key` and `db.password` as words; `APIKey` as `API` and `Key`."""

_HINT = re.compile("pass|pwd|secret|key|token|auth|cookie|cred|jwt|signature|bearer", re.IGNORECASE)
"""Every secret name of ours has one of these in it: most names are decided by that alone."""

ALWAYS = frozenset(
    ("password", "passwords", "passwd", "passphrase", "passcode", "pwd", "secret", "secrets", "apikey", "apikeys")
    + ("authorization", "cookie", "cookies", "setcookie", "credential", "credentials", "creds", "privatekey", "jwt")
    + ("accesstoken", "refreshtoken", "authtoken", "idtoken", "sessiontoken", "clientsecret", "secretkey", "accesskey")
    + (
        "apitoken",
        "bearertoken",
        "dbpass",
        "userpass",
        "passkey",
        "accountkey",
        "sharedaccesskey",
        "sharedaccesssignature",
        "csrftoken",
        "csrfmiddlewaretoken",
        "xsrftoken",
    )
)
"""A word that makes a name secret wherever it stands in it."""
BEFORE_KEY = frozenset(
    ("api", "access", "account", "admin", "auth", "client", "encryption", "hmac", "host", "master", "private", "secret")
    + ("service", "shared", "signing", "ssh", "storage", "subscription", "function", "functions", "webhook", "license")
    + (
        "openai",
        "anthropic",
        "azure",
        "aws",
        "gcp",
        "google",
        "gemini",
        "groq",
        "mistral",
        "cohere",
        "posthog",
        "stripe",
        "deploy",
        "kms",
        "rsa",
        "tls",
    )
)
"""`api_key`, `OPENAI_KEY`; a `key` alone is one of a dict."""
BEFORE_PASS = frozenset(("admin", "db", "ftp", "http", "login", "mail", "proxy", "redis", "root", "smtp", "user"))
"""`smtp_pass`; a `pass` alone is that of a test."""
NO_CREDENTIAL_TOKENS = frozenset(
    ("bos", "cls", "end", "eos", "eot", "first", "last", "mask", "max", "min", "num", "pad", "per", "sep", "special")
    + ("start", "stop", "total", "unk")
)
"""`eos_token` is a word of a tokenizer's."""
BEFORE_TOKENS = frozenset(("access", "api", "auth", "bearer", "id", "oauth", "refresh", "session"))
"""`access_tokens` are credentials, `prompt_tokens` are counted."""
VALUES = frozenset(("value", "secret", "string", "str", "text", "raw", "plain", "plaintext", "hash", "data", "header"))
"""`token_value` is a token, `token_count` is none."""
DESCRIPTIONS = frozenset(
    (
        "at",
        "count",
        "counts",
        "enabled",
        "expired",
        "expires",
        "expiry",
        "id",
        "ids",
        "length",
        "limit",
        "limits",
        "max",
    )
    + (
        "min",
        "name",
        "names",
        "policy",
        "required",
        "size",
        "ttl",
        "type",
        "types",
        "changed",
        "consent",
        "level",
        "method",
        "mode",
        "provider",
        "rate",
        "requested",
        "status",
        "strength",
        "usage",
        "used",
        "valid",
        "version",
    )
)
"""Last words of names whose value is no credential itself: `password_policy`, `secret_name`, `access_key_id`."""

_own: tuple[tuple[str, ...], ...] = ()
_off = False


def use(text: str) -> None:
    """Called by `settings.loader` with POSTHOG_AUTOINSTRUMENT_SCRUB: 1, 0 (nothing is scrubbed) or more names."""
    global _own, _off
    _off = text == "0"
    _own = () if text in ("0", "1") else tuple(words for part in text.split(",") if (words := words_of(part)))
    _is_secret.cache_clear()


def is_off() -> bool:
    """Whether the program's own values are left as they are."""
    return _off


def own_hints() -> tuple[str, ...]:
    """The longest word of each name that was added, in lower case."""
    return tuple(max(words, key=len) for words in _own)


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case."""
    return tuple(map(str.lower, _WORD.findall(name)))


def is_added(name: str) -> bool:
    """Whether a setting adds this name."""
    words = words_of(name) if _own else ()
    return any(_has(words, own) for own in _own)


def is_secret(name: str) -> bool:
    """Whether a value of this name is a credential."""
    return not _off and len(name) <= _MAX_CHARS and _is_secret(name)


@lru_cache(maxsize=4096)  # of names only: it would hold long texts that are asked about in the place of one
def _is_secret(name: str) -> bool:
    if not _own and _HINT.search(name) is None:
        return False
    if is_added(name):
        return True
    words = words_of(name)
    if not words or words[-1] in DESCRIPTIONS:
        return False
    if not ALWAYS.isdisjoint(words) or "".join(words) in ALWAYS or any(word.endswith("password") for word in words):
        return True
    before = (None, *words)
    for position, word in enumerate(words):
        if word == "key" and before[position] in BEFORE_KEY:
            return True
        if word == "pass" and before[position] in BEFORE_PASS:
            return True
        if word == "tokens" and before[position] in BEFORE_TOKENS and position + 1 == len(words):
            return True
        if word == "bearer" and position + 1 == len(words):
            return True
        if word in ("token", "auth") and before[position] not in NO_CREDENTIAL_TOKENS:
            rest = words[position + 1 :]
            if word == "token" and all(more in VALUES or more.isdigit() for more in rest):
                return True
            if (
                word == "auth"
                and rest in ((), ("header",), ("headers",))
                and (position == 0 or before[position] in ("basic", "http", "proxy"))
            ):
                return True
    return False


def _has(words: tuple[str, ...], own: tuple[str, ...]) -> bool:
    return any(words[start : start + len(own)] == own for start in range(len(words) - len(own) + 1))


_NAME_KEYS = ("name", "key", "header")


def has_secret_name(items: Iterable[tuple[Any, Any]]) -> bool:
    """Whether one of a mapping's items is the name of a credential: `{"Name": "DB_PASSWORD", "Value": ...}`."""
    return any(
        isinstance(key, str) and key.lower() in _NAME_KEYS and isinstance(value, str) and is_secret(value)
        for key, value in items
    )


_SCHEMA_TYPES = frozenset(("object", "string", "array", "number", "integer", "boolean", "null"))


def is_schema(value: Mapping[Any, Any]) -> bool:
    """Whether it describes a value in JSON Schema: a parameter that is named `password` is no password."""
    kind = value.get("type") if isinstance(value, dict) else None
    return (isinstance(kind, str) and kind in _SCHEMA_TYPES) or "$ref" in value or "anyOf" in value
