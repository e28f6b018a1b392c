"""Threads and locks of one kind: the one that there was when the agent was loaded.

gevent and eventlet put greenlets in the place of threads, before the agent is loaded or after. A greenlet that waits
for a lock of the operating system stops every other one, so the flusher and its locks must not be of two kinds.
"""

from __future__ import annotations

import _thread
import importlib
import sys
import threading
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Protocol

    class Thread(Protocol):
        """A thread as the flusher uses it."""

        @property
        def native_id(self) -> int | None: ...

        def start(self) -> None: ...

        def is_alive(self) -> bool: ...

        def join(self, timeout: float | None = None) -> None: ...


allocate_lock = _thread.allocate_lock
get_ident = _thread.get_ident
_start_new_thread = _thread.start_new_thread
_is_green = getattr(_start_new_thread, "__module__", "_thread") != "_thread"


class _Plain:
    """A thread of the operating system in a process where `threading` makes greenlets by now."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._running = allocate_lock()
        self._running.acquire()
        self.native_id: int | None = None

    def start(self) -> None:
        _start_new_thread(self._bootstrap, ())

    def _bootstrap(self) -> None:
        self.native_id = _thread.get_native_id()
        try:
            self._run()
        finally:
            self._running.release()

    def is_alive(self) -> bool:
        return self._running.locked()

    def join(self, timeout: float | None = None) -> None:
        if self._running.acquire(timeout=-1 if timeout is None else timeout):
            self._running.release()


def make(run: Callable[[], None], name: str) -> Thread:
    """A daemon thread that will run `run`, to be started. `start` raises RuntimeError where none can be."""
    if _thread.start_new_thread is not _start_new_thread:
        return _Plain(run)
    return threading.Thread(target=run, name=name, daemon=True)


def green_modules(names: Iterable[str]) -> dict[str, ModuleType]:
    """Modules of these names that wait as greenlets do (`gevent.socket`), where our threads are greenlets."""
    if not _is_green:
        return {}
    package = "gevent" if _start_new_thread.__module__.partition(".")[0] == "gevent" else "eventlet.green"
    found = {}
    for name in names:
        try:
            found[name] = importlib.import_module(f"{package}.{name}")
        except ImportError:
            pass
    return found


def plain(run: Callable[[], None]) -> Thread:
    """A thread of the operating system that `threading` does not list. Not where `is_green`."""
    return _Plain(run)


def is_green() -> bool:
    """Whether greenlets stood for threads when the agent was loaded."""
    return _is_green


def hub_spawn() -> Callable[..., Any] | None:
    """Where this is a greenlet that must not wait, the hub that runs the others: what starts one that may.

    Signal handlers run there. A thread of the operating system is no greenlet and may be waited for.
    """
    if not _is_green:
        return None
    gevent = sys.modules.get("gevent")
    if gevent is not None and gevent.getcurrent() is gevent.get_hub():
        return gevent.spawn  # type: ignore[no-any-return]
    eventlet = sys.modules.get("eventlet")
    if eventlet is not None and eventlet.getcurrent() is eventlet.hubs.get_hub().greenlet:
        return eventlet.spawn  # type: ignore[no-any-return]
    return None


class SignalsBlocked:
    """Blocks signals in this thread for as long as it starts another, which inherits that.

    The kernel gives a signal of the process to any thread that does not block it: a program that waits with `sigwait`
    would be killed by a signal that came to ours. Signals of faults are left alone.
    """

    def __enter__(self) -> None:
        signal = sys.modules.get("signal")
        self._mask = getattr(signal, "pthread_sigmask", None)
        if self._mask is not None:
            names = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
            faults = {getattr(signal, name) for name in names if hasattr(signal, name)}
            self._before = self._mask(signal.SIG_BLOCK, signal.valid_signals() - faults)  # type: ignore[union-attr]

    def __exit__(self, *_: object) -> None:
        if self._mask is not None:
            self._mask(sys.modules["signal"].SIG_SETMASK, self._before)
