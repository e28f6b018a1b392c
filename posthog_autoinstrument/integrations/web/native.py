"""Frameworks that are their own servers (aiohttp.web, Tornado, Sanic): one reader of their requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from ...core import guard
from ...core.patching import replace
from . import asgi
from .request import DISTINCT_ID, SESSION_ID, WINDOW_ID, Received, Request, Web, current, open_at_app, open_context


class Native(Received):
    """A request as a framework describes it: `values(name)` are the decoded values of a header."""

    def __init__(
        self,
        source: Any,
        values: Callable[[str], list[str]],
        encoding: str,
        method: str | None,
        path: str | None,
        scheme: str,
    ) -> None:
        self.source: Any = source
        self.method = method
        self.path = unquote(path, errors="replace") if path else path
        self.scheme = scheme
        self._encoding = encoding
        self._headers = {name: values(name) for name in (DISTINCT_ID, SESSION_ID, WINDOW_ID)}
        self._others = {name: values(name) for name in ("traceparent", "baggage", "host")}

    def headers(self) -> Mapping[str, list[bytes]]:
        return {
            name: [value.encode(self._encoding, "surrogateescape") for value in values]
            for name, values in self._headers.items()
        }

    def get(self, name: str) -> bytes | str | None:
        return next(iter(self._others.get(name, ())), None)

    def host_and_port(self) -> str | None:
        return next(iter(self._others["host"]), None)


def scheme_of(transport: Any) -> str:
    """`https` where the connection is encrypted."""
    return "https" if transport is not None and transport.get_extra_info("sslcontext") else "http"


def replace_answer(
    cls: type,
    name: str,
    web: Web,
    read: Callable[..., Native],
    see: Callable[..., None],
    at_server: bool = True,
) -> bool:
    """Replace the coroutine function in which a class answers a request: `read` and `see` get its arguments.

    `at_server` is False where another server may have opened the context.
    """

    def begin(*args: Any) -> Any:
        received = read(*args)
        request = open_context(Request(web, received), at_server=True) if at_server else open_at_app(web, received)
        around: Any = request.scope if request is not None else current()
        see(around, *args)
        return request

    def wrap(answer: Callable[..., Any]) -> Callable[..., Any]:
        async def answer_in_context(*args: Any, **kwargs: Any) -> Any:
            request = guard.attempt("open a request", begin, *args)
            return await asgi.run(request, answer, *args, **kwargs)

        return answer_in_context

    return replace(cls, name, wrap)
