"""Ports for servers that take a number and no socket."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

_FIRST = 10_000
_LINUX = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback where nothing listens.

    It is of those that the system does not give to sockets without a port of their own: a connection or a server of
    another test would take one of these before the server that it is for.
    """
    for port in random.SystemRandom().sample(range(_FIRST, _first_of_system()), 100):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise OSError(errno.EADDRINUSE, "no free port")


def _first_of_system() -> int:
    try:
        first = int(_LINUX.read_text().split()[0])
    except OSError:
        first = 32_768  # the lowest of the usual systems
    return max(first, _FIRST + 1_000)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
