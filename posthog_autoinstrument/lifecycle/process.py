"""The forks and the end of this process, as they concern the agent: whatever ends it, what waits is delivered once."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Protocol

from ..core import forks, guard, threads
from . import exits, signals


class Parts(Protocol):
    """The agent, as its process needs it."""

    def deliver_last(self) -> None:
        """End what is open and deliver what waits, within the exit timeout."""

    def deliver_now(self) -> None:
        """Deliver what waits, within the exit timeout, where the process may go on."""

    def is_delivering_here(self) -> bool:
        """Whether this is the thread that delivers."""

    def is_in_commit(self) -> bool:
        """Whether this thread is in the middle of writing to the spool."""

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...


class Process:
    """This process. `handles_signals`: SIGTERM and SIGHUP deliver first, where the program does not handle them."""

    def __init__(self, agent: Parts, exit_timeout_s: float, handles_signals: bool) -> None:
        self._agent = agent
        self._exit_timeout_s = exit_timeout_s
        self._signals = signals.Signals(self._terminate, self.close) if handles_signals and os.name == "posix" else None
        self._exits = exits.Exits(self.close, agent.deliver_now, self._signals)
        self._watches_forks = False
        self._closed = threads.allocate_lock()
        self._closing: set[int] = set()
        """Threads that deliver at exit, or wait for the one that does."""
        self._ends_by = 0
        """The signal that came meanwhile, by which the process then ends."""

    def install(self) -> None:
        """Deliver at exit."""
        atexit.register(self.close)

    def captured(self) -> None:
        """On the host's thread: something will have to be delivered from this process."""
        self.watch_forks()
        self._exits.install()

    # The end

    def close(self) -> None:
        """The process ends: deliver. Where another thread does so already, wait for it. Waits for nothing where nothing
        was captured in this process, and on the thread that delivers: the user's `before_send` may end the process."""
        wait_s = 0.0 if self._agent.is_delivering_here() else self._exit_timeout_s
        this_thread = threads.get_ident()
        if this_thread in self._closing:
            return
        # Before the lock is taken: the handler of a signal that comes next must not wait for its own thread.
        self._closing.add(this_thread)
        try:
            if self._closed.acquire(timeout=wait_s):
                try:
                    self._deliver_last()
                finally:
                    self._closed.release()
        finally:
            self._closing.discard(this_thread)
        if self._ends_by:
            signals.end_by(self._ends_by)

    def _deliver_last(self) -> None:
        self._agent.deliver_last()
        if self._signals is not None:
            guard.attempt("leave signals to the system", self._signals.remove)
        _keep_interrupted()

    def _terminate(self, number: int) -> bool:
        """Signal `number` wants to end this process: deliver first, as at exit.

        True where that goes on when the handler has returned, and then ends the process: an interrupted delivery at
        exit or commit to the spool, or a delivery in a greenlet.
        """
        if self._agent.is_in_commit() or threads.get_ident() in self._closing:
            self._ends_by = number
            return True
        spawn = threads.hub_spawn()
        if spawn is not None:
            self._ends_by = number
            spawn(self.close)
            return True
        self.close()
        return False

    def end_if_signalled(self) -> None:
        """End by the signal that came in the middle of a commit to the spool."""
        if self._ends_by and not self._closing:
            self.close()

    # Signals

    @property
    def exposed(self) -> bool:
        """Whether a signal would just end this process, and lose what waits."""
        return self._signals is not None and self._signals.exposed

    @property
    def watcher(self) -> threads.Thread | None:
        """The thread that reads the numbers of signals."""
        return self._signals.watcher if self._signals is not None else None

    def cover(self) -> None:
        """On the flusher's thread: have that changed."""
        if self._signals is not None:
            self._signals.ask_main_thread()

    # Forks

    def watch_forks(self) -> None:
        """Have forks wait for what must not be half done, and children begin anew. Idempotent."""
        if not self._watches_forks and hasattr(os, "register_at_fork"):
            self._watches_forks = True
            forks.register()
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def _before_fork(self) -> None:
        if self._signals is not None:
            guard.attempt("hold back signals", self._signals.before_fork)
        self._agent.before_fork()

    def _after_fork_in_parent(self) -> None:
        self._agent.after_fork_in_parent()
        if self._signals is not None:
            guard.attempt("let signals come", self._signals.after_fork_in_parent)

    def _after_fork_in_child(self) -> None:
        self._agent.after_fork_in_child()
        self._closing.clear()
        self._ends_by = 0
        self._closed = threads.allocate_lock()
        if self._signals is not None:
            guard.attempt("leave signals to the system", self._signals.after_fork_in_child)


def _keep_interrupted() -> None:
    """Have a program that ended by Ctrl-C still end by SIGINT.

    CPython (3.10 to 3.13, Python/pythonrun.c) remembers an uncaught KeyboardInterrupt in a flag that every `exec` of a
    string clears, and importing requests at exit makes many (namedtuples, dataclasses). One more sets it again.
    """
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            pass
