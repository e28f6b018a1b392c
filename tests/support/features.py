"""What the installed openai package can do: asked of its classes and never of its version number.

`make matrix` runs these tests on SDKs of three years, which lack methods that newer ones have.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
import sys
from typing import Any

import pytest


@functools.cache
def has(path: str) -> bool:
    """Whether a client, or the package itself, has it: `has("responses.parse")`, `has("LengthFinishReasonError")`."""
    import openai

    with openai.OpenAI(api_key="sk-test") as client:
        return any(_reaches(owner, path) for owner in (client, openai))


def _reaches(owner: Any, path: str) -> bool:
    try:
        operator.attrgetter(path)(owner)
    except AttributeError:
        return False
    return True


def takes(path: str, argument: str) -> bool:
    """Whether a method of a client has this parameter: `takes("images.generate", "stream")`."""
    import openai

    with openai.OpenAI(api_key="sk-test") as client:
        return argument in inspect.signature(operator.attrgetter(path)(client)).parameters


def needs_argument(path: str, argument: str) -> pytest.MarkDecorator:
    """Skip the test where a method of the SDK has no such parameter."""
    return pytest.mark.skipif(not takes(path, argument), reason=f"{path} of this openai takes no {argument}")


def needs(*paths: str) -> pytest.MarkDecorator:
    """Skip the test where the SDK lacks one of these."""
    missing = [path for path in paths if not has(path)]
    return pytest.mark.skipif(bool(missing), reason=f"this openai has no {', '.join(missing)}")


_NEEDS = re.compile(r"^(?P<indent> *)\S.*# needs (?P<path>\S+)$")


def supported(source: str) -> str:
    """Source of a program without the lines that end with `# needs PATH` and what is indented below them, where the
    SDK lacks it."""
    kept: list[str] = []
    left_out: int | None = None
    for line in source.splitlines():
        indent = len(line) - len(line.lstrip())
        if left_out is not None and (not line.strip() or indent > left_out):
            continue
        found = _NEEDS.match(line)
        left_out = indent if found and not has(found["path"]) else None
        if left_out is None:
            kept.append(line)
    return "\n".join(kept) + "\n"


def httpx() -> Any:
    """The library that this openai speaks HTTP with: httpx, or httpx2 from openai 3.0 on."""
    import openai

    return sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
