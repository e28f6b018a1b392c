"""Wakes the agent when an SDK is imported. Runs in every Python process under the launcher, at start-up.

So it imports nothing that a bare interpreter has not loaded, and costs one finder on `sys.meta_path`. The finder walks
the other finders itself: `importlib.util.find_spec` takes the parent package's import lock, which hung programs that
import their own submodule in a thread (ddtrace with snowflake-connector 4.4).
"""

import sys

TYPE_CHECKING = False  # `typing` costs 10 ms, and `from __future__ import annotations` is an import too
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SUMMARY = "POSTHOG_AUTOINSTRUMENT_SUMMARY"
SENTINEL = "_posthog_autoinstrument_finder"
"""On `sys`: the finder of this interpreter. Survives `del sys.modules[...]`, which other agents do at start-up."""
TRIGGERS = ("openai",)
"""Packages whose import loads the agent: those of the providers, spelled here because reading them is an import."""


BORDERS = ("celery.signals", "dramatiq.worker", "rq.job", "huey.api", "distributed.client", "distributed.worker")
"""Modules by which a context comes in, in programs that may load no SDK before: see `borders`."""
TASK_RUNNERS = {"ray._private.function_manager": "ray", "airflow.sdk.execution_time.task_runner": "airflow"}
"""Modules that run tasks of processes which end without exit hooks -> the file of `integrations.workers` about them. A
task may be the first to import the SDK."""
SESSIONS = (
    "gradio.blocks",
    "streamlit.runtime.scriptrunner.script_runner",
    "chainlit.utils",
    "chainlit.callbacks",
)
"""The same of sessions whose first turn may import the SDK: see `frameworks`."""
POSTHOG_CLIENT = "posthog.client"
"""Whose clients may say that all is private, and may be made before an SDK is imported: see `posthogclients`."""


class Finder:
    """Tells callbacks of modules when they have loaded, without replacing their loaders' type or identity."""

    def __init__(self) -> None:
        import os

        self.tree = f"{os.getpid()}:{os.urandom(8).hex()}"
        """Where no launcher has named the tree of processes: what forked children have in common."""
        self.before: dict[str, Callable[[str], None]] = {}
        """Module name -> callback before the module runs."""
        self.after: dict[str, list[Callable[[str], None]]] = {}
        """Module name -> callbacks after it has run, in the order in which they came."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name not in self.before and name not in self.after:
            return None
        for finder in list(sys.meta_path):
            if finder is self:
                continue
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec(name, path, target) if find_spec is not None else None
            if spec is not None:
                self.attach(spec.loader)
                return spec
        return None

    def attach(self, loader: "Any") -> None:
        """Have `loader` tell us, by an attribute of the instance: hosts check loaders by type and compare them."""
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type) or getattr(execute, SENTINEL, False):
            return
        finder = self

        def exec_module(module: "Any") -> None:
            if getattr(loader, "name", None) == module.__name__:
                # The loader of one module: leave it as it was. One shared by many (zipimport) keeps telling.
                loader.__dict__.pop("exec_module", None)
            before = finder.before.get(module.__name__)
            if before is not None:
                before(module.__name__)
            execute(module)
            for after in list(finder.after.get(module.__name__, ())):
                after(module.__name__)

        setattr(exec_module, SENTINEL, True)
        try:
            loader.exec_module = exec_module
        except AttributeError:
            pass

    def watch(self, name: str, callback: "Callable[[str], None]") -> None:
        """Have `callback(name)` called after the module has run, beside those that are there; it is there once. It must
        not raise: it would fail the import."""
        callbacks = self.after.setdefault(name, [])
        if callback not in callbacks:
            callbacks.append(callback)


def finder() -> Finder:
    """The finder of this interpreter, installed on `sys.meta_path`."""
    found = getattr(sys, SENTINEL, None)
    if found is None:
        found = Finder()
        setattr(sys, SENTINEL, found)
    if found not in sys.meta_path:
        sys.meta_path.insert(0, found)
    return found


def wake() -> None:
    """Have the agent loaded when an SDK is imported. Idempotent in an interpreter."""
    if getattr(sys, SENTINEL, None) is None:
        found = finder()
        for name in TRIGGERS:
            found.before[name] = load_agent
        for name in BORDERS:
            found.watch(name, _border_loaded)
        for name in SESSIONS:
            found.watch(name, _session_loaded)
        found.watch(POSTHOG_CLIENT, _client_loaded)
        for name in TASK_RUNNERS:
            found.watch(name, _task_runner_loaded)
        _expect_summary()


def _expect_summary() -> None:
    """Where a summary is asked for, have one said of a program that never loads the agent, too."""
    import os

    if os.environ.get(SUMMARY, "").strip() in ("", "0"):
        return  # nothing of ours need be loaded for it
    from ..core import environment

    if environment.is_on(os.environ, SUMMARY, False) and environment.is_main_process(os.environ):
        import atexit  # built in

        atexit.register(_sum_up)


def _sum_up() -> None:
    try:
        from .. import api

        api.summarize_nothing()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise


def _client_loaded(name: str) -> None:
    try:
        from ..context import posthog_clients

        posthog_clients.loaded(name)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        from ..core import guard

        guard.report("watch the clients of posthog", error)


def _session_loaded(name: str) -> None:
    try:
        from ..integrations import web

        web.loaded(name)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        from ..core import guard

        guard.report("hook a session", error)


def _task_runner_loaded(name: str) -> None:
    try:
        from ..core import package

        package.load(f"integrations.workers.{TASK_RUNNERS[name]}").patch()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        from ..core import guard

        guard.report("hook a task runner", error)


def _border_loaded(name: str) -> None:
    try:
        from .. import propagation

        propagation.install()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        from ..core import guard

        guard.report("install the borders", error)


def load_agent(name: str) -> None:
    """An SDK is about to be imported: load the agent and its hooks, once."""
    found = finder()
    for trigger in TRIGGERS:
        found.before.pop(trigger, None)
    try:
        from .. import api

        api.start()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        from ..core import guard

        guard.report("start", error)
