"""The processes of one launched program: each warning is given by the first of them that meets it.

They share no memory: workers are forked, spawned, and outlive each other. So each warning is an empty file with
the name of the tree and of the warning, made by O_EXCL in a folder that belongs to the user and that no other user can
write. It is written only where there is something to warn of. Without such a folder each process warns for itself.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Mapping, Sequence

NAME = "posthog-autoinstrument"
_DAY_S = 86_400.0
_HOUR_S = 3_600.0
_MAX_LOOKED_AT = 1_000
_EXCLUSIVE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def folders(environ: Mapping[str, str]) -> list[str]:
    """Where marker files may be, the best first: the user's folder for sockets and the like, or for temporary files."""
    named = [environ.get(name, "") for name in ("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP")]
    usual = ["/tmp", "/var/tmp"] if os.name == "posix" else []
    return [folder for folder in named + usual if folder]


def label() -> str:
    """The label of the tree that this process begins: pid, random part, and the file that is its standard error. A text
    for the environment."""
    return f"{os.getpid()}:{os.urandom(8).hex()}:{_error_stream()}"


class ProcessTree:
    """One tree of processes. `folders`: where its marker files may be, the best first; they need not exist."""

    def __init__(self, label: str, folders: Sequence[str] = ()) -> None:
        pid, _, rest = label.partition(":")
        nonce, _, self._error_stream = rest.partition(":")
        self._name = "".join(letter for letter in f"{pid}-{nonce}" if letter.isalnum() or letter == "-")[:60]
        self._folders = folders
        self._turns: dict[str, tuple[int, float]] = {}
        """Warning that recurs -> the process that gave it last, and when."""

    def claim(self, kind: str, every_s: float | None = None) -> bool:
        """Whether it is this process that warns of `kind`: the first one of its tree, with `every_s` the first in so
        many seconds. Never raises, waits for nothing.

        A process whose standard error is another file than that of the tree's first one is asked apart: who reads the
        one may not see the other.
        """
        pid, now = os.getpid(), time.time()
        if every_s and self._turns.get(kind, (0, 0.0))[0] == pid and now - self._turns[kind][1] < every_s:
            return True
        words = "".join(letter if letter.isalnum() else "_" for letter in kind)[:80]
        if self._error_stream and self._error_stream != _error_stream():
            words += "+"
        marker = f"{self._name}.{words}"
        period = int(now // every_s) if every_s else 0
        for folder in self._own_folders():
            path = os.path.join(folder, marker)
            if every_s:
                if _age_s(f"{path}@{period - 1}", now) < every_s:
                    return False
                path = f"{path}@{period}"
            try:
                os.close(os.open(path, _EXCLUSIVE, 0o600))
            except FileExistsError:
                return False
            except OSError:
                continue
            _remove_old(folder, now)
            break
        self._turns[kind] = (pid, now)
        return True

    def _own_folders(self) -> list[str]:
        """Our folders that exist now, made if need be, and that no other user can read or write."""
        found = []
        for base in self._folders:
            # Windows has no user ids; its folder for temporary files is the user's.
            uid = os.geteuid() if hasattr(os, "geteuid") else ""
            folder = os.path.join(base, f"{NAME}-{uid}")
            try:
                if not os.path.isabs(base):
                    continue
                try:
                    os.mkdir(folder, 0o700)
                except FileExistsError:
                    pass
                seen = os.lstat(folder)
            except (OSError, ValueError):
                continue
            is_private = uid == "" or (seen.st_uid == uid and not stat.S_IMODE(seen.st_mode) & 0o077)
            if stat.S_ISDIR(seen.st_mode) and is_private:
                found.append(folder)
        return found


def _age_s(path: str, now: float) -> float:
    """How old a file is; infinite where there is none."""
    try:
        return now - os.lstat(path).st_mtime
    except OSError:
        return float("inf")


def _error_stream() -> str:
    """The identity of the file that is standard error here; "" where there is none."""
    try:
        stream = sys.__stderr__
        if stream is None or stream.closed:
            return ""
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return ""
    return f"{seen.st_dev}-{seen.st_ino}"


def _remove_old(folder: str, now: float) -> None:
    """Remove marker files that are out of date. A program that runs for days may warn once a day."""
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= _MAX_LOOKED_AT:
                    return
                keep_s = _HOUR_S if "@" in entry.name else _DAY_S
                if now - entry.stat(follow_symlinks=False).st_mtime > keep_s:
                    os.unlink(entry.path)
    except OSError:
        pass
