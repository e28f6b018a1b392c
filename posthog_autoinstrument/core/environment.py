"""Environment variables that are no settings, and flags that are read before `settings` may be imported.

Read at start-up in processes that may never load the agent: imports nothing that a bare interpreter has not loaded.
"""

import os

TYPE_CHECKING = False  # `typing` costs 10 ms, and `from __future__ import annotations` is an import too
if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHED = "POSTHOG_AUTOINSTRUMENT_LAUNCHED"
"""Set by the launcher: the label of the process tree (`process_tree.label`). Begins with the process id of the
launcher, which is the main program's own after exec."""
LAUNCHER = "POSTHOG_AUTOINSTRUMENT_LAUNCHER"
"""Set by the launcher: its Python, for the message of a Python that has no agent."""
KEPT = "POSTHOG_AUTOINSTRUMENT_KEPT"
"""Set by the launcher: the line on where calls are kept, which the launched process prints once its agent is ready."""
PARENT_CONTEXT = "POSTHOG_AUTOINSTRUMENT_CONTEXT"
"""Set by a parent process that has the agent: the context in which the child was started."""
INTERNAL = (LAUNCHED, LAUNCHER, KEPT, PARENT_CONTEXT)


def current() -> "Mapping[str, str]":
    """The environment of this process as it is now."""
    return os.environ


def flag(text: str) -> bool:
    """The value of a flag. Raises ValueError for a text that is none."""
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off", ""):
        return False
    raise ValueError


def is_on(environ: "Mapping[str, str]", variable: str, default: bool) -> bool:
    """The flag in `variable`; `default` where it is not set or no flag."""
    text = environ.get(variable, "")
    try:
        return flag(text) if text.strip() else default
    except ValueError:
        return default


def is_main_process(environ: "Mapping[str, str]") -> bool:
    """Whether this process is the launched program itself, not a child of it. True in every process without a
    launcher."""
    root = environ.get(LAUNCHED, "").partition(":")[0]
    # Windows has no exec: there the launcher is the program's parent.
    return not root or root == str(os.getpid()) or (os.name == "nt" and root == str(os.getppid()))
