"""Who may talk to the page: the browser of this machine's user, and no web site that this browser has open.

The server listens on loopback, but any program of this machine and any web site in the browser can reach that. So:

- The `Host` must be one of our own names. A site whose name was pointed at 127.0.0.1 (DNS rebinding) sends its own.
- Each request carries a random secret: once in the address that the terminal shows, from then on in a cookie that
  scripts cannot read and that no request from another site carries (`HttpOnly`, `SameSite=Strict`).
- What changes something is a POST of our own page: its `Origin` is ours, and its form holds a second secret.
- What a page may load and run is its own files: strings of prompts that slip through as HTML could still do nothing.

Cookies know no ports: the cookie's name holds it, so that two viewers do not log each other out. That also means that
another server on this machine's 127.0.0.1 gets the cookie if the browser visits it: who runs there is trusted.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_FORM_BYTES = 64 * 1024

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": with that, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_CLOSED = """\
This page needs the address that `posthog-instrument view` has printed, with its token:
open that one, or start `posthog-instrument view` again.
"""


class AccessControl:
    """The ASGI app around the pages. `token` is what the printed address holds; `port` is the one we listen on."""

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app = app
        self._token = token
        self._cookie = f"posthog_instrument_view_{port}"
        self._session = _derived(token, "session")
        self._names = frozenset(f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]"))
        self.form_secret = _derived(token, "form")
        self.open = 0
        """Requests that are being answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no WebSockets; the server closes them
        answer = self._refusal(scope)
        self.open += 1
        try:
            await (answer or self._app)(scope, receive, _with_headers(send))
        finally:
            self.open -= 1

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if host not in self._names:
            return PlainTextResponse("This host name is not one of the page's own.\n", 421)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in query if name == "token"), None)
        if given is not None and scope["method"] == "GET":
            if not _same(given, self._token):
                return PlainTextResponse(_CLOSED, 403)
            return self._welcome(scope["path"], [pair for pair in query if pair[0] != "token"])
        if not _same(cookie_parser(headers.get("cookie", "")).get(self._cookie, ""), self._session):
            return PlainTextResponse(_CLOSED, 403)
        if scope["method"] not in ("GET", "HEAD"):
            return self._refused_change(headers, host)
        return None

    def _welcome(self, path: str, query: list[tuple[str, str]]) -> Response:
        """The cookie, and the same address without the token: it must not stay in the address bar."""
        # One slash: an address that begins with two is another host's.
        answer = RedirectResponse("/" + path.lstrip("/\\") + (f"?{urlencode(query)}" if query else ""), 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict")
        return answer

    def _refused_change(self, headers: Headers, host: str) -> Response | None:
        if headers.get("origin", "").lower() != f"http://{host}":
            return PlainTextResponse("This request did not come from the page itself.\n", 403)
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return PlainTextResponse("This request does not say how long it is.\n", 411)
        if len(length) > 9 or int(length) > MAX_FORM_BYTES:
            return PlainTextResponse("This request is too large.\n", 413)
        return None

    def is_own_form(self, form: dict[str, str]) -> bool:
        """Whether a form was made by our page: it holds the secret that no other site can read."""
        return _same(form.get("secret", ""), self.form_secret)


def _derived(token: str, purpose: str) -> str:
    """A secret of its own for each purpose: who learns one has not the others."""
    return hmac.new(token.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
