"""Removes what looks like a credential from a text: API keys, JSON web tokens, `Bearer ...`, passwords in addresses,
signatures of URLs, private keys, `password=...`.

Nothing here takes quadratic time, or keeps the interpreter for long: a text is searched in slices for short hints, and
only the text at a hint is examined, once. Pure; scrubbing twice changes nothing more.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from . import secret_names
from .secret_names import REDACTED, is_secret

_SLICE = 32_768
"""Characters that are looked through at once: 0.2 ms."""
_OVERLAP = 64
"""A hint may begin in one slice and end in the next."""
_SHORTEST = 5
"""`pwd=x`"""
_MAX_REMEMBERED = 100
_MAX_PASSES = 5
_MAX_NAME = 64
"""So far a name is followed to both sides of a hint."""

_KEYS = {
    "sk-": 8,  # OpenAI, Anthropic, OpenRouter, LiteLLM, DeepSeek
    **dict.fromkeys(("phc_", "phx_", "phs_", "pha_", "phr_"), 8),  # PostHog
    "AIza": 16,  # Google
    **dict.fromkeys(("gsk_", "hf_", "r8_", "xai-", "pplx-", "nvapi-", "fw-", "csk-", "tvly-"), 16),
    # Groq, Hugging Face, Replicate, xAI, Perplexity, NVIDIA, Fireworks, Cerebras, Tavily
    **dict.fromkeys(("ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "npm_", "pypi-"), 16),
    **dict.fromkeys(("AKIA", "ASIA"), 12),  # AWS
    **dict.fromkeys(("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "xapp-"), 10),  # Slack
    **dict.fromkeys(("sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"), 8),  # Stripe
    "SG.": 16,  # SendGrid
    **dict.fromkeys(("ya29.", "GOCSPX-"), 16),  # Google's OAuth
    **dict.fromkeys(("shpat_", "dop_v1_", "dckr_pat_", "hvs.", "lsv2_", "ntn_", "lin_api_", "pcsk_"), 16),
    # Shopify, DigitalOcean, Docker, Vault, LangSmith, Notion, Linear, Pinecone
}
"""Prefix of API keys -> how many characters follow at least."""
_NAMED = (
    "passw",
    "passphrase",
    "passcode",
    "_pass",
    "bpass",
    "rpass",
    "pwd",
    "secret",
    "key",
    "token",
    "auth",
    "cookie",
    "cred",
    "jwt",
)
"""What is in every name of a credential (`secret_names`), in lower case."""
_SIGNED = ("sig=", "signature=", "?key=", "&key=", "?code=", "&code=", "?pass=", "&pass=", "hmac=")
"""Parameters of URLs that open what they name."""
_PATHS = {
    "hooks.slack.com/services/": re.compile(r"[\w\-/]{8,200}"),
    "/api/webhooks/": re.compile(r"\d{5,30}/[\w\-]{8,200}"),  # Discord
    "api.telegram.org/bot": re.compile(r"\d{1,30}:[\w\-]{8,200}"),
}
"""Addresses that are a credential by their path alone -> the part of it that is secret."""

_RUN = re.compile(r"[A-Za-z0-9_\-]*")
_DOTTED_RUN = re.compile(r"[A-Za-z0-9_\-.]*")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=\-]*")
_NAME_CHARS = string.ascii_letters + string.digits + "_.-$"
_NAME = re.compile(r"[A-Za-z0-9_.\-$]*")
_AUTHORITY = re.compile(r"[^\s/?#\"'<>\\]*")
_ADDRESS = re.compile(r"[^\s\"'<>\\]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s\\]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,30}\Z")
_SEPARATOR = re.compile(r"(\\{0,4}[\"'])?(\s{0,8})(?:=>|:=|==?|:)(\s{0,8})(?:[rbuf]?(\\{0,4}[\"']))?")
_PAIR = re.compile(r"\\{0,4}[\"']\s{0,4},\s{0,4}b?(\\{0,4}[\"'])")
_FLAG = re.compile(r"[ \t]{1,4}(?!-)([\"'])?")
_VALUE = re.compile(r"[^\s\"'\\,;&<>(){}\[\]|`]*")
_SETTING = re.compile(r"[^\s\"'\\,;&<>]*")
"""A value right behind its `=`: `Password=a{b(c`."""
_BRACED = re.compile(r"\{[^{}\r\n]{1,200}\}")
"""`PWD={a;b}` of ODBC."""
_ELEMENT = re.compile(r"[^<>\r\n]*")
_LINE = re.compile(r"[^\"'\\\r\n]*")
_REST = re.compile(r"[^\r\n]*")
_QUOTED = {'"': re.compile(r'[^"\\\r\n]*'), "'": re.compile(r"[^'\\\r\n]*")}
_SPACE = re.compile(r"\s{1,8}")
_AUTH_SCHEME = re.compile(r"(bearer|basic|token|apikey|key|negotiate)\s{1,8}", re.IGNORECASE)
_PROSE = re.compile(r"(?:auth|token|scheme|your|or\b|and\b|of\b|the\b|with\b|certificate|instrument)\w*", re.IGNORECASE)
"""OpenAI's own 401: "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)"."""
_NO_VALUE = frozenset(
    ("none", "null", "nil", "true", "false", "undefined", "str", "string", "bytes", "int", "integer", "bool", "float")
    + ("number", "any", "optional", "required", "missing", "invalid", "expired", "self", "yes", "no", "not", "is")
)
_STRONG = re.compile("passw|passphrase|passcode|pwd|secret|api.?key|private.?key|authorization|cookie", re.IGNORECASE)
"""Names whose values are credentials in any form."""
_WEB = frozenset(("http", "https", "ws", "wss"))


