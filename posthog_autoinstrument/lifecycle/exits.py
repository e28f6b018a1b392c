"""Ways to leave a process that run no exit hook: `os._exit`, `os.exec*`, a signal that a process sends to itself.

Replaced by the first captured call of a process: what waits is delivered first, within the exit timeout. A process
that has captured nothing, and a forked child on its way to `exec`, passes at once: nothing waits there.

So end the children of multiprocessing, of its forks (`multiprocess`, billiard) and of RQ, task processes of Airflow 3,
and servers that end by the signal that stopped them (uvicorn puts SIG_DFL back and raises the signal once more).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..core import guard, patching
from .signals import NUMBERS, Signals, is_default

PATCH = "exits"
"""`propagation.os_programs` replaces some of the same functions."""

_exit = os._exit


class Exits:
    """`close` delivers what waits for the last time, `flush` where the process may live on. `signals`: None where
    SIGTERM and SIGHUP are to be left alone."""

    def __init__(self, close: Callable[[], None], flush: Callable[[], None], signals: Signals | None) -> None:
        self._close = close
        self._flush = flush
        self._signals = signals
        self._installed = False
        self._pid = 0
        """The process that has captured something."""

    def install(self) -> None:
        """Something is captured in this process."""
        self._pid = os.getpid()
        if self._signals is not None:
            guard.attempt("handle signals", self._signals.install)
        if not self._installed:
            self._installed = True
            guard.attempt("stand before os._exit", self._replace_exit)
            for name in ("execv", "execve"):  # which the others call
                _replace(os, name, self._before_exec)
            if self._signals is not None:
                _replace(os, "kill", self._before_kill)
                _replace(os, "killpg", self._before_killpg)
                _replace(signal, "raise_signal", self._before_raise)

    def _replace_exit(self) -> None:
        """In every module that has it, under whatever name: many have it by `from os import _exit`. Some 4 ms, once
        in a process that captures."""

        def function(*args: Any, **kwargs: Any) -> Any:
            try:
                self._before_exit()
            finally:  # whatever a signal handler raises meanwhile
                _exit(*args, **kwargs)

        patching.mark(function, _exit, PATCH)
        for module in list(sys.modules.values()):
            if issubclass(type(module), ModuleType):
                names = object.__getattribute__(module, "__dict__")  # `vars` would load a lazy module
                # By identity: what `==` would do here is the program's (arrays, lazy objects).
                if id(_exit) in map(id, names.values()) and names is not globals():
                    for name in [name for name, value in list(names.items()) if value is _exit]:
                        names[name] = function

    def _before_exit(self) -> None:
        if self._pid == os.getpid():
            guard.attempt("deliver before the process ends", self._close)

    def _before_exec(self, *_: Any, **__: Any) -> None:
        if self._pid == os.getpid():
            self._flush()

    def _before_kill(self, pid: Any = None, number: Any = 0, *_: Any) -> None:
        here = os.getpid()
        if self._pid == here and pid in (0, here) and number in NUMBERS and self._signals is not None:
            self._signals.install()
            if is_default(number):  # this is not the main thread
                self._flush()

    def _before_killpg(self, group: Any = None, number: Any = 0, *_: Any) -> None:
        if group in (0, os.getpgrp()):
            self._before_kill(0, number)

    def _before_raise(self, number: Any = 0, *_: Any) -> None:
        self._before_kill(0, number)


def _replace(module: ModuleType, name: str, before: Callable[..., None]) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            guard.attempt("deliver before the process ends", before, *args, **kwargs)
            return original(*args, **kwargs)

        return function

    patching.replace(module, name, make, PATCH)
