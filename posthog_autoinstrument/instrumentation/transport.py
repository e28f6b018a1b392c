"""The patched transport of the SDK: every logical call passes it exactly once, retries inside.

`SyncAPIClient.request` and `AsyncAPIClient.request` are called once per logical call in openai 1.0.0 to 3.54.0, for
every endpoint and shape; `_build_request` makes what is sent, `_process_response` sees the HTTP response of every
shape, `Stream._iter_events` the decoded events of every stream. Plain functions, not proxies: they cost 0.2 us instead
of 0.65, pickle and copy.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import CodeType, FrameType, FunctionType
from typing import Any, cast

from ..capture.calls import CURRENT, CallRecorder, OpenCall
from ..core import guard, patching
from . import streams
from .stream_usage import StreamUsage

CLIENT_METHODS = ("request", "_build_request", "_process_response")


def patch_client(cls: type, calls: CallRecorder, usage: StreamUsage) -> list[str]:
    """Tap a client base class; the names of the methods that carry the tap afterwards."""
    tap_request = _tap_async_request if _is_async(cls, "request") else _tap_request
    methods: dict[str, Callable[..., Any]] = {
        "request": functools.partial(tap_request, calls=calls, usage=usage),
        "_build_request": _tap_build,
        "_process_response": _tap_async_response if _is_async(cls, "_process_response") else _tap_response,
    }
    return [name for name, tap in methods.items() if patch(cls, name, tap)]


def patch_stream(cls: type, is_async: bool) -> list[str]:
    """Tap a stream class; the names of the methods that carry the tap afterwards."""
    reader = getattr(cls, "__stream__", None)
    if reader is not None and not _closes(reader):
        patch(cls, "__stream__", streams.tap_async_reader if is_async else streams.tap_reader)
    tap = streams.tap_async_events if is_async else streams.tap_events
    return ["_iter_events"] if patch(cls, "_iter_events", tap) else []


def _closes(reader: Any) -> bool:
    """Whether `Stream.__stream__` closes the response when it ends in any way. Before openai 2.9 it does not (2.8 only
    at its end), and an error event inside the stream would end the call only when its exception is freed."""
    code = getattr(inspect.unwrap(reader), "__code__", None)
    if code is None:
        return True
    # Of a `finally` the compiler makes two copies: for the end, and for an exception (CPython 3.10 to 3.13).
    return sum(one.argval in ("close", "aclose") for one in dis.get_instructions(code)) > 1


def patch(cls: type, name: str, tap: Callable[[Any], Any]) -> bool:
    """Replace `cls.name` by `tap` of it, once. Returns whether the tap is in place."""
    # `_process_response` of openai 1.0 is inherited by both clients: it is replaced on the subclass.
    return patching.replace(cls, name, tap, inherited=True)


def _is_async(cls: type, name: str) -> bool:
    return inspect.iscoroutinefunction(getattr(cls, name, None))


def _tap_request(wrapped: Callable[..., Any], calls: CallRecorder, usage: StreamUsage) -> Callable[..., Any]:
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = calls.call_of_request(self, args[1] if len(args) > 1 else kwargs.get("options"))
        if call is None and CURRENT.get() is None:
            return wrapped(self, *args, **kwargs)
        # Also for a request of no interest inside another (a token provider's): its answer is not the outer call's.
        token = CURRENT.set(call)
        if call is not None and call.endpoint.asks_usage and kwargs.get("stream"):
            args, kwargs = _asking(usage, call, self, args, kwargs)
        returned = False
        try:
            result = wrapped(self, *args, **kwargs)
            returned = True
            return result
        finally:
            CURRENT.reset(token)
            if call is not None:
                if not returned:
                    _failed(call, usage)
                elif not call.unread:
                    call.finish("complete")

    _requests.add(cast(FunctionType, request).__code__)
    return request


def _tap_async_request(wrapped: Callable[..., Any], calls: CallRecorder, usage: StreamUsage) -> Callable[..., Any]:
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = calls.call_of_request(self, args[1] if len(args) > 1 else kwargs.get("options"))
        if call is None and CURRENT.get() is None:
            return await wrapped(self, *args, **kwargs)
        token = CURRENT.set(call)
        outer = token.old_value
        if isinstance(outer, OpenCall) and call is not None:
            outer.shared = call.shared = True  # nested, or two tasks in one Context (`create_task(context=)`)
        if call is not None and call.endpoint.asks_usage and kwargs.get("stream"):
            args, kwargs = _asking(usage, call, self, args, kwargs)
        returned = False
        try:
            result = await wrapped(self, *args, **kwargs)
            returned = True
            return result
        finally:
            reset(CURRENT, token)
            if call is not None:
                if not returned:
                    _failed(call, usage)
                elif not call.unread:
                    call.finish("complete")

    _requests.add(cast(FunctionType, request).__code__)
    return request


def _current() -> OpenCall | None:
    """The call whose request this frame works on.

    For those where the ContextVar does not help: tasks that share a Context set it in turn. Our `request`, below whose
    frame this one runs, has it.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES_TO_REQUEST):
        if frame is None:
            break
        if frame.f_code in _requests:
            found: OpenCall | None = frame.f_locals.get("call")
            return found
        frame = frame.f_back
    return None


FRAMES_TO_REQUEST = 12
"""Between our `request` and what it calls: 2 in openai 3, 3 more a retry in versions that retry by recursion."""
_requests: set[CodeType] = set()
"""Our `request` functions, sync and async."""


def reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    """Reset a context variable in a coroutine. One closed by the garbage collector runs in a foreign Context, where
    there is nothing to reset and `ContextVar.reset` raises ValueError."""
    try:
        variable.reset(token)
    except ValueError:
        pass


def _asking(
    usage: StreamUsage, call: OpenCall, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `request`, with options that ask for the stream's token counts where they may."""
    positional = len(args) > 1
    asking = usage.ask(call, client, args[1] if positional else kwargs.get("options"), kwargs)
    if asking is None:
        return args, kwargs
    if positional:
        return (args[0], asking, *args[2:]), kwargs
    return args, {**kwargs, "options": asking}


def _failed(call: OpenCall, usage: StreamUsage) -> None:
    """An exception is leaving the SDK's request."""
    call.fail(sys.exc_info()[1])
    if call.usage_host:
        usage.refused(call)


def _tap_build(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """What is sent is known before it is: a call that is cancelled or interrupted has no other trace of it."""

    def _build_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = wrapped(self, *args, **kwargs)
        call = CURRENT.get()
        if call is None or call.shared:
            call = _current()
        if call is not None:
            _take_request(call, request)
        return request

    return _build_request


@guard.guarded("read a request", None)
def _take_request(call: OpenCall, request: Any) -> None:
    call.set_request(request)


def _tap_response(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    def _process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = CURRENT.get()
        if call is None or call.shared:
            call = _current()
        if call is not None:
            _take_response(call, kwargs)
        return wrapped(self, *args, **kwargs)

    return _process_response


def _tap_async_response(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    async def _process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = CURRENT.get()
        if call is None or call.shared:
            call = _current()
        if call is not None:
            _take_response(call, kwargs)
        return await wrapped(self, *args, **kwargs)

    return _process_response


@guard.guarded("read an answer", None)
def _take_response(call: OpenCall, kwargs: dict[str, Any]) -> None:
    response = kwargs["response"]
    stream = bool(kwargs.get("stream"))
    in_memory = call.set_response(response, stream)
    # A streamed answer is watched even if it is in memory (a mock transport): its events find the call by the tap.
    if stream or not in_memory:
        call.unread = True
        streams.watch(response, call)
