"""SIGTERM and SIGHUP of a process that has captured calls: what waits is delivered, then it ends by the signal.

A process that has captured nothing keeps SIG_DFL, and so does a forked child: it dies at once, as without us. Ours goes
in with the first captured call, where the disposition is SIG_DFL in Python and for the system.

CPython runs a handler on the main thread, between two bytecodes: a signal that comes after its last look and before a
system call only sets a flag, and a main thread that blocks there never sees it (`Pool.terminate` signals once and joins
for ever). So the number of each signal also goes, by `signal.set_wakeup_fd`, to a thread that repeats it for the main
thread, and that ends the process itself where the main thread stays in C.

Only the main thread may set a handler. A call that is captured in another one asks the main thread to do it when it is
next in Python code (`Py_AddPendingCall`); until then what is captured is to be sent at once: `exposed`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from time import monotonic, sleep
from types import FrameType
from typing import Any

from ..core import forks, guard, threads

TOGETHER_S = 0.3
"""Signals in so short a time are one: a supervisor forwards to its child what the kernel sent to both."""
REPEAT_S = 0.05
"""A main thread that is not in C has run the handler by then."""
N_REPEATS = 20
"""Then the process ends without its main thread."""
PAUSE_S = 0.1
"""Longest a fork waits for the watching thread to end. It takes 0.1 ms."""
STOP = b"\0"
"""No signal has this number: ends the watching thread."""

NUMBERS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_read, _write, _pipe, _kill = os.read, os.write, os.pipe, os.kill
_end = os._exit


class Signals:
    """`terminate(number)` is what the handler calls first, on the main thread: True where the delivery goes on when it
    has returned, and ends the process by itself. `deliver` is for a thread that is not the program's."""

    def __init__(self, terminate: Callable[[int], bool], deliver: Callable[[], None]) -> None:
        self._terminate = terminate
        self._deliver = deliver
        self._handler = self._receive
        self._set_wakeup_fd = getattr(signal, "set_wakeup_fd", None)
        self._masks: dict[int, Any] = {}
        """Thread that forks -> its signal mask before."""
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._received: list[float] = []
        """When each signal was received, by the monotonic clock."""
        self._reader = self._writer = -1
        self._pipe_id: tuple[int, int] | None = None
        self.watcher: threads.Thread | None = None
        self._n_forking = 0
        self._is_asked = False
        self._callbacks: list[object] = []
        self.exposed = False
        """Whether these signals would just end this process, and lose what waits."""

    # On the program's threads

    def install(self) -> None:
        """Have them deliver first, where they would just end this process. Idempotent, from any thread."""
        if self._pid != os.getpid():
            self.after_fork_in_child()
        try:
            for number in NUMBERS:
                if is_default(number):
                    signal.signal(number, self._handler)
        except ValueError:  # not the main thread, or a sub-interpreter: neither gets signals
            self.exposed = any(is_default(number) for number in NUMBERS)
            return
        self.exposed = False
        if any(self._is_ours(number) for number in NUMBERS):
            self._watch()

    def remove(self) -> None:
        """The program is over and what waited has been delivered: die of them as without us."""
        try:
            for number in NUMBERS:
                if self._is_ours(number):
                    signal.signal(number, signal.SIG_DFL)
            self._remove_wakeup_fd()
        except ValueError:  # not the main thread
            pass

    def _is_ours(self, number: int) -> bool:
        return signal.getsignal(number) == self._handler

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        first = not self._received
        self._received.append(monotonic())
        if self._pid == os.getpid():
            if not first and self._received[-1] - self._received[0] < TOGETHER_S:
                return
            # A second signal, while the delivery for the first one is waited for, ends the process at once.
            goes_on = False
            try:
                goes_on = first and bool(guard.attempt("deliver events on a signal", self._terminate, number))
            finally:
                if not goes_on:
                    end_by(number)
        else:  # a child that was forked without Python's hooks has captured nothing
            end_by(number)

    # The watching thread

    def _watch(self) -> None:
        """Have the numbers of signals go to a thread of ours, unless the program has them go somewhere else."""
        if threads.is_green() or self._set_wakeup_fd is None or self.watcher is not None:
            return
        if self._writer == -1:
            self._reader, self._writer = _pipe()
            os.set_blocking(self._writer, False)
            self._pipe_id = _identity(self._reader)
        before = self._set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if before not in (-1, self._writer):
            self._set_wakeup_fd(before, warn_on_full_buffer=False)
        self._hide()
        self._start()

    def _start(self) -> None:
        watcher = threads.plain(self._run)
        try:
            with threads.SignalsBlocked():
                watcher.start()
            self.watcher = watcher
        except RuntimeError:  # no more threads
            pass

    def _hide(self) -> None:
        """`signal.set_wakeup_fd` shows and takes away the program's descriptor only: trio warns of one that is there,
        asyncio takes its own away when a loop is closed."""
        original = self._set_wakeup_fd
        if original is None or getattr(signal.set_wakeup_fd, "__wrapped__", None) is original:
            return

        def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
            ours = self._writer if self._pid == os.getpid() and self._has_pipe() else -1
            if fd == -1 and ours != -1:
                fd, warn_on_full_buffer = ours, False
            before: int = original(fd, warn_on_full_buffer=warn_on_full_buffer)
            return -1 if before == ours else before

        set_wakeup_fd.__wrapped__ = original  # type: ignore[attr-defined]
        set_wakeup_fd.__doc__ = original.__doc__
        signal.set_wakeup_fd = set_wakeup_fd

    def _has_pipe(self) -> bool:
        """Whether both ends are ours still: programs close descriptors that they do not know, and open others."""
        return self._pipe_id is not None and _identity(self._reader) == _identity(self._writer) == self._pipe_id

    def _run(self) -> None:
        guard.attempt("prepare for signals", _load_ctypes)
        while self._has_pipe():
            received = _read(self._reader, 64)
            if not received:
                break
            for number in NUMBERS:
                if number in received and self._is_ours(number):
                    self._see_to(number)
            if self._n_forking:
                return
        # The program has closed the pipe: a number must not go into a file that has its descriptor now.
        guard.attempt("let go of a descriptor", self._call_on_main_thread, self._remove_wakeup_fd)

    def _see_to(self, number: int) -> None:
        """Have the main thread run the handler. Not for a second signal, which the first one's delivery is bounded for:
        by its number alone, read late, it cannot be distinguished from the first."""
        main = threading.main_thread().ident
        for _ in range(N_REPEATS):
            if not self._received:
                sleep(REPEAT_S)
            if self._received or not self._is_ours(number) or main is None:
                return
            signal.pthread_kill(main, number)
        if not self._received:
            self._received.append(monotonic())
            guard.attempt("deliver events on a signal", self._deliver)
            end_by(number)

    def ask_main_thread(self) -> None:
        """On the flusher's thread: have the main thread install the handler when it is next in Python code."""
        if not self._is_asked:
            self._is_asked = True
            self._call_on_main_thread(self.install)

    def _call_on_main_thread(self, function: Callable[[], None]) -> None:
        api = _load_ctypes()
        if api is None:
            return
        import ctypes

        def call(_: object) -> int:
            guard.attempt("handle signals", function)
            return 0

        callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(call)
        self._callbacks.append(callback)  # C does not hold it
        api.Py_AddPendingCall(callback, None)

    # Forks

    def before_fork(self) -> None:
        """Hold back signals while the process forks: one that came to the child before it has their default again would
        be lost there, and our thread would take it for the parent's. And end our thread, as that of the flusher."""
        if self._pid != os.getpid() or self._pipe_id is None:
            return
        self._masks[threads.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
        self._n_forking += 1
        watcher = self.watcher
        if watcher is not None and watcher.is_alive() and not self._received and self._has_pipe():
            _write(self._writer, STOP)
            watcher.join(PAUSE_S)
            forks.wait_gone(watcher, PAUSE_S)

    def after_fork_in_parent(self) -> None:
        """Let the signals come, and watch again."""
        mask = self._masks.pop(threads.get_ident(), None)
        if mask is None:
            return
        self._n_forking -= 1
        if not self._n_forking and self.watcher is not None and not self.watcher.is_alive() and self._has_pipe():
            self.watcher = None
            self._start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def after_fork_in_child(self) -> None:
        """The child has captured nothing: it dies of these signals as without us."""
        mask = self._masks.pop(threads.get_ident(), None)
        self._masks.clear()
        self.remove()
        if self._has_pipe():
            os.close(self._reader)
            os.close(self._writer)
        self._reset()
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _remove_wakeup_fd(self) -> None:
        if self._pipe_id is not None and self._set_wakeup_fd is not None:
            before = self._set_wakeup_fd(-1)
            if before not in (-1, self._writer):  # the program's
                self._set_wakeup_fd(before, warn_on_full_buffer=False)


def is_default(number: int) -> bool:
    """Whether a signal just ends this process: in Python, and for the system, where a library may have a handler in C
    that Python does not know (granian's, a JVM's)."""
    if signal.getsignal(number) != signal.SIG_DFL:
        return False
    try:
        with open("/proc/self/status", "rb") as status:
            caught = next((line for line in status if line.startswith(b"SigCgt:")), b"SigCgt: 0")
    except OSError:
        return True
    return not int(caught.split()[1], 16) >> (number - 1) & 1


def end_by(number: int) -> None:
    """End this process by a signal, as it would have ended without the handler. From any thread."""
    try:
        signal.signal(number, signal.SIG_DFL)
    except ValueError:  # not the main thread
        api = _load_ctypes()
        if api is None:
            _end(128 + number)
        api.PyOS_setsig(number, None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    if os.getpid() == 1:
        _end(128 + number)  # the kernel keeps the first process of a container from killing itself
    _kill(os.getpid(), number)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


_api: Any = None


def _load_ctypes() -> Any:
    """CPython's C interface, a copy of our own of `ctypes.pythonapi`; None where this Python has no ctypes or no such
    functions."""
    global _api
    if _api is None:
        try:
            with forks.IMPORTS:
                import ctypes
            api = ctypes.PyDLL(None)
            api.PyOS_setsig.argtypes, api.PyOS_setsig.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
            api.Py_AddPendingCall  # noqa: B018 - looked up
        except (ImportError, AttributeError):
            return None
        _api = api
    return _api
