"""The registry: which file instruments which module, and that nothing is imported before the module is."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from types import ModuleType

import pytest

import posthog_autoinstrument
from posthog_autoinstrument.bootstrap import import_hook
from posthog_autoinstrument.integrations import BEFORE_SDK, FILES, registry
from posthog_autoinstrument.settings.config import Config

NAME = "posthog_autoinstrument"
ROOT = Path(posthog_autoinstrument.__file__).parent
PAIRS = [
    (file, module) for files in FILES.values() for file, modules in files.items() for module in modules
]  # fmt: skip


@pytest.mark.parametrize(("file", "module"), PAIRS)
def test_each_file_knows_its_modules(file: str, module: str) -> None:
    instrument = importlib.import_module(f"{NAME}.{file}").instrument
    with contextlib.suppress(AttributeError):  # the module has nothing of what the file replaces
        assert instrument(ModuleType(module), Config()) is False


def test_each_file_that_instruments_is_in_the_table() -> None:
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.rglob("*.py")
        if "\ndef instrument(module: ModuleType, settings: Config)" in path.read_text("utf-8")
    }
    assert found == {file for files in FILES.values() for file in files}


def test_the_table_names_what_there_is() -> None:
    assert set(BEFORE_SDK) <= set(FILES)
    assert set(registry.OPEN_CONTEXTS) <= set(FILES)
    assert registry.FINDER == import_hook.SENTINEL


def test_a_file_is_imported_when_its_module_is(run_program) -> None:  # type: ignore[no-untyped-def]
    ran = run_program(
        """
        import sys
        from posthog_autoinstrument.integrations import FILES
        def ours(*kinds):
            files = [file for kind in kinds for file in FILES[kind]]
            return [file for file in files if f"posthog_autoinstrument.{file}" in sys.modules]
        import openai
        print(ours("propagation", "workers", "http_clients", "agents", "platforms", "sessions"))
        from posthog_autoinstrument import posthog_context
        print("propagation.threads" in ours("propagation"), ours("workers", "http_clients", "agents", "platforms"))
        import wsgiref.handlers
        print("integrations.web.wsgi" in ours("web"))
        """
    )
    assert ran.stdout == "[]\nTrue []\nTrue\n", ran.stderr
