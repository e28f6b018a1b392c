"""A process without the agent, for comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import drive


class Bare:
    """A process with the same client and without the agent."""

    def __init__(self) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(drive.__file__))],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def outcome(self, **case: Any) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the bare process ended with {self._process.wait(20)} at {case}"
        seen: list[str] = json.loads(line)
        return seen

    def close(self) -> None:
        self._process.communicate(timeout=20)
