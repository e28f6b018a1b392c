"""Which module of an SDK is patched when it loads: from a provider's data to patches in place."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType

from ..capture.calls import CallRecorder
from ..core import guard
from ..providers.provider import Provider
from . import methods, transport
from .stream_usage import StreamUsage

WEBSOCKET_METHODS = ("__init__", "recv_bytes", "close", "_flush_send_queue")
"""What is patched of a connection class. The last, in 2.54 and later, sends first through a connection made anew."""


@dataclass(eq=False, repr=False)
class PatchPoint:
    """One method that should be patched, as `doctor` shows it."""

    module: str
    cls: str
    method: str
    state: str = "not loaded"
    """not loaded, matched, or not matched (the module is there, the method is not)."""


@dataclass(eq=False, repr=False)
class Patcher:
    """The patch points of one provider. Made by the agent; `loaded` is called for each module when it has loaded."""

    provider: Provider
    calls: CallRecorder
    usage: StreamUsage
    points: list[PatchPoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        classes = self.provider.transport
        for cls in (classes.sync_client, classes.async_client):
            self.points += [PatchPoint(classes.base_module, cls, name) for name in transport.CLIENT_METHODS]
        for cls in (classes.sync_stream, classes.async_stream):
            self.points.append(PatchPoint(classes.streaming_module, cls, "_iter_events"))
        for row in self.provider.methods:
            self.points += [PatchPoint(row.module, row.cls, name) for name in (*row.methods, *row.streams)]
        for socket in self.provider.websockets:
            self.points += [PatchPoint(socket.module, socket.cls, name) for name in WEBSOCKET_METHODS]

    def modules(self) -> list[str]:
        """The modules to be watched, each once."""
        return list(dict.fromkeys(point.module for point in self.points))

    def loaded(self, name: str) -> None:
        """Patch what stands in the module `name`, which has just loaded. Idempotent, never raises."""
        module = sys.modules.get(name)
        if module is not None:
            for cls, patch in self._patches(name):
                guard.attempt(f"patch {name}.{cls}", self._apply, module, cls, patch)

    def _patches(self, name: str) -> Iterator[tuple[str, Callable[[type], list[str]]]]:
        """What to patch in a module: a class, and what returns those of its methods that are patched afterwards."""
        classes = self.provider.transport
        if name == classes.base_module:
            for cls in (classes.sync_client, classes.async_client):
                yield cls, lambda found: transport.patch_client(found, self.calls, self.usage)
        if name == classes.streaming_module:
            yield classes.sync_stream, lambda found: transport.patch_stream(found, is_async=False)
            yield classes.async_stream, lambda found: transport.patch_stream(found, is_async=True)
        for row in self.provider.methods:
            if row.module == name:
                yield row.cls, lambda found, row=row: methods.patch_methods(found, row, self.calls)  # type: ignore[misc]
        for socket in self.provider.websockets:
            if socket.module == name:
                from . import websockets  # most programs open no WebSocket

                yield socket.cls, functools.partial(websockets.patch_websocket, socket=socket, calls=self.calls)

    def _apply(self, module: ModuleType, cls: str, patch: Callable[[type], list[str]]) -> None:
        # The module's own dict: newer versions resolve names lazily, and asking would import what the program has not.
        found = vars(module).get(cls)
        patched = patch(found) if isinstance(found, type) else []
        for point in self.points:
            if point.module == module.__name__ and point.cls == cls:
                # A class may be in several rows, each with its own methods.
                if point.method in patched:
                    point.state = "matched"
                elif point.state == "not loaded":
                    point.state = "not matched"
