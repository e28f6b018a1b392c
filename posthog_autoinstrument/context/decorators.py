"""Decorated functions of every kind run inside a block of context: plain ones, coroutines, generators of both sorts.

One implementation for `posthog_context` and `posthog_span`, which differ in their `Block`.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, TypeVar, cast

from .scope import CONTEXT, Context, close

F = TypeVar("F", bound=Callable[..., Any])


class Block:
    """One run of a decorated function. Its methods must not raise."""

    def __init__(self, opened: Context) -> None:
        self.opened = opened
        """What the body of the function runs in."""

    def item(self, value: Any) -> None:
        """The generator yielded this."""

    def returned(self, value: Any) -> None:
        """The function returned this."""

    def ended(self, error: BaseException | None) -> None:
        """It is over; `error` is what left it."""


Begin = Callable[[tuple[Any, ...], dict[str, Any]], Block]
"""Called with the arguments of a run, when it begins."""


def decorate(function: F, begin: Begin) -> F:
    """`function`, each call of which runs inside the block that `begin(args, kwargs)` opens."""
    if inspect.isasyncgenfunction(function):
        wrap = _async_generator
    elif inspect.isgeneratorfunction(function):
        wrap = _generator
    elif inspect.iscoroutinefunction(function):
        wrap = _coroutine
    else:
        wrap = _function
    return cast(F, functools.wraps(function)(wrap(function, begin)))


def _async_generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    async def in_block(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        block = begin(args, kwargs)
        context: Context | None = block.opened
        inner = function(*args, **kwargs)
        step: Callable[[], Any] = inner.__anext__
        done = False
        try:
            while True:
                before = CONTEXT.get()
                CONTEXT.set(context)
                try:
                    item = await step()
                except StopAsyncIteration:
                    done = True
                    return
                finally:
                    context = CONTEXT.get()  # blocks that the body has open over its `yield`
                    CONTEXT.set(before)
                block.item(item)
                with _Thrown() as thrown:
                    sent = yield item
                    step = functools.partial(inner.asend, sent)
                if thrown.error is not None:
                    # What the consumer throws in (`asynccontextmanager` does) is the generator's to handle.
                    step = functools.partial(inner.athrow, thrown.error)
        finally:
            error = None if done else sys.exc_info()[1]
            before = CONTEXT.get()
            CONTEXT.set(context)
            closed = False
            try:
                await inner.aclose()  # its clean-up is inside the block, too
                closed = True
            finally:
                CONTEXT.set(before)
                block.ended(error if closed else sys.exc_info()[1])
                del error  # it holds this frame

    return in_block


def _generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    def in_block(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        block = begin(args, kwargs)
        done = False
        try:
            result = yield from _Steps(block, function(*args, **kwargs))
            done = True
            return result
        finally:
            block.ended(None if done else sys.exc_info()[1])

    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return types.coroutine(in_block)  # one that is awaited
    return in_block


def _coroutine(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    async def in_block(*args: Any, **kwargs: Any) -> Any:
        return await _awaited(begin(args, kwargs), lambda: function(*args, **kwargs))

    return in_block


def _function(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    def in_block(*args: Any, **kwargs: Any) -> Any:
        block = begin(args, kwargs)
        CONTEXT.set(block.opened)
        done = lazy = False
        try:
            result = function(*args, **kwargs)
            done = True
            if lazy := isinstance(result, types.CoroutineType):  # its body has yet to run
                driver: Any = _awaited(block, lambda: result)
                driver.__name__, driver.__qualname__ = result.__name__, result.__qualname__
                return driver
            block.returned(result)
            return result
        finally:
            close(block.opened.scope)
            if not lazy:
                block.ended(None if done else sys.exc_info()[1])

    return in_block


async def _awaited(block: Block, make: Callable[[], Awaitable[Any]]) -> Any:
    """Await what `make()` returns inside the block."""
    CONTEXT.set(block.opened)
    done = False
    try:
        result = await make()
        done = True
        block.returned(result)
        return result
    finally:
        close(block.opened.scope)
        block.ended(None if done else sys.exc_info()[1])


class _Thrown:
    """Catches what is thrown into a generator at its `yield`, for another generator; closing is not caught."""

    error: BaseException | None = None

    def __enter__(self) -> _Thrown:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, GeneratorExit):
            return False
        self.error = error
        return True


class _Steps(Generator[Any, Any, Any]):
    """A generator whose body runs inside a context while its consumer, between two steps, does not."""

    def __init__(self, block: Block, inner: Generator[Any, Any, Any]) -> None:
        self._block = block
        self._context: Context | None = block.opened
        self._inner = inner

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        before = CONTEXT.get()
        CONTEXT.set(self._context)
        try:
            return step(*args)
        finally:
            self._context = CONTEXT.get()  # blocks that the body has open over its `yield`
            CONTEXT.set(before)

    def send(self, value: Any) -> Any:
        item = self._step(self._inner.send, value)
        self._block.item(item)
        return item

    def throw(self, *error: Any) -> Any:
        item = self._step(self._inner.throw, *error)
        self._block.item(item)
        return item

    def close(self) -> None:
        self._step(self._inner.close)
