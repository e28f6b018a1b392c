"""What never leaves the process: pictures and sound, credentials of tools, keys in URLs and messages.

The rules for media are those of PostHog's own wrapper (posthog 7.91.1, `posthog/ai/sanitization.py`), and so are the
placeholders but for the size in them: `[base64 image redacted, 12345 bytes]`. Where this module goes further, it says
so. Pure; never changes what it is given.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from ..core.guard import guarded
from ..scrubbing import secret_texts
from ..scrubbing.secret_names import REDACTED
from ..scrubbing.secret_texts import end_of_run
from .sanitize import rewrite

# --- media ---

_DATA_URL = re.compile(r"data:([^;,]{0,200})(?:;[^;,]{0,200}){0,8};base64,", re.IGNORECASE)
"""The wrapper's, and also with parameters (`data:audio/wav;codecs=1;base64,`) or without a type."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\r\n=]*")
"""Both alphabets; unlike the wrapper's also with the line breaks of MIME, and with padding inside, where pieces of a
stream were put together. For text without white space at its end: matching that here too took time by the square of
the length, on a thread that holds the GIL."""
_SLICE = 500_000
"""Characters looked through at once: for as long nothing else runs in the program."""
_PAYLOAD = re.compile(r"[A-Za-z0-9+/_\-\r\n=%]*")
"""What follows a data URL's head; percent signs are padding that was encoded for a URL."""
_EMBEDDED = re.compile(r";base64,([A-Za-z0-9+/_\-=%]{200,})")
_HEAD_CHARS = 400
"""How far before that the head of an embedded data URL may begin."""
_EMBEDDED_HEAD = re.compile(r"data:([^;,\s\"'()<>]{0,200})(?:;[^;,\s\"'()<>]{0,200}){0,8}\Z", re.IGNORECASE)
_MIN_BASE64 = 200
"""Shorter strings under a media key are names and ids."""

_MEDIA_KEYS = frozenset(
    ("data", "image_url", "imageUrl", "video_url", "videoUrl", "audio", "audio_data", "audioData")
    + ("inline_data", "inlineData", "file_data", "fileData")
    + ("b64_json", "partial_image_b64")  # answers of the image endpoints, which the wrapper does not see
)
_BULK_KEYS = _MEDIA_KEYS | {"url", "result"}
"""Below these, a long string may be media: see `_holds_media`."""
_HARMLESS = frozenset(("content", "text", "role", "type", "id", "name", None))
"""Most keys of content: not compared with names of credentials."""
_NUMBERS = {int, float, bool}
_URL_OWNERS = frozenset(("image_url", "imageUrl", "video_url", "videoUrl"))
"""`{"image_url": {"url": ...}}`: the inner `url` is media only below one of these."""
_MIME_KEYS = ("mime_type", "mimeType", "media_type", "mediaType", "format")
_WORDS = ("image", "video", "audio")
_FORMATS = {
    **dict.fromkeys(("wav", "mp3", "pcm16", "pcm", "flac", "opus", "aac", "ogg", "m4a"), "audio"),
    **dict.fromkeys(("mp4", "mov", "webm", "avi", "mkv"), "video"),
    **dict.fromkeys(("png", "jpg", "jpeg", "gif", "webp", "bmp", "svg"), "image"),
}


def redact_media(value: Any, keep: bool = False) -> Any:
    """The JSON value with base64 media replaced by `[base64 image redacted, 12 bytes]` and the like.

    As it is with `keep`.
    """
    return value if keep else rewrite(value, _redact_one)


def redact_content(value: Any, keep_media: bool = False) -> Any:
    """Content without media, and without the credentials of tools that are in it."""
    if _is_clean(value, None):
        return value
    return rewrite(value, _redact_secret if keep_media else _redact_both)


