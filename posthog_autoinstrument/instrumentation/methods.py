"""Public SDK methods, wrapped with wrapt. A wrapper reads the user's context when its method is called, takes the
`posthog_*` arguments out, and leaves the open call to the transport in a ContextVar.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType, MethodType
from typing import TYPE_CHECKING, Any

from ..capture.calls import PENDING_CONTEXT, CallRecorder, OpenCall
from ..context.active_call import ACTIVE_CALL
from ..context.call_arguments import NAMES
from ..context.identity import Intent
from ..core import dependencies, guard, patching
from ..providers.provider import Endpoint, Methods
from .transport import reset

if TYPE_CHECKING:
    import wrapt
else:  # the program may have a `wrapt.py`
    wrapt = dependencies.load("wrapt")


class MethodWrapper(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A wrapped method of an SDK class. To `inspect`, `typing`, `mock` and `pickle` it looks like what it wraps.

    Bound as Python binds a function: wrapt's own bound wrapper (1.16 to 2.5) refuses to be pickled, copied and held by
    `weakref.WeakMethod`, and `Completions.create is Completions.create` is False with it.
    """

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce_ex__(self, protocol: Any) -> str:
        return str(self.__qualname__)  # by name, as every function is

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def patch_methods(cls: type, row: Methods, calls: CallRecorder) -> list[str]:
    """Wrap the methods of one SDK class, each once; the names of those that are wrapped afterwards."""
    patched = []
    for name in (*row.methods, *row.streams):
        original = cls.__dict__.get(name)
        if original is None or not callable(original):
            continue
        if not isinstance(original, MethodWrapper):
            # A method that the SDK marks deprecated warns at its caller's line, which would be ours.
            if hasattr(original, "__deprecated__"):
                continue
            setattr(cls, name, MethodWrapper(original, _wrapper(name, row, calls)))
        patched.append(name)
    return patched


def _wrapper(name: str, row: Methods, calls: CallRecorder) -> Callable[..., Any]:
    if name in row.streams:
        return functools.partial(_stream, calls)
    return (_async_call if row.is_async else _call)(calls, calls.endpoint(row.endpoint))


def _resource(instance: Any, args: tuple[Any, ...]) -> Any:
    """Whose method is called: bound by us it comes first among the arguments, bound by another wrapper as instance."""
    return args[0] if instance is None and args else instance


def _take_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The `posthog_*` arguments, taken out of `kwargs`."""
    return {name: kwargs.pop(name) for name in NAMES if name in kwargs}


def _call(calls: CallRecorder, endpoint: Endpoint) -> Callable[..., Any]:
    def method(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        overrides = None if NAMES.isdisjoint(kwargs) else _take_arguments(kwargs)
        call = calls.open(_resource(instance, args), endpoint, overrides, kwargs.get("model"))
        if call is None:
            return wrapped(*args, **kwargs)
        token = ACTIVE_CALL.set(call)
        returned = False
        try:
            result = wrapped(*args, **kwargs)
            returned = True
            return result
        finally:
            ACTIVE_CALL.reset(token)
            if not call.taken:
                _end_untaken(call, returned)
            elif not returned:
                _end_interrupted(call)

    return method


def _end_untaken(call: OpenCall, returned: bool) -> None:
    """The method returned without a request: a fake below it, or arguments that it refused."""
    if returned:
        call.finish("complete")
    else:
        call.fail(sys.exc_info()[1])


def _end_interrupted(call: OpenCall) -> None:
    """An exception leaves the method. The transport has ended the call then, unless the exception came just before."""
    if call.end is None and not call.unread:
        call.fail(sys.exc_info()[1])


def _async_call(calls: CallRecorder, endpoint: Endpoint) -> Callable[..., Any]:
    def method(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        overrides = None if NAMES.isdisjoint(kwargs) else _take_arguments(kwargs)
        call = calls.open(_resource(instance, args), endpoint, overrides, kwargs.get("model"))
        if call is None:
            return wrapped(*args, **kwargs)
        returned = False
        try:
            # Now, not when awaited: arguments that do not fit raise where the program called.
            awaitable = wrapped(*args, **kwargs)
            returned = True
        finally:
            if not returned:
                _end_untaken(call, False)
        if type(awaitable) is not CoroutineType:
            return _wrap_foreign(call, awaitable)
        driver = _drive(call, _Unstarted(awaitable).take)
        driver.__name__, driver.__qualname__ = awaitable.__name__, awaitable.__qualname__  # type: ignore[attr-defined]
        return driver

    return method


def _wrap_foreign(call: OpenCall, result: Any) -> Any:
    """A mock, or another tool that wraps the method below us, returned something else than a coroutine of Python's."""
    kind = type(result)
    if not hasattr(kind, "__await__") or hasattr(kind, "_asyncio_future_blocking"):
        _end_untaken(call, True)  # nothing that is awaited, or a future, whose work is done elsewhere
        return result
    return (ForeignCoroutine if isinstance(result, Coroutine) else ForeignAwaitable)(result, call)


