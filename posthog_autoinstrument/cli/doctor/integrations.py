"""Web servers, frameworks and libraries that are instrumented here, and PostHog's own integrations beside us."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from ...capture import owner
from ...core import guard
from ...instrumentation import deduplication
from ...integrations import FILES, registry
from ...settings.config import Config
from .python import version_of
from .report import Check
from .sdks import imported

_EFFECTS = {"web": "each request has a context", "agents": "its steps are recorded as spans"}
"""Kind of integration -> what it does."""
_DISTRIBUTIONS = {"agents": "openai-agents", "langchain_core": "langchain-core"}
"""Package -> its distribution, where that has another name."""


def check(settings: Config) -> Iterator[Check]:
    """What opens a context or records spans by itself, of all that is installed."""
    if settings.disabled:
        yield Check("not instrumented", "nothing is captured")
        return
    absent = []
    for distribution, (modules, effect) in _instrumented(settings).items():
        version = version_of(distribution)
        if version is None:
            absent.append(distribution)
        else:
            yield _of_distribution(f"{distribution} {version}", modules, effect)
    # Chainlit writes its configuration into the current folder when it is imported.
    for distribution in dict.fromkeys(name.partition(".")[0] for names in FILES["sessions"].values() for name in names):
        version = version_of(distribution)
        if version is None:
            absent.append(distribution)
        else:
            yield Check(f"{distribution} {version}", "each turn of a session has a context (not imported here)")
    yield Check("not installed", ", ".join(absent))


def _instrumented(settings: Config) -> dict[str, tuple[list[str], str]]:
    """Distribution -> its modules that are patched, and what for."""
    found: dict[str, tuple[list[str], str]] = {}
    for kind, effect in _EFFECTS.items():
        if kind == "agents" and not settings.library_spans:
            continue
        for module in (module for modules in FILES[kind].values() for module in modules):
            if not module.startswith("wsgiref"):
                package = module.partition(".")[0]
                found.setdefault(_DISTRIBUTIONS.get(package, package), ([], effect))[0].append(module)
    return found


def _of_distribution(title: str, modules: list[str], effect: str) -> Check:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # servers warn of optional protocols
        there = [name for name in modules if guard.quietly(imported, name)]
    if not there:
        return Check(title, "cannot be imported")
    missing = [name for name in there if not registry.instrumented.get(name)]
    if not missing:
        return Check(title, effect)
    state = f"{', '.join(missing)} of this version is not known and not instrumented"
    return Check(title, state, problem=f"{title}: {state}")


def others() -> Iterator[Check]:
    """The integrations that a program here could use. Which one it does use is known only while it runs."""
    for name, distributions in deduplication.NEEDED.items():
        missing = [one for one in distributions if version_of(one) is None]
        verb = "is" if len(missing) == 1 else "are"
        yield Check(name, f"unavailable: {' and '.join(missing)} {verb} not installed" if missing else "available")
    yield Check("AI gateway", f"calls to {', '.join(sorted(owner.GATEWAY_HOSTS))}")
