"""Installed into each framework's environment: refuses every address that is not this machine, and notes it.

An audit hook, because frameworks reach the network through several libraries and from threads of their own.
"""

import os
import sys

_LOCAL = ("127.0.0.1", "::1", "localhost", "", None)


def _refuse_foreign(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if not isinstance(address, tuple):
            return  # a Unix socket
        host = address[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host not in _LOCAL:
        with open(os.environ["FOREIGN_HOSTS"], "a") as notes:
            notes.write(f"{event} {host}\n")
        raise OSError(f"refused: {host}")


if "FOREIGN_HOSTS" in os.environ:
    sys.addaudithook(_refuse_foreign)
