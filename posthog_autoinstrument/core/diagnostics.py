"""Lines on standard error: what the agent reports to the people who run the program.

Nothing here takes a lock, raises, or writes through `sys.stderr`: it may run in a finaliser, in a forked child or at
exit.
"""

from __future__ import annotations

import os
import sys

from . import package
from .process_tree import ProcessTree

PREFIX = "posthog-autoinstrument: "

debug = False
"""Set by `settings.loader` from POSTHOG_AUTOINSTRUMENT_DEBUG: children of the launched process write too, and nothing
is held back because another process wrote it."""
main_pid: int | None = None
"""The process that writes what is not urgent: set by `settings.loader`, 0 in children of the launched process. None:
any."""
tree: ProcessTree | None = None
"""The processes that give each warning once between them: set by `settings.loader` and `api`. None: this process is
alone."""

_written: set[str] = set()


def is_main_process() -> bool:
    """Whether this is the launched process (or one that no launcher started), after the settings were read."""
    return main_pid == os.getpid()


def write(line: str) -> None:
    """Write one line, in the launched process only (with `debug` in all)."""
    if main_pid is None or debug or is_main_process():
        _write(line)


def write_once(key: str, line: str) -> None:
    """`write`, unless this process wrote something under `key` before."""
    if key not in _written:
        _written.add(key)
        write(line)


def warn_once(key: str, line: str) -> None:
    """Write a loss, a refusal, or that nothing is captured: in whichever process of the tree meets it first, once for
    each key. Workers warn too: they are where the calls are made."""
    if key not in _written:
        _written.add(key)
        if _is_first(key, None):
            _write(line)


def warn_every(key: str, line: str, every_s: float) -> bool:
    """Warn of what recurs: once in `every_s` seconds in a tree of processes. Whether this process wrote it."""
    if not _is_first(key, every_s):
        return False
    _write(line)
    return True


def _is_first(key: str, every_s: float | None) -> bool:
    return tree is None or debug or tree.claim(key, every_s)


def _write(line: str) -> None:
    # The interpreter's own stream shows whether there is one: where the program was started with it closed, the number
    # 2 may belong to a file or a socket of the host's by now.
    stream = sys.__stderr__
    # A line can quote the program's texts only where this module is loaded. Nothing is imported here: another thread
    # may be in the middle of loading it.
    secret_texts = package.loaded("scrubbing.secret_texts")
    try:
        if secret_texts is not None and not getattr(secret_texts.__spec__, "_initializing", False):
            line = secret_texts.scrub_text(line, True)
        if stream is not None and not stream.closed:
            os.write(stream.fileno(), (PREFIX + line + "\n").encode("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        pass
