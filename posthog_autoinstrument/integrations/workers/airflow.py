"""Airflow 3 runs each task in a forked process that leaves by `os._exit`. What a task has captured is delivered when
its function has ended, before its state is sent to the supervisor, within the exit timeout.

`lifecycle.exits` delivers at `os._exit` too, but too late for the supervisor. If the sockets of a process are closed
and it still exists when the supervisor looks, the supervisor looks again after 5 seconds (apache-airflow-task-sdk 1.3,
`WatchedSubprocess._service_subprocess`): 8 of 60 tasks without us, 33 where `os._exit` delivered.

The task runner calls its function `_execute_task` by name (task SDK 1.3). A task may be the first to import the SDK, so
this is there before the agent is.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from ...core import guard, package

MODULE = "airflow.sdk.execution_time.task_runner"
MARK = "_posthog_autoinstrument_airflow"


def patch() -> None:
    """`airflow.sdk.execution_time.task_runner` has loaded. Idempotent, never raises."""
    guard.attempt("deliver before the end of a task of Airflow", _patch)


def _patch() -> None:
    module = sys.modules.get(MODULE)
    original = getattr(module, "_execute_task", None)
    if module is None or original is None or hasattr(original, MARK):
        return

    @functools.wraps(original)
    def execute_task(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            agent = package.loaded("agent")
            if agent is not None:
                guard.attempt("deliver before the end of a task of Airflow", agent.deliver_for_task)

    setattr(execute_task, MARK, True)
    module._execute_task = execute_task  # type: ignore[attr-defined]
