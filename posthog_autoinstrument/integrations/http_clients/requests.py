"""requests (2.31 to 2.34): requests to listed hosts have the open context in their headers.

Patched at the adapter, which sends each hop of a redirect by itself: headers that were added for one host would be sent
to the next one, too. They are in the request only while it is sent.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace
from ...propagation.http_headers import Replaced
from ...settings.config import Config


def instrument(module: ModuleType, settings: Config) -> bool:
    """`requests.adapters`."""
    hosts = settings.propagate_hosts

    def wrap(original: Any) -> Any:
        def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            with Replaced(request, hosts):
                return original(self, request, *args, **kwargs)

        return send

    return replace(module.HTTPAdapter, "send", wrap)
