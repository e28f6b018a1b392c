"""What must not be half done while the process forks: `os.register_at_fork` hooks wait for it, bounded.

A process forked while another of its threads imports a module inherits import locks that are never released: the
child hung 5 times of 5 at its own `import requests`.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from .threads import Thread


class Gate:
    """A lock that forks wait for. In the child it is free, whichever thread held it."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._lock = threading.RLock()
        self._forking: int | None = None
        """The thread that holds the lock because it forks."""

    def __enter__(self) -> Gate:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait until no other thread is inside, a bounded time, and keep the others out."""
        if self._lock.acquire(timeout=self._wait_s):
            self._forking = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """Let the others in again."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """The thread that was inside does not exist in the child."""
        self.__init__(self._wait_s)  # type: ignore[misc]


IMPORTS = Gate(2.0)
"""Held around every import that the flusher's thread makes. Importing requests takes 0.1 s."""
STORE = Gate(0.5)
"""Held while a store file is open: SQLite's locks do not survive a fork. A batch takes 3 ms, unless another process
holds the file."""


class ForkWarning:
    """Keeps Python 3.12 and later from warning of a fork in a process of several threads where all others are
    ours: without us there would be no warning.

    CPython (`warn_about_fork_with_threads` in Modules/posixmodule.c) counts threads and warns in the parent, in 3.12
    before the `after_in_parent` hooks, from 3.13 on after them, through the warning filters. So a filter goes in
    before the fork, and goes out when it has been asked.
    """

    def __init__(self) -> None:
        self._entry: tuple[object, ...] | None = None
        self._thread = 0

    def expect(self, n_ours: int) -> None:
        """Hold back the warning of the fork that this thread is about to make, beside so many threads of ours."""
        self.forget()
        filters = getattr(sys.modules.get("warnings"), "filters", None)
        if sys.version_info < (3, 12) or not isinstance(filters, list) or _threads() != 1 + n_ours:
            return
        self._thread = threading.get_ident()
        self._entry = ("ignore", self, DeprecationWarning, None, 0)
        # Not `warnings.filterwarnings`: it makes Python show again what it has shown once.
        filters.insert(0, self._entry)

    def match(self, text: str) -> bool:
        """Whether this is the warning. Called by the warnings machinery, as a compiled pattern's `match` is."""
        if self._thread != threading.get_ident() or "use of fork()" not in text:
            return False
        self.forget()
        return True

    def over(self) -> None:
        """The fork is done, in the parent."""
        if sys.version_info < (3, 13):
            self.forget()

    def forget(self) -> None:
        """Take the filter out again."""
        entry, self._entry = self._entry, None
        filters = getattr(sys.modules.get("warnings"), "filters", None)
        if entry is not None and isinstance(filters, list) and entry in filters:
            filters.remove(entry)


def _threads() -> int:
    """How many threads this process has, counted as CPython does."""
    try:
        with open("/proc/self/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[17])
    except (OSError, ValueError, IndexError):
        return threading.active_count()


def is_gone(thread: Thread) -> bool:
    """Whether a thread has ended for the system, too: `join` returns, and `is_alive` is False, a moment earlier."""
    if thread.is_alive() or thread.native_id is None:
        return False
    return not os.path.exists(f"/proc/self/task/{thread.native_id}")


def wait_gone(thread: Thread, wait_s: float) -> None:
    """Wait until a thread that is ending has ended for the system, too."""
    from time import monotonic, sleep

    until = monotonic() + wait_s
    while not is_gone(thread) and monotonic() < until:
        sleep(0.0001)


def register() -> None:
    """Have forks wait for every gate. Once in a process."""
    if hasattr(os, "register_at_fork"):
        for gate in (IMPORTS, STORE):
            os.register_at_fork(
                before=gate.before_fork,
                after_in_parent=gate.after_fork_in_parent,
                after_in_child=gate.after_fork_in_child,
            )