class _Found(NamedTuple):
    start: int
    end: int
    text: str
    """What stands there instead."""


_Look = Callable[[str, int], "tuple[_Found | None, int]"]


def scrub_text(text: str, always: bool = False) -> str:
    """The text without what looks like a credential. `always`: keys also where scrubbing is switched off."""
    if len(text) < _SHORTEST or (secret_names.is_off() and not always):
        return text
    own = secret_names.own_hints()
    return _remembered(text, own) if len(text) <= _MAX_REMEMBERED else _scrub_text(text, own)


@lru_cache(maxsize=4096)
def _remembered(text: str, own: tuple[str, ...]) -> str:
    """The same of short texts: models, addresses and words come with every event."""
    return _scrub_text(text, own)


def _scrub_text(text: str, own: tuple[str, ...]) -> str:
    # What is taken out may leave something else before an `=`: until nothing more is found.
    for _ in range(_MAX_PASSES):
        shown = _scrub_once(text, own)
        if shown == text:
            break
        text = shown
    return text


def _scrub_once(text: str, own: tuple[str, ...]) -> str:
    pieces: list[str] = []
    kept = 0
    for start, end, instead in _found(text, own):
        if start >= kept:
            pieces += text[kept:start], instead
            kept = end
        elif end > kept:  # two ways to see one credential
            kept = end
    return "".join([*pieces, text[kept:]]) if pieces else text


@lru_cache(maxsize=1)
def _hints(own: tuple[str, ...]) -> list[tuple[str, _Look]]:
    """Each hint to search for, in lower case, and the function that examines it. `own`: names that a setting adds."""
    hints: list[tuple[str, _Look]] = [(prefix.lower(), _key_look(prefix, size)) for prefix, size in _KEYS.items()]
    hints += [("eyj", _look_at_jwt), ("bearer", _look_at_bearer), ("basic", _look_at_basic)]
    hints += [(hint, _path_look(hint, pattern)) for hint, pattern in _PATHS.items()]
    hints += [("://", _look_at_address), ("-----begin ", _look_at_private_key)]
    hints += [(hint, _look_at_parameter) for hint in _SIGNED]
    return hints + [(hint, _look_at_name) for hint in (*_NAMED, *own)]


def _found(text: str, own: tuple[str, ...]) -> Iterator[_Found]:
    """Credentials in the order of the text: sorted slice by slice, since none begins before its hint."""
    looked: dict[str, int] = {}
    """Hint -> the place up to which the text was examined for it."""
    later: list[_Found] = []
    for start in range(0, len(text), _SLICE):
        found = sorted([*later, *_found_in_slice(text, start, own, looked)])
        later = [one for one in found if one.start >= start + _SLICE]
        yield from found[: len(found) - len(later)]
    yield from later


def _found_in_slice(text: str, start: int, own: tuple[str, ...], looked: dict[str, int]) -> Iterator[_Found]:
    lowered = _lowered(text[start : start + _SLICE + _OVERLAP])
    for hint, look in _hints(own):
        at = lowered.find(hint)
        while 0 <= at < _SLICE:
            until = looked.get(hint, 0)
            if start + at >= until:
                found, until = look(text, start + at)
                looked[hint] = until
                if found is not None and text[found.start : found.end] != found.text:
                    yield found
            at = lowered.find(hint, max(at + 1, until - start))


def _lowered(text: str) -> str:
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.replace("\u0130", "I").lower()


# --- examine a hint: the credential there or None, and the place up to which the text was examined ---


