"""What must not be half done while the process forks: `os.register_at_fork` hooks wait for it, bounded.

A process forked while another of its threads imports a module inherits import locks that nobody will release: the
child hung 5 times of 5 at its own `import requests`.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType


class Gate:
    """A lock that forks wait for. In the child it is free, whoever held it."""

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
        """Whoever was inside does not exist here."""
        self.__init__(self._wait_s)  # type: ignore[misc]


IMPORTS = Gate(2.0)
"""Held around every import that the flusher's thread makes. Importing requests takes 0.1 s."""
STORE = Gate(0.5)
"""Held while a store file is open: SQLite's locks do not survive a fork. A batch takes 3 ms, unless another process
holds the file."""


def register() -> None:
    """Have forks wait for every gate. Once in a process."""
    if hasattr(os, "register_at_fork"):
        for gate in (IMPORTS, STORE):
            os.register_at_fork(
                before=gate.before_fork,
                after_in_parent=gate.after_fork_in_parent,
                after_in_child=gate.after_fork_in_child,
            )