def _is_clean(value: Any, key: str | None) -> bool:
    """Whether a quick look finds nothing that could be redacted. Most content is such."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        if value.get("type") == "mcp" or "domain_secrets" in value:
            return False
        items = value.items()
    elif isinstance(value, list):
        if value and isinstance(value[0], (int, float)) and set(map(type, value)) <= _NUMBERS:
            return True
        items = zip(itertools.repeat(key), value)
    else:
        items = ((key, value),)
    for name, child in items:
        if isinstance(child, str):
            if name not in _HARMLESS and _is_secret(child, name):
                return False
            if len(child) < _MIN_BASE64:
                if name == "data" or (child[:1] in "dD" and child[:5].lower() == "data:"):
                    return False
            elif name in _BULK_KEYS or _find_embedded(child) or child[:5].lower() == "data:":
                return False
        elif isinstance(child, (dict, list)):
            try:
                if not _is_clean(child, name):
                    return False
            except RecursionError:
                return False
        elif not (child is None or isinstance(child, (int, float))):
            return False
    return True


def _redact_both(value: Any, key: str | None, owner: dict[Any, Any] | None, owner_key: str | None) -> Any:
    return _redact_one(_redact_secret(value, key, owner, owner_key), key, owner, owner_key)


def _redact_one(value: Any, key: str | None, owner: dict[Any, Any] | None, owner_key: str | None) -> Any:
    if isinstance(value, bytes):
        return _placeholder(_hint(owner), len(value))
    if not isinstance(value, str):
        return value
    if value[:5].lower() == "data:":
        match = _DATA_URL.match(value)
        if match:
            end = end_of_run(_PAYLOAD, value, match.end())
            rest = _redact_embedded(value[end:])  # a prompt that begins with a picture
            return _placeholder(match[1], _decoded_bytes(value, match.end(), end)) + rest
    if key == "data" and owner is not None and owner.get("type") == "audio":
        # Spoken output, also when it is short.
        return _redacted(value, owner) if _is_base64(value) else value
    if len(value) < _MIN_BASE64:
        return value
    if _holds_media(key, owner, owner_key) and _is_base64(value):
        return _redacted(value, owner)
    return _redact_embedded(value)


def _redact_embedded(text: str) -> str:
    """Data URLs inside a text: in JSON that a tool returned, in Markdown. PostHog's wrapper does not redact them."""
    if not _find_embedded(text):
        return text
    pieces: list[str] = []
    kept = 0
    for match in _EMBEDDED.finditer(text):
        before = text[max(kept, match.start() - _HEAD_CHARS) : match.start()]
        begin = before.lower().rfind("data:")
        head = _EMBEDDED_HEAD.match(before, begin) if begin >= 0 else None
        if head is not None:
            pieces.append(text[kept : match.start() - len(before) + begin])
            pieces.append(_placeholder(head[1], _decoded_bytes(text, match.start(1), match.end())))
            kept = match.end()
    return "".join([*pieces, text[kept:]]) if pieces else text


def _find_embedded(text: str) -> bool:
    if len(text) <= _SLICE:
        return ";base64," in text
    return any(text.find(";base64,", start, start + _SLICE + 7) >= 0 for start in range(0, len(text), _SLICE))


def _is_base64(value: str) -> bool:
    text = value.rstrip()
    return text[:1] != "=" and end_of_run(_BASE64, text, 0) == len(text) > 0


def _redacted(value: str, owner: dict[Any, Any] | None) -> str:
    return _placeholder(_hint(owner), _decoded_bytes(value, 0, len(value)))


