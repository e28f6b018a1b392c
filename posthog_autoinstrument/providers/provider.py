"""One SDK as data: its endpoints and who reads them, its methods, its transport and its WebSocket connections."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..core import forks, package

if TYPE_CHECKING:
    from .generation import Generation

Reader = Callable[["bytes | None", "bytes | None", "Sequence[str] | None"], "Generation"]
"""`(request body, response body, texts of the SSE events) -> Generation`. Pure; runs on the flusher's thread.

Any of the three may be None (a request that was not seen, an answer that never came, a call that did not stream), cut
short or not JSON at all; a reader reads what it can and does not raise for bad content. What is sent as no text is
described in JSON: a form as an object of its fields, in which a file is `{"type": "file", "filename", "content_type",
"bytes"}`; an answer of pictures or sound as `{"content_type", "bytes"}`."""

EDGE_BYTES = 4096
"""Of a bulky answer the host's thread keeps so many bytes at each end; members are looked for there only."""


def gap(size: int) -> str:
    """What stands in a bulky answer for its middle of `size` bytes or characters."""
    return f"\n...{size} left out...\n"


def deferred(path: str, name: str) -> Callable[..., Any]:
    """The function `name` of the module at `path` below our package, imported when it is first called, on the flusher's
    thread.

    `import openai` waits for what a provider's own file imports.
    """
    found: list[Callable[..., Any]] = []

    def call(*args: Any) -> Any:
        if not found:
            with forks.IMPORTS:
                found.append(getattr(package.load(path), name))
        return found[0](*args)

    return call


# Each method that `dataclass` writes is compiled at start-up: `__init__` alone is.


@dataclass(eq=False, repr=False)
class Endpoint:
    """A path of the provider's HTTP API that is captured, and who reads it."""

    name: str
    path: str
    """The path after the client's base URL, as the SDK gives it to its transport: `/chat/completions`. `{}` stands for
    one id: `/responses/{}`."""
    kind: Literal["generation", "embedding", "span", "poll"]
    """What the event is. `poll`: the answer is the present state of an earlier call that runs in the background; it
    makes no event of its own, unless it streams the answer to a call of another process."""
    read: Reader
    bulky: bool = False
    """The answer is mostly vectors, pictures or sound: only its head and tail are kept on the host's thread."""
    method: str = "POST"
    transport_only: tuple[str, ...] = ()
    """Methods that request it and are not patched, for the documents: deprecated ones, whose warning would point at
    our file, and those that only ask how a call stands."""
    asks_usage: bool = False
    """Streams of it report token counts only when asked to by `stream_options.include_usage`."""


@dataclass(eq=False, repr=False)
class Methods:
    """Methods of one SDK class that start a call.

    `module` is where the class is defined, `cls` the synchronous or asynchronous class, `methods` the names to wrap.
    `streams` names the methods that return a stream manager and call another method later.
    """

    module: str
    cls: str
    endpoint: str
    methods: tuple[str, ...]
    is_async: bool = False
    streams: tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class Transport:
    """The classes of the SDK's transport that are patched: the clients' base classes and the streams."""

    base_module: str
    sync_client: str
    async_client: str
    streaming_module: str
    sync_stream: str
    async_stream: str


@dataclass(eq=False, repr=False)
class WebSocket:
    """A class of WebSocket connections on which a program asks for answers.

    `endpoint` reads one response: of the `response.create` message where responses are asked for and answered
    `in_turn`, else of a JSON array of the messages that made the conversation, `response.create` last.
    """

    module: str
    cls: str
    endpoint: Endpoint
    in_turn: bool


@dataclass(eq=False, repr=False)
class Provider:
    """One SDK: everything the agent knows about it."""

    name: str
    """Its name in events, unless the client or its base URL gives another."""
    package: str
    """The top-level package whose import loads the agent."""
    transport: Transport
    methods: tuple[Methods, ...]
    endpoints: tuple[Endpoint, ...]
    vendor_of: Callable[[str, str, Mapping[str, str], Generation], str]
    """`(client class name, base URL, answer's headers, generation) -> provider name` for events. Pure."""
    response_headers: tuple[str, ...] = ()
    """Headers of answers, in lower case, that `vendor_of` looks at."""
    usage_hosts: frozenset[str] = frozenset()
    """Hosts known to take `stream_options.include_usage` on the endpoints that ask for it."""
    websockets: tuple[WebSocket, ...] = ()
    versions: tuple[str, str, str] | None = None
    """Of the package: the first whose calls are captured, the first of which all are, the first that is not tested."""

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint called `name`, or None."""
        return self._by_name.get(name)

    @functools.cached_property
    def _by_name(self) -> dict[str, Endpoint]:
        known = (*self.endpoints, *(socket.endpoint for socket in self.websockets))
        return {endpoint.name: endpoint for endpoint in reversed(known)}
