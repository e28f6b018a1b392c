"""Whether a summary is due that nobody asked for: in a terminal, of the first run whose calls went to a destination."""

from __future__ import annotations

import os
import sys

_EXCLUSIVE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def in_terminal() -> bool:
    """Whether somebody reads the standard error of this process as it comes."""
    stream = sys.__stderr__
    try:
        return stream is not None and not stream.closed and os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


def is_first(folder: str, destination: str) -> bool:
    """Whether no run before had calls go to `destination`, by an empty file in `folder`; from now on one had. True also
    where no file can be written. Never raises."""
    name = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in destination)[:100]
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        os.close(os.open(os.path.join(folder, f"summed-up.{name}"), _EXCLUSIVE, 0o600))
    except FileExistsError:
        return False
    except (OSError, ValueError):
        pass
    return True
