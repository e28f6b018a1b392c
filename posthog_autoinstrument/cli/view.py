"""`posthog-instrument view`: the page of the local store."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from typing import TextIO

from ..core import diagnostics, environment
from ..core.formatting import clean
from ..settings.config import Config

NEEDED = ("starlette", "uvicorn", "jinja2")
"""Packages of the extra `viewer` without which there is no page. Prices are left out where theirs is missing."""

_DESCRIPTION = "Show the local store as a page in the browser: calls, traces, costs, live."
_EPILOG = """\
Only this machine can open the page; its address contains a secret. On a
machine that you reach by ssh, forward the port first, to the same number:
ssh -L 8742:127.0.0.1:8742 HOST, and open the printed address.
"""


def main(arguments: Sequence[str], settings: Config, stdout: TextIO) -> int:
    """Serve until Ctrl-C; 0 then, 1 when it cannot begin. Wrong arguments end in argparse's message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="posthog-instrument view",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--db", metavar="PATH", help=f"the store (default: {settings.db_path})")
    parser.add_argument("--port", type=_port, metavar="N", help="the port (default: 8742, or the next free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, but do not open it")
    parser.add_argument(
        "--receive", action="store_true", help="also receive events from PostHog's own SDKs, in any language"
    )
    options = parser.parse_args(list(arguments))
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        diagnostics.write(f'the page needs {", ".join(missing)}: pip install "posthog-autoinstrument[viewer]"')
        return 1
    from ..store import prices
    from ..store.database import StoreError
    from ..store.queries import Queries
    from ..viewer import server
    from ..viewer.app import Pages
    from ..viewer.ingest import Ingest

    path = options.db or settings.db_path
    try:
        known = prices.Prices.load(settings.prices_path)
        Queries(path).close()  # whether it can be used at all
        listener = server.listen(options.port)
    except (StoreError, prices.PricesError, server.PortError) as error:
        diagnostics.write(clean(str(error)))
        return 1
    with listener:
        opened = not options.no_browser and _has_browser()
        ingest = Ingest(path, settings.store_max_mb * 1_000_000) if options.receive else None
        server.serve(lambda port, token: Pages(path, known, settings, port, token), listener, opened, stdout, ingest)
    return 0


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")


def _has_browser() -> bool:
    """Whether there is a screen for one: where there is none, a browser in the terminal would take it over."""
    environ = environment.current()
    return sys.platform in ("win32", "darwin") or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
