"""The public functions that reach the agent of this process; the first of them makes it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from .agent import Agent
from .bootstrap import import_hook
from .capture import span_recorder
from .context import scope
from .core import diagnostics, guard
from .settings import loader

if TYPE_CHECKING:
    from .processing.before_send import Hook

running: Agent | None = None
"""The agent of this process."""
starting = threading.RLock()


def start(explicit: bool = False) -> Agent:
    """The agent of this process, made and installed the first time. `explicit`: the program asked for it by hand."""
    global running
    with starting:
        if running is None:
            settings = loader.load()
            if not settings.launched:
                diagnostics.tree = loader.process_tree_of(import_hook.finder().tree)
            agent = Agent(settings)
            # Started by PYTHONPATH alone, without a destination: capture nothing.
            if not (explicit or settings.launched or settings.local or settings.token or settings.disabled):
                agent.wait_for_project()
            agent.install()
            running = agent
            # `import openai` alone opens no context; the public names that do install propagation as well.
            if explicit or scope.CONTEXT.get() is not None:
                from . import propagation

                propagation.install(settings)
            span_recorder.recorder = agent.recorder
            scope.opentelemetry_trace_ids = settings.otel_trace_id
            scope.private = settings.privacy_mode
            if not settings.launched:  # the launcher has written them already
                for problem in settings.problems:
                    diagnostics.warn_once(problem, problem)
        elif explicit and not running.config.disabled and not running.drops:
            running.set_active(True)
        return running


def _start_under_launcher() -> None:
    """Start, where the launcher is: a program may name spans before it imports an SDK, or without one."""
    if getattr(sys, import_hook.SENTINEL, None) is not None:
        start()


span_recorder.start = _start_under_launcher


def instrument(token: str | None = None, host: str | None = None) -> None:
    """Instrument this process by hand, where the launcher cannot. Before or after `import openai`; idempotent.

    Also for clients that exist already. Never raises. `token` and `host` are those of the PostHog project, as in
    POSTHOG_PROJECT_TOKEN and POSTHOG_HOST, before which they come; one that is not accepted is named on standard error.
    All other settings come from the environment as under the launcher. Without a token, here, in the environment or set
    in code on the `posthog` module, nothing is captured.
    """
    agent = guard.attempt("start", start, True)
    if agent is not None and (token is not None or host is not None):
        guard.attempt("take the project", agent.take_arguments, token, host)


def flush(timeout_s: float | None = 10.0) -> bool:
    """Wait until every call captured so far has been delivered: to PostHog, or to the local store where that is the
    destination. True only then.

    False when `timeout_s` seconds ran out or cannot be enough (PostHog refuses the token, or asked for a longer pause),
    when events were lost since the last `flush`, and when calls are left in the spool, from where they are sent later.
    False at once inside `before_send`. None waits for as long as PostHog is tried, which may be for ever.

    For programs that are frozen or killed between jobs. Never raises; True where there is nothing to deliver.
    """
    if running is None:
        return True
    done = guard.attempt("flush", running.flusher.flush, timeout_s) or False
    running.process.end_if_signalled()
    return done


def configure(before_send: Hook | None = None) -> None:
    """Set in code what the environment cannot hold. `before_send(event)` is called with every event (a dict with
    event, uuid, timestamp, distinct_id and properties) on the flusher's thread, and returns it, changed or not, or
    None to drop it. Raises TypeError for something that cannot be called."""
    if before_send is not None and not callable(before_send):
        raise TypeError(f"configure: before_send must be callable, not {type(before_send).__name__}")
    agent = start()
    agent.pipeline.before_send.use(before_send)
    if agent.spool_writer is not None:
        guard.attempt("note before_send", agent.spool_writer.note_settings)


# For our own parts, not exported by the package


def deliver_for_task() -> None:
    """Deliver what waits, within the exit timeout: this process may be killed when a task is done."""
    if running is not None:
        running.task_delivery.deliver()


def deliver_now() -> None:
    """Deliver what waits, within the exit timeout: this process may be frozen next."""
    if running is not None:
        running.deliver_now()


def begin_delivery() -> Callable[[], bool] | None:
    """As `deliver_for_task`, without waiting (`TaskDelivery.begin`)."""
    return running.task_delivery.begin() if running is not None else None


def summarize_nothing() -> None:
    """At the end of a process that imported no SDK, as gunicorn's master does not, where a summary is asked for."""
    if running is None and loader.load().summary and diagnostics.is_main_process():
        nothing = "no calls were captured: this process imported no SDK (those of its child processes are not counted)"
        diagnostics.write_once("summary", nothing)
