"""Waiting for a condition, in a test and in the program that it runs. Time limits only end what hangs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def wait_until(predicate: Callable[[], Any], message: str, timeout_s: float = 60.0) -> Any:
    """The first true value of `predicate()`; AssertionError with `message` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = predicate()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(message)


@contextlib.contextmanager
def held_until(predicate: Callable[[], Any], path: Path) -> Iterator[str]:
    """A line of Python at which a program waits until `predicate()` is true here; `path` is the file that tells it."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            if predicate():
                path.touch()
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield f"while not __import__('os').path.exists({str(path)!r}): __import__('time').sleep(0.01)"
    finally:
        ended.set()
        watching.join()
