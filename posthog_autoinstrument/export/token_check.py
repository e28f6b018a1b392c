"""Whether a project has a token, asked of PostHog without sending an event.

Capture answers 200 to any token and drops the events of one that no project of its region has (PostHog/posthog#54670,
#52401); feature flags and the configuration of posthog-js look it up.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from . import http_session

_FLAGS_PATH = "/flags/?v=2"
_CONFIG_PATH = "/array/{}/config.js"
_ASKS_NOTHING = {"distinct_id": "posthog-autoinstrument doctor", "disable_flags": True}
"""With `disable_flags` no flag is evaluated, and the request is not billed (PostHog's `rust/feature-flags`,
`handler/mod.rs`: the token is looked up before)."""


class TokenCheck(NamedTuple):
    """`known`: whether a project has the token; None where that could not be found out, for the reason in `why`."""

    known: bool | None
    why: str = ""


def check_token(host: str, token: str, timeout_s: float = 5.0) -> TokenCheck:
    """Ask `host` about a token. Never raises."""
    try:
        requests = http_session.requests()
    except ImportError as error:
        return TokenCheck(None, f"the requests package cannot be imported ({type(error).__name__})")
    session = http_session.open_session()
    options = {"timeout": timeout_s, "allow_redirects": False, "stream": True}
    try:
        body = json.dumps({"api_key": token, "token": token, **_ASKS_NOTHING})
        headers = {"Content-Type": "application/json"}
        asked = session.post(host + _FLAGS_PATH, data=body, headers=headers, **options)
        if asked.status_code == 401:
            return TokenCheck(False, "/flags/ answers 401")
        if asked.status_code == 200 and b'"flags"' in _head(asked):
            return TokenCheck(True, "/flags/ answers 200")
        asked = session.get(host + _CONFIG_PATH.format(quote(token, safe="")), **options)
        if asked.status_code == 200 and not _head(asked).lstrip().startswith(b"<"):
            return TokenCheck(True, "/array/ answers 200")
        # A 404 may be a capture service alone, or a proxy that lets events through only.
        return TokenCheck(None, f"{urlsplit(host).hostname} serves neither feature flags nor configurations")
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        return TokenCheck(None, f"{urlsplit(host).hostname} was not reached ({type(error).__name__})")
    finally:
        session.close()


def _head(response: Any) -> bytes:
    return bytes(response.raw.read(65_536, decode_content=True) or b"")
