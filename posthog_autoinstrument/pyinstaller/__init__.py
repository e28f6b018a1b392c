"""PyInstaller finds the hook of this folder by the entry point `pyinstaller40` (PyInstaller 4.0 and newer)."""

from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """Where the hook is."""
    return [os.path.dirname(__file__)]
