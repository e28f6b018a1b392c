"""The settings and the captured calls, from the tables of the code."""

from __future__ import annotations

from typing import Any

from . import Regions
from .package import SETTINGS, load_providers

EVENTS = {"generation": "`$ai_generation`", "embedding": "`$ai_embedding`", "span": "`$ai_span`"}
NO_EVENT = "none of its own: the outcome of a call in the background"


def settings() -> str:
    lines = ["| Variable | Meaning | Accepts | Default |", "|---|---|---|---|"]
    for setting in SETTINGS:
        names = "<br>or ".join(f"`{name}`" for name in setting.names)
        lines.append(f"| {names} | {setting.help} | {setting.accepts} | {_default(setting.default)} |")
    return "\n".join(lines) + "\n"


def calls() -> str:
    """By path: the methods that are wrapped, and the event of a call."""
    lines = ["| Call | Path | Event |", "|---|---|---|"]
    for provider in load_providers():
        for endpoint in provider.endpoints:
            methods: dict[str, None] = {}
            for site in provider.methods:
                if site.endpoint == endpoint.name and not site.is_async:
                    resource = resource_of(site.module, provider.package)
                    methods.update(dict.fromkeys(f"`{resource}.{name}`" for name in (*site.methods, *site.streams)))
            path = endpoint.path if endpoint.method == "POST" else f"{endpoint.method} {endpoint.path}"
            names = ", ".join([*methods, *(f"`{name}`" for name in endpoint.transport_only)])
            lines.append(f"| {names} | `{path}` | {EVENTS.get(endpoint.kind, NO_EVENT)} |")
        sockets: dict[str, None] = {}
        for socket in provider.websockets:
            sockets[f"`{resource_of(socket.module, provider.package)}.connect`"] = None
        if sockets:
            lines.append(f"| {', '.join(sockets)} | WebSocket | {EVENTS['generation']} for each response |")
    return "\n".join(lines) + "\n"


def resource_of(module: str, package: str) -> str:
    """Where a module's class hangs below the client: `chat.completions`."""
    return ".".join(dict.fromkeys(module.removeprefix(f"{package}.resources.").split(".")))


def _default(value: Any) -> str:
    if value is None or value == {} or value == frozenset():
        return ""
    return f"`{int(value) if isinstance(value, bool) else value}`"


REGIONS: Regions = {"settings": settings, "calls": calls}
