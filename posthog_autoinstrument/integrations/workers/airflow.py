"""Airflow 3 runs each task in a forked process that leaves by `os._exit`. What a task has captured is delivered when
its function has ended, before its state is sent to the supervisor, within the exit timeout.

`lifecycle.exits` delivers at `os._exit` too, but too late for the supervisor. If the sockets of a process are closed
and it still exists when the supervisor looks, the supervisor looks again after 5 seconds (apache-airflow-task-sdk 1.3,
`WatchedSubprocess._service_subprocess`): 8 of 60 tasks without us, 33 where `os._exit` delivered.

The task runner calls its function `_execute_task` by name (task SDK 1.3).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core import guard, package
from ...core.patching import replace
from ...settings.config import Config


def instrument(module: ModuleType, settings: Config) -> bool:
    """`airflow.sdk.execution_time.task_runner`."""
    return replace(module, "_execute_task", _execute_task)


def _execute_task(original: Any) -> Any:
    def _execute_task(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            api = package.loaded("api")
            if api is not None:
                guard.attempt("deliver before the end of a task of Airflow", api.deliver_for_task)

    return _execute_task
