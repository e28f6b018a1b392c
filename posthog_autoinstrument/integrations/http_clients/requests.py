"""requests (2.31 to 2.34): what goes out to a listed host tells of the open context.

At the adapter, which sends each hop of a redirect by itself: headers that were put into the request for one host would
go along to the next. They are in the request while it is sent, and not after.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core.patching import replace
from ...propagation import http_headers


def patch(module: ModuleType) -> None:
    """`requests.adapters` has loaded."""
    replace(module.HTTPAdapter, "send", _send)


def _send(original: Any) -> Any:
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        before = getattr(request, "headers", None)
        headers = http_headers.told(request.url, before) if before is not None else None
        if headers is None:
            return original(self, request, *args, **kwargs)
        request.headers = headers
        try:
            return original(self, request, *args, **kwargs)
        finally:
            request.headers = before

    return send
