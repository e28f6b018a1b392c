"""aiohttp's client (3.8 to 3.14): what goes out to a listed host tells of the open context.

At its request object, of which each hop of a redirect has one of its own: see `requests` beside this.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace
from ...propagation import http_headers


def patch(module: ModuleType) -> None:
    """`aiohttp.client_reqrep` has loaded."""
    for name in ("send", "_send"):
        replace(module.ClientRequest, name, _send)


def _send(original: Any) -> Any:
    async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        headers = http_headers.told(self.url, self.headers)
        if headers is not None:
            self.headers = headers
        return await original(self, *args, **kwargs)

    return send