class ForeignAwaitable(wrapt.ObjectProxy):  # type: ignore[type-arg]
    """An awaitable of another tool's class: to the program it is that object; awaited, it makes the call active."""

    def __init__(self, awaitable: Any, call: OpenCall) -> None:
        super().__init__(awaitable)
        self._self_call = call
        self._self_driver: Coroutine[Any, Any, Any] | None = None

    def _self_drive(self) -> Coroutine[Any, Any, Any]:
        # Not before it is awaited: a coroutine of ours that never is would be warned of.
        if self._self_driver is None:
            self._self_driver = _drive(self._self_call, lambda: self.__wrapped__)
        return self._self_driver

    def __await__(self) -> Any:
        return self._self_drive().__await__()


class ForeignCoroutine(ForeignAwaitable):
    """The same of one that asyncio may step through itself."""

    def send(self, value: Any) -> Any:
        return self._self_drive().send(value)

    def throw(self, *error: Any) -> Any:
        return self._self_drive().throw(*error)

    def close(self) -> None:
        if self._self_driver is None:
            self.__wrapped__.close()
        else:
            self._self_driver.close()


class _Unstarted:
    """Holds the SDK's coroutine until ours starts; closes it where ours is never awaited.

    Python warns "was never awaited" for each unstarted coroutine: without us for one, so with us for one too.
    """

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine: Coroutine[Any, Any, Any] | None = coroutine

    def take(self) -> Coroutine[Any, Any, Any]:
        coroutine = self.coroutine
        assert coroutine is not None
        self.coroutine = None
        return coroutine

    def __del__(self) -> None:
        if self.coroutine is not None:
            self.coroutine.close()


async def _drive(call: OpenCall, take: Callable[[], Awaitable[Any]]) -> Any:
    """Await the SDK's coroutine, which `take` gives, with the active call set in the frame that awaits it.

    Set by the plain function above, four creates under `asyncio.gather` would all be the last call.
    """
    token = ACTIVE_CALL.set(call)
    returned = False
    try:
        result = await take()
        returned = True
        return result
    finally:
        reset(ACTIVE_CALL, token)
        if not call.taken:
            _end_untaken(call, returned)
        elif not returned:
            _end_interrupted(call)


def _stream(calls: CallRecorder, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """`.stream()` returns a manager that calls `create` later (sync) or has called it already (async)."""
    overrides = _take_arguments(kwargs)
    if not (calls.active or calls.awaken()):
        return wrapped(*args, **kwargs)
    intent = guard.attempt("read the context", Intent, overrides)
    token = PENDING_CONTEXT.set(intent)
    try:
        manager = wrapped(*args, **kwargs)
    finally:
        PENDING_CONTEXT.reset(token)
    if intent is not None:
        guard.attempt("prepare a stream manager", _keep_context, calls, manager, intent)
    return manager


def _keep_context(calls: CallRecorder, manager: Any, intent: Intent) -> None:
    """Keep the intent beside the manager, for the `create` that its class calls on entering."""
    cls = type(manager)
    if patching.replace(cls, "__enter__", functools.partial(_tap_enter, calls)):
        calls.pending_contexts[manager] = intent


def _tap_enter(calls: CallRecorder, wrapped: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def __enter__(self: Any) -> Any:
        intent = calls.pending_contexts.pop(self, None)
        if intent is None:
            return wrapped(self)
        token = PENDING_CONTEXT.set(intent)
        try:
            return wrapped(self)
        finally:
            PENDING_CONTEXT.reset(token)

    return __enter__
