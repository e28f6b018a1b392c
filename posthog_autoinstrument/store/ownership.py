"""Who owns a file or folder. The store and the spool hold prompts and answers: they use no file that another user owns,
can write, or can replace. Only checks, before each file is opened; changes nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_BESIDE = ("-wal", "-shm", "-journal")
"""Files that SQLite creates beside a database, and uses if they exist."""


def file_problem(path: Path) -> str | None:
    """Why the database at `path` must not be used; None if it may be, or does not exist. Raises OSError."""
    for suffix in ("", *_BESIDE):
        one = Path(f"{path}{suffix}")
        try:
            found = one.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode):
            return f"{one} is a symbolic link: name the file itself"
        if not stat.S_ISREG(found.st_mode):
            return f"{one} is not a file"
        problem = _problem(found)
        if problem is not None:
            return f"{one} {problem}"
    return _problem_of_place(path.parent)


def folder_problem(path: Path) -> str | None:
    """Why the spool at `path` must not be used; None if it may be, or does not exist. Raises OSError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a symbolic link: name the directory itself"
    if not stat.S_ISDIR(found.st_mode):
        return f"{path} is no directory"
    problem = _problem(found)
    return f"{path} {problem}" if problem is not None else None


def _problem(found: os.stat_result) -> str | None:
    if os.name != "posix":
        return None
    if found.st_uid != os.geteuid():
        return f"belongs to another user (uid {found.st_uid}; this process is uid {os.geteuid()}): choose another place"
    if found.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(found.st_mode)
        return f"can be written by other users (mode {mode:04o}): look at what is in it, then take that right away"
    return None


def _problem_of_place(folder: Path) -> str | None:
    """A problem if every user can replace files in the folder, which the sticky bit (`/tmp`) prevents.

    Groups may write: many systems give each user a group of their own.
    """
    if os.name != "posix":
        return None
    try:
        link, mode = folder.lstat(), folder.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid()):
        return f"{folder} is a symbolic link of another user's (uid {link.st_uid}): choose another place"
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return f"{folder} can be written by everybody (mode {stat.S_IMODE(mode):04o}): choose another place"
    return None
