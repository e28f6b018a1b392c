"""Answers the client's requests inside its own process: no sockets, so that very many calls take minutes."""

from __future__ import annotations

import sys
from typing import Any

from model_server import completion


def http_client(openai: Any) -> Any:
    """An HTTP client for `openai.OpenAI(http_client=...)`, of the library that this version of openai uses."""
    http = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
    bodies = [completion(number).partition(b"\r\n\r\n")[2] for number in range(50)]
    asked = 0

    class Transport(http.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            nonlocal asked
            asked += 1
            headers = {"content-type": "application/json", "x-request-id": f"req_{asked}"}
            return http.Response(200, headers=headers, content=bodies[asked % 50])

    return http.Client(transport=Transport())