def end_of_run(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where the run of characters that match `pattern`, a repeated class of characters, ends."""
    while True:
        match = pattern.match(text, start, start + _SLICE)
        if match is None or match.end() == start:
            return start
        start = match.end()


def _begins_word(text: str, at: int) -> bool:
    if at == 0 or not (text[at - 1].isascii() and text[at - 1].isalnum()):
        return True
    return at > 1 and text[at - 2] == "\\" and text[at - 1] in "bfnrt"  # a newline of JSON in a text


def _is_masked(text: str, end: int) -> bool:
    """Whether the author of the text has masked the key: what is left helps to find the right one."""
    return text.startswith("*", end)


def _key_look(prefix: str, size: int) -> _Look:
    pattern = _DOTTED_RUN if prefix.endswith(".") else _RUN

    def look(text: str, at: int) -> tuple[_Found | None, int]:
        if not text.startswith(prefix, at) or not _begins_word(text, at):
            return None, at + 1
        end = end_of_run(pattern, text, at + len(prefix))
        if end - at - len(prefix) < size or _is_masked(text, end):
            return None, end
        return _Found(at, end, REDACTED), end

    return look


def _path_look(hint: str, pattern: re.Pattern[str]) -> _Look:
    def look(text: str, at: int) -> tuple[_Found | None, int]:
        found = pattern.match(text, at + len(hint))
        return (_Found(found.start(), found.end(), REDACTED), found.end()) if found else (None, at + len(hint))

    return look


def _look_at_jwt(text: str, at: int) -> tuple[_Found | None, int]:
    if not text.startswith("eyJ", at) or not _begins_word(text, at):
        return None, at + 1
    end = end_of_run(_RUN, text, at)
    if end - at < 11 or not text.startswith(".", end):
        return None, end
    claims = end_of_run(_RUN, text, end + 1)
    if claims - end < 9:
        return None, claims
    end = end_of_run(_RUN, text, claims + 1) if text.startswith(".", claims) else claims
    return _Found(at, end, REDACTED), end


def _after_scheme(text: str, at: int, scheme: str) -> tuple[int, int]:
    """Begin and end of the token behind `Bearer `; 0 and where to go on where there is none."""
    space = _SPACE.match(text, at + len(scheme)) if _begins_word(text, at) else None
    if space is None:
        return 0, at + 1
    end = end_of_run(_TOKEN, text, space.end())
    if end - space.end() < 6 or _is_masked(text, end) or _PROSE.match(text, space.end(), end) is not None:
        return 0, max(end, at + 1)
    return space.end(), end


def _look_at_bearer(text: str, at: int) -> tuple[_Found | None, int]:
    begin, end = _after_scheme(text, at, "bearer")
    return (_Found(begin, end, REDACTED) if begin else None), end


def _look_at_basic(text: str, at: int) -> tuple[_Found | None, int]:
    begin, end = _after_scheme(text, at, "basic")
    if not begin:
        return None, end
    try:  # a word of many texts: only what is user and password
        is_login = b":" in base64.b64decode(text[begin : min(end, begin + 4_096)] + "==")
    except (binascii.Error, ValueError):
        is_login = False
    return (_Found(begin, end, REDACTED) if is_login else None), end


def _look_at_address(text: str, at: int) -> tuple[_Found | None, int]:
    """`scheme://user:password@host`: without the two."""
    begin = at + 3
    scheme = _SCHEME.search(text, max(0, at - 32), at)
    is_web = scheme is None or scheme[0].lower() in _WEB
    # In the address of a database a password is often written as it is, with all that is in it.
    end = end_of_run(_AUTHORITY if is_web else _ADDRESS, text, begin)
    login = text.rfind("@", begin, end)
    if login >= 0 and not is_web and text.find(":", begin, login) < 0:
        login = text.rfind("@", begin, end_of_run(_AUTHORITY, text, begin))
    return (_Found(begin, login + 1, "") if login >= 0 else None), max(end, begin)


def _look_at_private_key(text: str, at: int) -> tuple[_Found | None, int]:
    close = text.find("-----", at + 11, at + 80)
    if close < 0 or "PRIVATE KEY" not in text[at:close].upper():
        return None, at + 11
    begin = close + 5
    end = text.find("-----", begin, begin + _SLICE)
    if end >= 0 and text.startswith("-----END", end):
        tail = text.find("-----", end + 8, end + 80)
        end = tail if tail >= 0 else end
    else:
        end = end_of_run(_BASE64, text, begin)
        end -= len(text[begin:end]) - len(text[begin:end].rstrip())
    return _Found(begin, end, REDACTED if end > begin else ""), max(end, begin)


def _begin_of_name(text: str, at: int) -> int:
    before = text[max(0, at - _MAX_NAME) : at]
    return at - len(before) + len(before.rstrip(_NAME_CHARS))


def _look_at_parameter(text: str, at: int) -> tuple[_Found | None, int]:
    """`?X-Amz-Signature=...`, `&sig=...`."""
    equals = text.find("=", at, at + _OVERLAP)
    begin = at if text[at] in "?&" else _begin_of_name(text, at)
    if text[begin] not in "?&" and not (begin > 0 and text[begin - 1] in "?&;"):
        return None, equals + 1
    end = end_of_run(_SETTING, text, equals + 1)
    return (_Found(equals + 1, end, REDACTED) if end > equals + 1 else None), max(end, equals + 1)


def _look_at_name(text: str, at: int) -> tuple[_Found | None, int]:
    """`password=...`, `"api_key": "..."`, `--token ...`, `('Cookie', '...')`."""
    begin = _begin_of_name(text, at)
    end = _NAME.match(text, at, at + _MAX_NAME).end()  # type: ignore[union-attr]  # an empty one at least
    name = text[begin:end]
    if not is_secret(name) or text.startswith("://", begin - 3):
        return None, end
    if text.startswith(">", end) and text.startswith("<", begin - 1) and begin > 0:  # <password>...</password>
        stop = end_of_run(_ELEMENT, text, end + 1)
        return (_Found(end + 1, stop, REDACTED) if stop > end + 1 else None), stop
    separator = _SEPARATOR.match(text, end)
    spaced = False
    if separator is not None:
        quote, start = separator[4], separator.end()
        spaced = bool(separator[2] or separator[3])
    elif begin > 1 and text[begin - 1] in "\"'" and (pair := _PAIR.match(text, end)) is not None:
        before = text[max(0, begin - 6) : begin - 1].rstrip("\\b")
        if before[-1:] not in ("(", "["):
            return None, end
        quote, start = pair[1], pair.end()
    elif name.startswith("--") and (flag := _FLAG.match(text, end)) is not None:
        quote, start = flag[1], flag.end()
    else:
        return None, end
    is_header = not quote and text.find(":", end, start) >= 0
    start, stop = _value_at(text, start, quote, name, spaced, is_header)
    value = text[start:stop] if stop - start <= 100 else ""
    if stop <= start or value.lower() in _NO_VALUE or value.startswith(REDACTED) or set(value) == {"*"}:
        return None, max(stop, end)
    if not quote and spaced and not _is_likely(name, value, text[stop : stop + 1]):
        return None, end
    return _Found(start, stop, REDACTED), max(stop, end)


def _value_at(text: str, start: int, quote: str | None, name: str, spaced: bool, is_header: bool) -> tuple[int, int]:
    """Where the value of a name begins and ends."""
    words = secret_names.words_of(name)
    if quote:
        return start, _end_of_quoted(text, start, quote)
    if "authorization" in words:
        scheme = _AUTH_SCHEME.match(text, start)
        if scheme is None:
            digest = text[start : start + 6].lower() == "digest"  # whose parts stand in quotes
            pattern = _REST if digest else _LINE if is_header else _SETTING
            return start, end_of_run(pattern, text, start)
        if _PROSE.match(text, scheme.end()) is not None:
            return start, start
        end = end_of_run(_VALUE, text, scheme.end())
        return (start, start) if text.startswith("[", end) or _is_masked(text, end) else (scheme.end(), end)
    if "cookie" in words and is_header:
        return start, end_of_run(_LINE, text, start)
    braced = _BRACED.match(text, start)
    if braced is not None and not spaced and not is_header:
        return start, braced.end()
    return start, end_of_run(_VALUE if spaced else _SETTING, text, start)


def _end_of_quoted(text: str, start: int, quote: str) -> int:
    pattern = _QUOTED[quote[-1]]
    end = end_of_run(pattern, text, start)
    while len(quote) == 1 and text.startswith("\\", end) and end + 1 < len(text):
        end = end_of_run(pattern, text, end + 2)
    return min(end, len(text))


def _is_likely(name: str, value: str, following: str) -> bool:
    """Whether what stands behind `name: ` is a value, and no prose, type or call of a program."""
    if following in ("(", "["):
        return False
    if not value or _STRONG.search(name) is not None or secret_names.is_added(name):
        return True
    return not value.isdigit() and (any(map(str.isdigit, value)) or len(value) >= 20)


def finds(text: str) -> bool:
    """Whether scrubbing would change a text."""
    if len(text) <= _MAX_REMEMBERED:
        return scrub_text(text, always=True) != text
    own = secret_names.own_hints()
    looked: dict[str, int] = {}
    return any(
        next(_found_in_slice(text, start, own, looked), None) is not None for start in range(0, len(text), _SLICE)
    )
