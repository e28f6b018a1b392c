"""A window of Chromium, and everything that went wrong in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Window:
    """A window of the browser, and everything that went wrong in it."""

    page: Any
    base: str
    complaints: list[str] = field(default_factory=list)
    """Of the console, of scripts, and of dialogs, which no page of ours opens."""
    requested: list[str] = field(default_factory=list)

    def go(self, path: str) -> Any:
        """The page at a path, loaded."""
        answer = self.page.goto(self.base + path)
        assert answer.status == 200, path
        return self.page

    def check(self) -> None:
        """Nothing was complained of, and nothing was asked of another host."""
        assert self.complaints == []
        assert [url for url in self.requested if not url.startswith(self.base + "/")] == []
