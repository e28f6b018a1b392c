"""This package itself: its folder, and those of its modules that are loaded by name when they are needed.

Every such name goes through this file: `tests/unit/test_architecture.py` finds them by it, and a wrong one fails there.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

NAME = __name__.partition(".")[0]
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder of the package. It distinguishes frames of our functions from the program's."""


def load(path: str) -> ModuleType:
    """The module at `path` below the package (`integrations.web.flask`), imported if it is not yet."""
    return importlib.import_module(f"{NAME}.{path}")


def loaded(path: str) -> ModuleType | None:
    """The same module where it has been imported; None where not."""
    return sys.modules.get(f"{NAME}.{path}")
