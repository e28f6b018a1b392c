"""The SDKs: their versions, and what of them is patched."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence

from ...core import guard
from ...instrumentation import patcher
from ...instrumentation.patcher import PatchPoint
from .python import numbers_of, version_of
from .report import Check

ABSENT = "not in this version"
"""State of a patch point whose module or method this version of the SDK does not have. SDKs moved their classes."""
DEPRECATED = "captured, deprecated"
"""State of a method that the SDK marks as deprecated: a wrapper would be named in its warning. Its calls are captured
by the patched transport."""


def heading(sdk: patcher.Patcher) -> str:
    """The title of an SDK's section."""
    package = sdk.provider.package
    return f"Patch points of {package} {version_of(package) or ''}".rstrip()


def check(sdk: patcher.Patcher) -> Iterator[Check]:
    """The patch points of an SDK, and whether its version is one that is tested."""
    yield from _points(sdk)
    yield from _version(sdk)


def none_installed(sdks: Sequence[patcher.Patcher]) -> Iterator[Check]:
    """A problem if no SDK is installed at all."""
    packages = [sdk.provider.package for sdk in sdks]
    if not any(map(importlib.util.find_spec, packages)):
        names = " or ".join(packages)
        yield Check("", problem=f"the {names} package is not installed for {sys.executable}: no calls can be captured")


def imported(module: str) -> bool:
    """Whether the module can be imported; imports it."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _points(sdk: patcher.Patcher) -> Iterator[Check]:
    package = sdk.provider.package
    if importlib.util.find_spec(package) is None:
        yield Check("not loaded", "the package is not installed for this Python")
        return
    if guard.attempt(f"import {package}", importlib.import_module, package) is None:
        yield Check("", problem=f"the {package} package cannot be imported")
        return
    missing = {module for module in sdk.modules() if not imported(module)}
    for point in sdk.points:
        if point.module in missing:
            point.state = ABSENT
        elif point.state == "not matched":
            point.state = _why_not_matched(point)
    for state, where, methods in _rows(point for point in sdk.points if point.state != ABSENT):
        text = f"{where}: {', '.join(methods)}"
        problem = f"{text} of this version of {package} is not patched ({state})"
        yield Check(state, text, problem if state in ("not matched", "not loaded") else "")
    yield Check(ABSENT, ", ".join(_absent(sdk)))
    transport = (sdk.provider.transport.base_module, sdk.provider.transport.streaming_module)
    if any(point.state != "matched" for point in sdk.points if point.module in transport):
        versions = sdk.provider.versions
        wanted = f": pip install '{package}>={versions[1]},<{versions[2]}'" if versions else ""
        problem = f"not every call of this version of {package} can be captured: use another version of {package}"
        yield Check("", problem=problem + wanted)


def _version(sdk: patcher.Patcher) -> Iterator[Check]:
    """A version of the SDK that is too old or too new, with the remedy."""
    package, versions = sdk.provider.package, sdk.provider.versions
    version = version_of(package)
    if versions is None or version is None:
        return
    first, whole, untested = versions
    wanted = f"pip install '{package}>={whole},<{untested}'"
    if numbers_of(version) < numbers_of(first):
        yield Check("", problem=f"{package} {version} is too old, none of its calls are captured: {wanted}")
    elif numbers_of(version) < numbers_of(whole):
        yield Check("", note=f"{package} {version} is old, only its most common calls are captured: {wanted}")
    elif numbers_of(version) >= numbers_of(untested):
        yield Check(
            "",
            note=f"{package} {version} is newer than what this version of posthog-autoinstrument is tested with; "
            f"if calls are missing: pip install -U posthog-autoinstrument, or {wanted}",
        )


def _why_not_matched(point: PatchPoint) -> str:
    # The module's own dict: some versions keep old names alive lazily, for classes that are elsewhere.
    cls = vars(sys.modules[point.module]).get(point.cls)
    method = getattr(cls, point.method, None)
    if cls is None or method is None:  # None has an __init__ too
        return ABSENT
    return DEPRECATED if hasattr(method, "__deprecated__") else "not matched"


def _absent(sdk: patcher.Patcher) -> list[str]:
    """What this version of the SDK does not have in any of the places where versions have it: `chat.completions.parse`,
    `responses.connect` for all of a WebSocket, and the transport's own methods."""
    there = {(point.module, point.cls, point.method): point.state != ABSENT for point in sdk.points}
    labels: dict[tuple[str, str], str] = {}
    found: dict[str, bool] = {}
    for row in sdk.provider.methods:
        for method in (*row.methods, *row.streams):
            label = labels.setdefault((row.endpoint, method), f"{_public(row.module)}.{method}")
            found[label] = there.pop((row.module, row.cls, method)) or found.get(label, False)
    connects: dict[str, str] = {}
    for socket in sdk.provider.websockets:
        states = [there.pop((socket.module, socket.cls, method)) for method in patcher.WEBSOCKET_METHODS]
        label = connects.setdefault(socket.endpoint.name, f"{_public(socket.module)}.connect")
        found[label] = any(states) or found.get(label, False)
    found.update({f"{cls}.{method}": is_there for (_, cls, method), is_there in there.items()})
    return [label for label, is_there in found.items() if not is_there]


def _public(module: str) -> str:
    """How a program reaches what a module of resources defines: `chat.completions` of a client."""
    parts = module.rpartition(".resources.")[2].split(".")
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == parts[-2] else parts)


def _rows(points: Iterable[PatchPoint]) -> Iterator[tuple[str, str, list[str]]]:
    """State, class and methods: one row for the methods of a class that have the same state."""
    rows: dict[tuple[str, str], list[str]] = {}
    for point in points:
        rows.setdefault((point.state, f"{point.module}.{point.cls}"), []).append(point.method)
    for (state, where), methods in rows.items():
        yield state, where, methods
