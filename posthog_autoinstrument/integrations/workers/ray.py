"""Ray ends its workers by SIGKILL, or they notice that their raylet is gone: no exit hook, no signal, no time
(`ray.shutdown()` gives them 0.1 s). So what a task or a method of an actor has captured is delivered before its result
is returned, within the exit timeout. Where PostHog did not answer in that time, no other task waits for it.

Workers of Ray (2.9 to 2.60) look up what they execute by `FunctionActorManager.get_execution_info`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType, ModuleType
from typing import Any

from ...core import guard, package, patching
from ...core.patching import replace
from ...settings.config import Config

PATCH = "ray"
LOOK_S = 0.01
"""How often a coroutine checks whether its events are delivered: it must not block the event loop."""


def instrument(module: ModuleType, settings: Config) -> bool:
    """`ray._private.function_manager`."""
    return replace(vars(module).get("FunctionActorManager"), "get_execution_info", _get_execution_info)


def _get_execution_info(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_execution_info(*args: Any, **kwargs: Any) -> Any:
        info = original(*args, **kwargs)
        return guard.attempt("deliver before results of Ray", _with_delivery, info) or info

    return get_execution_info


def _with_delivery(info: Any) -> Any:
    """`info` with a function that delivers; None where it does already. Called once for each function."""
    return None if patching.is_patched(info.function, PATCH) else info._replace(function=_deliver_after(info.function))


def _deliver_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def execute(*args: Any, **kwargs: Any) -> Any:
        result = None
        try:
            result = function(*args, **kwargs)
        finally:
            if not isinstance(result, (CoroutineType, GeneratorType, AsyncGeneratorType)):
                _deliver()
        # By its very type: what only looks like one is a value to Ray.
        if type(result) is CoroutineType:
            return _after_coroutine(result)
        if type(result) is GeneratorType:
            return _after_generator(result)
        return _after_async_generator(result) if type(result) is AsyncGeneratorType else result

    return patching.mark(execute, function, PATCH)


async def _after_coroutine(coroutine: Awaitable[Any]) -> Any:
    try:
        return await coroutine
    finally:
        await _deliver_async()


def _after_generator(generator: GeneratorType[Any, Any, Any]) -> Any:
    try:
        return (yield from generator)
    finally:
        _deliver()


async def _after_async_generator(generator: AsyncGeneratorType[Any, Any]) -> Any:
    try:
        async for item in generator:
            yield item
    finally:
        await generator.aclose()
        await _deliver_async()


def _deliver() -> None:
    api = package.loaded("api")
    if api is not None:
        guard.attempt("deliver before a result of Ray", api.deliver_for_task)


async def _deliver_async() -> None:
    api = package.loaded("api")
    is_waiting = guard.attempt("deliver before a result of Ray", api.begin_delivery) if api is not None else None
    if is_waiting is None:
        return
    import asyncio

    while is_waiting():
        await asyncio.sleep(LOOK_S)