def _decoded_bytes(text: str, start: int, end: int) -> int:
    """How many bytes the base64 between two places of a text stands for."""
    encoded = text.count("%", start, end)  # `%3D`
    padding = text.count("=", start, end) + encoded
    breaks = sum(text.count(char, start, end) for char in "\r\n")
    return max(0, (end - start - breaks - 2 * encoded) * 3 // 4 - padding)


def _holds_media(key: str | None, owner: dict[Any, Any] | None, owner_key: str | None) -> bool:
    if key == "url":
        return owner_key in _URL_OWNERS
    if key == "result":  # a tool's result is text unless the tool draws
        return owner is not None and owner.get("type") == "image_generation_call"
    return key in _MEDIA_KEYS


def _hint(owner: dict[Any, Any] | None) -> str | None:
    """The media type that the dict around the data names, or its `type`."""
    if owner is None:
        return None
    for key in _MIME_KEYS:
        if isinstance(owner.get(key), str):
            return str(owner[key])
    kind = owner.get("type")
    return kind if kind in _WORDS else None


def _placeholder(mime: str | None, size: int) -> str:
    return f"[base64 {_word(mime)} redacted, {size} bytes]"


def _word(mime: str | None) -> str:
    if not mime:
        return "image"
    if "/" in mime:
        family = mime.partition("/")[0]
        return family if family in _WORDS else "file"
    lowered = mime.lower()
    return lowered if lowered in _WORDS else _FORMATS.get(lowered, "file")


# --- tools ---


def _redact_secret(value: Any, key: str | None, owner: dict[Any, Any] | None, owner_key: str | None) -> Any:
    """Without credentials of MCP servers, also in their URLs, and of the domains of a container."""
    # Tools stand in lists of tools, in namespaces of tools, and (`additional_tools`) in the conversation itself.
    if key == "value" and owner_key == "domain_secrets" and value is not None:
        return REDACTED
    if _is_secret(value, key):
        return REDACTED
    if not isinstance(value, dict) or value.get("type") != "mcp":
        return value
    copy = dict(value)
    for name in ("headers", "authorization"):
        if copy.get(name) is not None:
            copy[name] = REDACTED
    if isinstance(copy.get("server_url"), str):  # some servers have the key in it; PostHog's wrapper does not redact it
        copy["server_url"] = redact_url(copy["server_url"])
    return value if copy == value else copy


# --- keys ---


def redact_keys(text: str) -> str:
    """An error message without the API keys it quotes; keys that are already masked with stars stay."""
    return secret_texts.scrub_text(text, always=True)


# --- what programs put beside a call ---

SECRET_NAMES = frozenset(
    ("authorization", "proxy-authorization", "proxy_authorization", "cookie", "set-cookie", "set_cookie")
    + ("api-key", "api_key", "apikey", "x-api-key", "x_api_key", "x-goog-api-key")
)
"""Names, in lower case, whose texts are credentials. In a JSON schema they name a dict, which stays."""


def _is_secret(value: Any, key: Any) -> bool:
    return isinstance(value, str) and isinstance(key, str) and key.lower() in SECRET_NAMES


# --- URLs ---

_OPEN_QUERY = frozenset(("api-version", "api_version", "model", "stream", "limit", "order", "starting_after"))
"""Query parameters whose values are shown; all others may be secrets."""
_OBJECT_ID = re.compile(r"(?:resp|chatcmpl|cmpl|conv|file|batch|thread|run|asst|msg|vs|ftjob)[-_][A-Za-z0-9]+")
"""Ids of OpenAI's objects are long and random but open nothing."""
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z0-9]{20,}")
_CLASS_CHANGE = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[a-z0-9])|(?<=[0-9])(?=[A-Za-z])")


def redact_url(url: str) -> str:
    """The URL without userinfo and fragment, its query values and key-like path parts redacted. Never raises."""
    return _redacted_url(url) if len(url) <= _MAX_REMEMBERED_CHARS else _redact_url(url)


_MAX_REMEMBERED_CHARS = 300


@functools.lru_cache(maxsize=128)
def _redacted_url(url: str) -> str:
    """The same, remembered: a program calls few addresses, many times."""
    return _redact_url(url)


@guarded("redact a URL", REDACTED)
def _redact_url(url: str) -> str:
    try:
        scheme, netloc, path, query, _ = urlsplit(url)
    except ValueError:  # "Invalid IPv6 URL"
        return REDACTED
    path = "/".join(REDACTED if _is_key_like(unquote(part)) else part for part in path.split("/"))
    host = netloc.rpartition("@")[2]
    shown = f"{scheme}:" if scheme else ""
    shown += f"//{host}" if netloc else ""
    return shown + path + (f"?{'&'.join(map(_redact_parameter, query.split('&')))}" if query else "")


def _redact_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if _is_key_like(unquote(name)) or (not equals and len(name) > 20):
        name = REDACTED
    if value and (name.lower() not in _OPEN_QUERY or _is_key_like(unquote(value))):
        value = REDACTED
    return name + equals + value


def _is_key_like(part: str) -> bool:
    if _OBJECT_ID.fullmatch(part):
        return False
    if secret_texts.finds(part) or _UUID.search(part):
        return True
    # Deployment and model names have separators and words; a key is one long run with digits all over it.
    if any(sum(map(str.isdigit, run)) >= 2 and not run.isdigit() for run in _RUN.findall(part)):
        return True
    letters = re.sub(r"[^A-Za-z0-9]", "", part)
    return len(letters) >= 28 and len(_CLASS_CHANGE.findall(letters)) >= 0.45 * len(letters)
