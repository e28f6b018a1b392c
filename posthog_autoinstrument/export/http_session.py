"""A requests session of our own: on copies of requests, urllib3, `http.client`, `socket` and `ssl`.

Mocks and recorders patch the modules that the program imports, before our first request or after it: `responses` 0.26
`HTTPAdapter.send`, requests-mock 1.12 `Session.get_adapter`, vcrpy 9 the connection classes, pytest-socket 0.8,
httpretty 1.1 and mocket 3 `socket.socket`. The copies are read from the same files and share nothing that is patched.
"""

from __future__ import annotations

import importlib
import io
import logging
import sys
import time
import warnings
from types import ModuleType
from typing import Any

from ..core import dependencies, descriptors, forks, threads
from ..core.guard import quietly
from ..core.private_modules import PrivateModules, stand_in

_WAITING = ("socket", "ssl", "select", "time")
_COPIED = ("http", *_WAITING)
"""What requests and urllib3 use of the standard library that programs patch. (`time`: freezegun.)"""
_ABSENT = ("brotli", "brotlicffi", "zstandard", "backports", "compression", "h2", "simplejson", "chardet")
"""What they would use if it were installed, and is of no use to us: answers of 20 bytes."""

_copies: PrivateModules | None = None


def requests() -> Any:
    """The copy of the `requests` package, loaded by the first call: by the thread that sends."""
    return _loaded("requests")


def _loaded(name: str) -> Any:
    global _copies
    with forks.IMPORTS:
        if _copies is None or _copies.is_half_loaded():
            import encodings.idna  # noqa: F401  the codec is otherwise imported inside the first request
            import stringprep  # noqa: F401  by encodings.idna on some versions only when it is used

            _copies = _prepare()
        if name not in _copies.modules and dependencies.find("requests") is None:  # in no folder: frozen programs
            return importlib.import_module(name)
        return _copies.load(name)


def _prepare() -> PrivateModules:
    # requests wants one that it can guess encodings with; we read no text.
    detector = ModuleType("charset_normalizer")
    detector.__version__ = "3.0.0"  # type: ignore[attr-defined]
    stand_ins = {
        "warnings": _no_warnings(),
        "logging": stand_in(logging, getLogger=_silent_logger),
        "charset_normalizer": detector,
    }
    # In a greenlet, one that waits for a socket of the operating system stops all others.
    for name, green in threads.green_modules(_WAITING).items():
        stand_ins[name] = green
    copies = PrivateModules(dependencies.find, _COPIED, _ABSENT, stand_ins, dependencies.is_installed)
    import importlib.resources as resources  # certifi finds its file by it, by the name of the package

    def of_copies(function: Any) -> Any:
        return lambda package, *args: function(copies.load(package) if isinstance(package, str) else package, *args)

    instead = {name: of_copies(getattr(resources, name)) for name in ("files", "path") if hasattr(resources, name)}
    copies.stand_ins["importlib.resources"] = stand_in(resources, **instead)
    return copies


def _no_warnings() -> ModuleType:
    """The `warnings` of the copies: requests and urllib3 add filters when they are imported, and each change makes
    Python show again what it has shown once; they warn of an unknown chardet."""
    names = ("warn", "warn_explicit", "simplefilter", "filterwarnings", "resetwarnings")
    return stand_in(warnings, catch_warnings=_Nothing, **dict.fromkeys(names, _Nothing))


class _Nothing:
    """What takes any arguments, and does nothing when it is entered."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _silent_logger(name: str = "") -> logging.Logger:
    """A logger that the program's logging does not know: one that logs everything must not see our requests."""
    logger = logging.Logger(name)
    logger.disabled = True
    return logger


# --- the session ---


def open_session() -> Any:
    """A new session. It takes no password from `~/.netrc`, whose default entry would go to any host."""
    found = requests()
    response_class = _bounded_response(_loaded("http.client").HTTPResponse)

    class Adapter(found.adapters.HTTPAdapter):  # type: ignore[misc, name-defined]
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            _use_own_connections(self.poolmanager, response_class)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            _use_own_connections(manager, response_class)
            return manager

        def send(self, *args: Any, **kwargs: Any) -> Any:
            _follow_truststore()
            return super().send(*args, **kwargs)

    session = found.Session()
    session.auth = _no_auth
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session


def _no_auth(request: Any) -> Any:
    return request


def _follow_truststore() -> None:
    """Where the program trusts what its system trusts (`truststore.inject_into_ssl`, 0.10: it replaces
    `ssl.SSLContext`), so do we: behind a company's proxy nothing else may be accepted."""
    context = getattr(sys.modules.get("ssl"), "SSLContext", None)
    if getattr(context, "__module__", "").partition(".")[0] != "truststore":
        context = _loaded("ssl").SSLContext
    _loaded("urllib3.util.ssl_").SSLContext = context


def _use_own_connections(manager: Any, response_class: type) -> None:
    """Have a urllib3 pool manager make connections that keep to their timeout and close their own socket only."""
    manager.pool_classes_by_scheme = {
        scheme: _own_pool(pool, response_class) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _own_pool(pool: Any, own_response_class: type) -> type:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        response_class = own_response_class
        _opened: descriptors.Descriptor | None = None

        def connect(self) -> Any:
            self._opened = None
            super().connect()
            self._opened = descriptors.of(self.sock.fileno())

        def is_lost(self) -> bool:
            """Whether the program has closed the descriptor of the socket: the number may be a file of its own now."""
            return getattr(self, "sock", None) is not None and self._opened is not None and self._opened.is_lost()

        def close(self) -> None:
            if self.is_lost():
                quietly(self.sock.detach)
            super().close()

        def __del__(self) -> None:
            quietly(self.close)

    class Pool(pool):  # type: ignore[misc]
        ConnectionCls = Connection

        def _get_conn(self, timeout: float | None = None) -> Any:
            """A connection of the pool, which may have lost its descriptor to the program meanwhile."""
            connection = super()._get_conn(timeout)
            if connection.is_lost():
                connection.close()
            return connection

    return Pool


def _bounded_response(base: Any) -> type:
    """A class of answers that are read for as long as the socket's timeout, in all.

    The timeout of a socket counts from byte to byte: an answer that comes a byte at a time would hold up the flusher,
    and all events behind the batch, for as long as it likes.
    """

    class Response(base):  # type: ignore[misc]
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            timeout_s = quietly(lambda: sock.gettimeout())
            if timeout_s is not None:
                self.fp: Any = io.BufferedReader(_Bounded(self.fp, sock, time.monotonic() + timeout_s))

    return Response


class _Bounded(io.RawIOBase):
    """What a socket's file gives until a time by the monotonic clock; TimeoutError afterwards."""

    def __init__(self, file: Any, sock: Any, until: float) -> None:
        self._file = file
        self._sock = sock
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left_s)
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
