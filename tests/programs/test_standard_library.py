"""What the package uses of the standard library that is private there, or that Python 3.14 changes: by stand-ins on
older ones."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import posthog_autoinstrument

PACKAGE = Path(posthog_autoinstrument.__file__).parent
PRIVATE = {"os._exit", "sys._getframe"}
"""In CPython's documentation in spite of their names. Whatever else there is, is asked for by `getattr` or `vars`."""
PREAMBLE = """
import contextvars, openai, signal, sys, threading, warnings
import posthog_autoinstrument

def ask():
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
"""


def test_private_names_of_the_standard_library() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.startswith("_"):
                found.add(f"{node.value.id}.{node.attr}")
            if isinstance(node, ast.ImportFrom) and node.module in sys.stdlib_module_names:
                found |= {f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_")}
    found = {name for name in found if name.partition(".")[0] in sys.stdlib_module_names and ".__" not in name}
    assert found == PRIVATE


def test_what_is_not_there_is_not_needed(run_program) -> None:
    """Private functions and C functions, and the list of warning filters, which is to become one of several."""
    program = """
import os
sys.modules["ctypes"] = sys.modules["_ctypes"] = None
del sys._current_frames
warnings.filters = tuple(warnings.filters)
ask()
thread = threading.Thread(target=ask)
thread.start()
thread.join()
child = os.fork()
if not child:
    ask()
    os._exit(0)
os.waitpid(child, 0)
os.kill(os.getpid(), signal.SIGTERM)
"""
    ran = run_program(PREAMBLE + program)
    assert (ran.returncode, ran.stdout) == (-15, ""), ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ran.events) == 3


def test_threads_that_run_in_a_context_of_their_own(run_program) -> None:
    """As in Python 3.14 (Lib/threading.py): `start` makes a Context where the program gave none, `_bootstrap_inner` has
    it run `run`. What the program gave keeps what it was given."""
    as_in_3_14 = """
import contextvars, sys, threading
if sys.version_info < (3, 14):
    start, bootstrap = threading.Thread.start, threading.Thread._bootstrap_inner

    def start_in_a_context(self):
        if getattr(self, "_context", None) is None:
            self._context = contextvars.Context()
        start(self)

    def run_in_its_context(self):
        run = self.run
        self.run = lambda: self._context.run(run)
        bootstrap(self)

    threading.Thread.start, threading.Thread._bootstrap_inner = start_in_a_context, run_in_its_context
"""
    program = """
given = contextvars.Context()
given.run(contextvars.ContextVar("theirs").set, 1)
with posthog_autoinstrument.posthog_context(distinct_id="ann"):
    for context in (None, given):
        thread = threading.Thread(target=ask)
        thread._context = context
        thread.start()
        thread.join()
print(len(given))
"""
    ran = run_program(as_in_3_14 + PREAMBLE + program)
    assert ran.stdout == "1\n", ran.stderr
    assert [event["distinct_id"] == "ann" for event in ran.events] == [True, False]
