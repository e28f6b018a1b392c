"""aiohttp's client (3.8 to 3.14): requests to listed hosts have the open context in their headers.

Patched at its request object: each hop of a redirect has one of its own (see `requests` beside this).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace_all
from ...propagation import http_headers
from ...settings.config import Config


def instrument(module: ModuleType, settings: Config) -> bool:
    """`aiohttp.client_reqrep`."""
    hosts = settings.propagate_hosts

    def wrap(original: Any) -> Any:
        async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
            headers = http_headers.inject(self.url, self.headers, hosts)
            if headers is not None:
                self.headers = headers
            return await original(self, *args, **kwargs)

        return send

    return replace_all(module.ClientRequest, {"send": wrap, "_send": wrap})
