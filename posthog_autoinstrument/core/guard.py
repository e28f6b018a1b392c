"""Our own failures: counted, reported once, and raised in our tests; they never reach the program.

This is the only module with a broad `except`. Whatever goes wrong in the agent, the host program gets its own result.
Nothing here takes a lock: it may run in a finaliser, in a forked child or at exit.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from . import diagnostics, package

P = ParamSpec("P")
T = TypeVar("T")

raise_failures = False
"""Set by `settings.loader` from POSTHOG_AUTOINSTRUMENT_RAISE: failures are raised into the program. For our tests."""

failures: dict[str, int] = {}
"""How often each step failed in this process."""

_HERE = package.FOLDER + os.sep
_CO_VARARGS = 0x04
"""`inspect.CO_VARARGS`: a function that takes `*args`."""


def report(step: str, error: BaseException) -> None:
    """Count a failure of ours and warn of the first one of each step. Raises it where `raise_failures` is set, and
    where it is the program's (`is_interruption`)."""
    if raise_failures or is_interruption(error):
        try:
            raise error
        finally:
            del error  # it holds this frame, which would hold it: what it holds of the program's must be let go at once
    failures[step] = failures.get(step, 0) + 1
    if diagnostics.debug or failures[step] == 1:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
        # The message of the error is left out: it may quote a payload.
        line = f"could not {step} ({type(error).__name__}{place}); the program is not affected"
        if diagnostics.debug:
            diagnostics.write(line)
        else:
            diagnostics.warn_once(f"could not {step}", line)


def is_interruption(error: BaseException) -> bool:
    """Whether a signal handler of the program's raised this while a step of ours ran: the time limit of a task of
    Celery's or RQ's. (Or a trace function, a debugger's.) It must reach the program.

    Such a function is given the very frame that it interrupts, which is the one below its own: a handler after the
    number of the signal, a trace function before the name of an event.
    """
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_back is not None and not frame.f_code.co_filename.startswith(_HERE):
            given = _arguments(frame)
            for before, value, after in zip([None, *given], given, [*given[1:], None], strict=False):
                if value is frame.f_back and (isinstance(before, int) or isinstance(after, str)):
                    return True
        trace = trace.tb_next
    return False


def _arguments(frame: FrameType) -> list[object]:
    """What a function that runs was called with, by position."""
    code, found = frame.f_code, frame.f_locals
    given = [found.get(name) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & _CO_VARARGS:
        given += found.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
    return given


def guarded(step: str, fallback: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate one step of ours: when it fails, report it under `step` and return `fallback`.

    A step with plain parameters, none with a default, is called by position.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        shell = _SHELLS.get(_plain_parameters(function), _any)
        return functools.wraps(function)(shell(step, fallback, function))

    return decorate


# Packing and unpacking arguments is most of what a guard costs, and the steps of a call are guarded: so shells for the
# usual numbers of parameters.


def _one(step: str, fallback: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(first: Any) -> Any:
        try:
            return function(first)
        except Exception as error:
            report(step, error)
            return fallback

    return run


def _two(step: str, fallback: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(first: Any, second: Any) -> Any:
        try:
            return function(first, second)
        except Exception as error:
            report(step, error)
            return fallback

    return run


def _three(step: str, fallback: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(first: Any, second: Any, third: Any) -> Any:
        try:
            return function(first, second, third)
        except Exception as error:
            report(step, error)
            return fallback

    return run


def _five(step: str, fallback: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(first: Any, second: Any, third: Any, fourth: Any, fifth: Any) -> Any:
        try:
            return function(first, second, third, fourth, fifth)
        except Exception as error:
            report(step, error)
            return fallback

    return run


def _any(step: str, fallback: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            report(step, error)
            return fallback

    return run


_SHELLS = {1: _one, 2: _two, 3: _three, 5: _five}


def _plain_parameters(function: Any) -> int:
    """How many parameters it takes, where all are plain; else 0."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_kwonlyargcount or code.co_flags & 0x0C or function.__defaults__:  # *args, **kwargs
        return 0
    return int(code.co_argcount)


def attempt(step: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call `function` as a guarded step; None when it fails."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        report(step, error)
        return None


def contain(step: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """`attempt` for code of the user's on our thread, which may also raise what should end a program."""
    try:
        return function(*args, **kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        report(step, error)
        return None


def quietly(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call code that is not ours and may fail for its own reasons (a `__repr__`, another SDK): None when it does."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if is_interruption(error):
            raise
        if diagnostics.debug:
            diagnostics.write(f"ignored {error!r:.200}")
        return None


def describe(value: object, limit: int = 2_000) -> str:
    """The bounded `repr` of a host's object, or the name of its type where even that fails."""
    try:
        text = repr(value)
    except Exception as error:
        if is_interruption(error):
            raise
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= limit else text[:limit] + "..."
