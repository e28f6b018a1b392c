"""Access control of the page: only the browser of this machine's user, and no web site that is open in it.

The server listens on loopback, which any program on this machine and any web site in the browser can reach. So:

- The `Host` must be one of our names. A site whose name resolves to 127.0.0.1 (DNS rebinding) sends its own name.
- Each request carries a random secret: first in the URL that the terminal shows, then in a cookie that scripts cannot
  read and that requests from other sites do not carry (`HttpOnly`, `SameSite=Strict`).
- Changes need a POST from our own page: its `Origin` is ours, and its form holds a second secret.
- A page may load and run only its own files: a prompt that got through as HTML could still do nothing.

Cookies do not depend on the port, so the cookie's name contains it: two viewers do not log each other out. Another
server on 127.0.0.1 gets the cookie if the browser visits it: programs on this machine are trusted.
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
This page needs the address with the token that `posthog-instrument view` printed: open that
one, or run `posthog-instrument view` again.
"""


class AccessControl:
    """The ASGI application around the pages. `token` is in the printed URL; `port` is the one we listen on."""

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
        """Pass the request on, or refuse it."""
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
            return PlainTextResponse("This host name is not accepted.\n", 421)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for name, value in query if name == "token"), None)
        if given is not None and scope["method"] == "GET":
            if not _same(given, self._token):
                return PlainTextResponse(_CLOSED, 403)
            return self._redirect_with_cookie(scope["path"], [pair for pair in query if pair[0] != "token"])
        if not _same(cookie_parser(headers.get("cookie", "")).get(self._cookie, ""), self._session):
            return PlainTextResponse(_CLOSED, 403)
        if scope["method"] not in ("GET", "HEAD"):
            return self._refused_change(headers, host)
        return None

    def _redirect_with_cookie(self, path: str, query: list[tuple[str, str]]) -> Response:
        """Set the cookie and redirect to the URL without the token, which must not stay in the address bar."""
        # One slash: an address that begins with two is another host's.
        answer = RedirectResponse("/" + path.lstrip("/\\") + (f"?{urlencode(query)}" if query else ""), 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict")
        return answer

    def _refused_change(self, headers: Headers, host: str) -> Response | None:
        if headers.get("origin", "").lower() != f"http://{host}":
            return PlainTextResponse("This request did not come from the page itself.\n", 403)
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return PlainTextResponse("This request has no Content-Length.\n", 411)
        if len(length) > 9 or int(length) > MAX_FORM_BYTES:
            return PlainTextResponse("This request is too large.\n", 413)
        return None

    def is_own_form(self, form: dict[str, str]) -> bool:
        """Whether a form is from our page: it holds the secret that no other site can read."""
        return _same(form.get("secret", ""), self.form_secret)


def _derived(token: str, purpose: str) -> str:
    """A separate secret for each purpose: one does not reveal the others."""
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
