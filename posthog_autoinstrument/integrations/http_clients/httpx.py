"""httpx (0.23 to 0.28) and httpx2: what goes out to a listed host tells of the open context.

At the transport, which sends each hop of a redirect by itself: see `requests` beside this. The OpenAI SDK's own
requests pass here too, and are as they were unless their host is listed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace
from ...propagation import http_headers


def patch(module: ModuleType) -> None:
    """The module of the transports has loaded."""
    replace(module.HTTPTransport, "handle_request", _handle_request)
    replace(module.AsyncHTTPTransport, "handle_async_request", _handle_async_request)


def _handle_request(original: Any) -> Any:
    def handle_request(self: Any, request: Any) -> Any:
        before = request.headers
        headers = http_headers.told(request.url, before)
        if headers is None:
            return original(self, request)
        request.headers = headers
        try:
            return original(self, request)
        finally:
            request.headers = before

    return handle_request


def _handle_async_request(original: Any) -> Any:
    async def handle_async_request(self: Any, request: Any) -> Any:
        before = request.headers
        headers = http_headers.told(request.url, before)
        if headers is None:
            return await original(self, request)
        request.headers = headers
        try:
            return await original(self, request)
        finally:
            request.headers = before

    return handle_async_request
