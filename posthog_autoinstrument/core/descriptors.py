"""Which descriptors of this process are still ours.

A program that becomes a daemon closes all descriptors by their numbers (`os.closerange`), and what it opens next gets
the numbers of our connection or of SQLite's files. Writing to such a number, or closing it, would
then hit a file of the program's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

_FOLDERS = ("/proc/self/fd", "/dev/fd")
_KEPT = "_posthog_autoinstrument_kept"


class Descriptor(NamedTuple):
    """A number, and what it was open for."""

    number: int
    device: int
    inode: int

    def is_lost(self) -> bool:
        """Whether the number is closed, or open for something else."""
        try:
            found = os.fstat(self.number)
        except OSError:
            return True
        return found.st_ino != self.inode or found.st_dev != self.device


def of(number: int) -> Descriptor | None:
    """What a number is open for; None where it is not open, or where the system cannot report it (Windows: sockets)."""
    try:
        found = os.fstat(number)
    except (OSError, ValueError):
        return None
    return Descriptor(number, found.st_dev, found.st_ino)


def of_files(paths: Iterable[str | os.PathLike[str]]) -> list[Descriptor]:
    """The descriptors of this process that are open for these files; none where the system does not list them."""
    wanted = set()
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    for folder in _FOLDERS:
        try:
            numbers = [int(name) for name in os.listdir(folder)]
        except (OSError, ValueError):
            continue
        seen = (of(number) for number in numbers)
        return [one for one in seen if one is not None and (one.device, one.inode) in wanted]
    return []


def keep_open(thing: object) -> None:
    """Hold what must not be closed in this process: freeing it closes its numbers.

    On `sys`, whose names CPython (3.10 to 3.14, `finalize_modules`) clears when all modules are gone, and with them the
    files of the program.
    """
    vars(sys).setdefault(_KEPT, []).append(thing)
