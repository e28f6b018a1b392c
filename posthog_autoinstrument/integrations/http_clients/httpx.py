"""httpx (0.23 to 0.28) and httpx2: requests to listed hosts have the open context in their headers.

Patched at the transport, which sends each hop of a redirect by itself (see `requests` beside this). The OpenAI SDK's
own requests pass here too, and are not changed unless their host is listed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace
from ...propagation.http_headers import Replaced
from ...settings.config import Config


def instrument(module: ModuleType, settings: Config) -> bool:
    """The module of the transports."""
    hosts = settings.propagate_hosts

    def wrap(original: Any) -> Any:
        def handle_request(self: Any, request: Any) -> Any:
            with Replaced(request, hosts):
                return original(self, request)

        return handle_request

    def wrap_async(original: Any) -> Any:
        async def handle_async_request(self: Any, request: Any) -> Any:
            with Replaced(request, hosts):
                return await original(self, request)

        return handle_async_request

    return any(
        [
            replace(module.HTTPTransport, "handle_request", wrap),
            replace(module.AsyncHTTPTransport, "handle_async_request", wrap_async),
        ]
    )
