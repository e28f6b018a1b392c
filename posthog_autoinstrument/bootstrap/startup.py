"""Start-up code of every Python process under the launcher: has the agent loaded when an SDK is imported.

Imports nothing that a bare interpreter has not loaded, and costs one finder on `sys.meta_path`.
"""

import sys

from . import import_hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SUMMARY = "POSTHOG_AUTOINSTRUMENT_SUMMARY"
TRIGGERS = ("openai",)
"""Packages whose import loads the agent: those of the providers, repeated here because reading them is an import."""


def install() -> None:
    """Have the agent loaded when an SDK is imported, and libraries instrumented that may import one later. Idempotent
    in an interpreter."""
    if getattr(sys, import_hook.SENTINEL, None) is None:
        from .. import integrations

        finder = import_hook.finder()
        for name in TRIGGERS:
            finder.before[name] = load_agent
        for kind in integrations.BEFORE_SDK:
            for modules in integrations.FILES[kind].values():
                for name in modules:
                    finder.watch(name, _module_loaded)
        _expect_summary()


def load_agent(name: str) -> None:
    """An SDK is about to be imported: start the agent, once."""
    for trigger in TRIGGERS:
        import_hook.finder().before.pop(trigger, None)
    _attempt("start", _start)


def _start() -> None:
    from .. import api

    api.start()


def _module_loaded(name: str) -> None:
    _attempt(f"instrument {name}", lambda: _instrument(name))


def _instrument(name: str) -> None:
    from ..integrations import registry

    registry.loaded_before_sdk(name)


def _expect_summary() -> None:
    """Where a summary is asked for, have one written at exit by programs that never load the agent, too."""
    import os

    if os.environ.get(SUMMARY, "").strip() in ("", "0"):
        return  # no other file of ours is loaded for it
    from ..core import environment

    if environment.is_on(os.environ, SUMMARY, False) and environment.is_main_process(os.environ):
        import atexit  # built in

        atexit.register(_attempt, "write the summary", _sum_up)


def _sum_up() -> None:
    from .. import api

    api.summarize_nothing()


def _attempt(step: str, function: "Callable[[], object]") -> None:
    """Call a step of ours. A failure is reported and never reaches the program."""
    try:
        function()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        from ..core import guard

        guard.report(step, error)
