"""The lines on standard error that docs/troubleshooting.md explains are lines that the package prints."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT

import posthog_autoinstrument

PAGE = ROOT / "docs" / "troubleshooting.md"


def messages() -> list[str]:
    """The first column of the table between the marks."""
    table = PAGE.read_text().partition("<!-- messages:")[2].partition("<!-- end of messages -->")[0]
    return re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)


@functools.cache
def literals() -> tuple[str, ...]:
    return tuple(_literals())


def _literals() -> Iterator[str]:
    """The texts of the package's code; what an f-string puts in is a space."""
    for path in Path(posthog_autoinstrument.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_there_is_a_table() -> None:
    assert len(messages()) >= 10


@pytest.mark.parametrize("message", messages())
def test_the_message_is_printed_somewhere(message: str) -> None:
    """`...` stands for what is variable."""
    pattern = re.compile(".*".join(map(re.escape, message.split("..."))), re.DOTALL)
    assert any(map(pattern.search, literals())), message
