"""`posthog-instrument demo`: an example program from call to event, on this machine, without a key or a project.

A fake OpenAI runs in this process; the example program runs in a process of its own, under the real launcher.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from ..core import diagnostics
from ..core.formatting import clean
from ..export.posthog_links import traces_url
from ..settings.config import Config
from ..settings.parsing import EU_HOST
from ..store import columns
from ..store.database import Store, StoreError, is_there
from ..store.summary import EventSummary
from ..testing import OpenAIServer
from .events import print_table

MARK = "demo_run"
"""The property on every event of one run: distinguishes its events from others in the same store or project."""

_DESCRIPTION = "Run an example program against a bundled fake OpenAI and show its events."
_EPILOG = """\
The events stay in the demo's own store, beside your local store. With
--send they go to your PostHog project instead (POSTHOG_PROJECT_TOKEN).
"""


def main(arguments: Sequence[str], settings: Config) -> int:
    """Run the demo; 0 when its events arrived, 1 when not, 2 for `--live` without a key."""
    parser = argparse.ArgumentParser(
        prog="posthog-instrument demo",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--live", action="store_true", help="call OpenAI itself, with OPENAI_API_KEY (costs a little)")
    parser.add_argument("--send", action="store_true", help="send the events to the project of POSTHOG_PROJECT_TOKEN")
    parser.add_argument("--model", default="gpt-4o-mini", help="chat model (default: %(default)s)")
    options = parser.parse_args(list(arguments))
    environ = dict(os.environ)
    if options.live and not environ.get("OPENAI_API_KEY"):
        diagnostics.write("demo --live needs OPENAI_API_KEY, the key of your OpenAI account")
        return 2
    if options.send and settings.token is None:
        diagnostics.write("demo --send needs POSTHOG_PROJECT_TOKEN, the token of your PostHog project")
        return 2
    if settings.disabled:
        diagnostics.write("POSTHOG_AUTOINSTRUMENT_DISABLED is set: nothing would be captured")
        return 1
    if importlib.util.find_spec("openai") is None:
        diagnostics.write('the demo needs the openai package: pip install "posthog-autoinstrument[demo]"')
        return 1

    path = os.path.join(os.path.dirname(settings.db_path), "demo.db")
    environ["POSTHOG_AUTOINSTRUMENT_DB"] = path
    environ["POSTHOG_AUTOINSTRUMENT_LOCAL"] = "0" if options.send else "1"
    if not options.send:
        environ.pop("POSTHOG_SPOOL", None)
    run = uuid.uuid4().hex[:12]
    started_at = time.time()
    environ["POSTHOG_AUTOINSTRUMENT_PROPERTIES"] = json.dumps({**settings.properties, MARK: run})
    command = ["posthog-instrument", "-m", "posthog_autoinstrument.cli.demo_app"]
    with ExitStack() as stack:
        if options.live:
            _print("The example program calls OpenAI itself.")
            command.append("--live")
        else:
            server = stack.enter_context(OpenAIServer())
            environ.update(_of_fake_server(environ, server.base_url))
            _print(f"A fake OpenAI is running at {server.base_url}; its answers are made up.")
        _print("", f"$ {' '.join(command)}")
        code, lost = _run_program([*command[1:], "--model", options.model], environ, settings)
    if code != 0:
        diagnostics.write(f"the example program ended with exit code {code}")
        return 1
    if options.send:
        return _after_sending(settings.host, run, lost)
    return _after_storing(path, run, started_at)


def _print(*lines: str) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()  # the program that runs next writes to the same place


def _of_fake_server(environ: Mapping[str, str], base_url: str) -> dict[str, str]:
    """Variables that point the openai package to the fake server, also if a proxy is set."""
    direct = ",".join(filter(None, (environ.get("NO_PROXY") or environ.get("no_proxy"), "127.0.0.1")))
    return {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-demo", "NO_PROXY": direct, "no_proxy": direct}


def _run_program(arguments: Sequence[str], environ: dict[str, str], settings: Config) -> tuple[int, bool]:
    """Run the launcher with `arguments`; its exit code, and whether the agent reported lost events."""
    options = ["--debug"] * settings.debug
    command = [sys.executable, "-m", "posthog_autoinstrument", *options, *arguments]
    lost = False
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        for line in child.stderr:
            lost = lost or (line.startswith(diagnostics.PREFIX.encode()) and b" lost " in line)
            sys.stderr.write(line.decode("utf-8", "replace"))
            sys.stderr.flush()
    return child.returncode, lost


def _after_storing(path: str, run: str, started_at: float) -> int:
    """Show the run's events in the local store."""
    try:
        shown = _stored(path, run, started_at)
    except StoreError as error:
        diagnostics.write(clean(str(error)))
        return 1
    if not shown:
        diagnostics.write(
            f"the example program left no events in {path}; run posthog-instrument doctor to find out why"
        )
        return 1
    _print("", f"{len(shown)} events, one for each call and one for the tool that was used:", "")
    print_table(shown, shutil.get_terminal_size((80, 24)).columns, sys.stdout)
    name, program = _names()
    _print(
        "",
        "Next steps:",
        "  see these calls as a page in the browser:",
        f"    {name} view --db {shlex.quote(path)}",
        "  print one event with all its properties:",
        f"    {name} events --db {shlex.quote(path)} --json --last 1",
        "  run your own program and keep its events in your local store:",
        f"    {name} {program}",
        "  run your own program and send its events to PostHog:",
        f"    POSTHOG_PROJECT_TOKEN=phc_... {name} {program}",
        f"    and POSTHOG_HOST=..., if your project is not in the US cloud (EU: {EU_HOST})",
        "  install posthog-autoinstrument in the environment of your program",
    )
    return 0


def _names() -> tuple[str, str]:
    """Our command as the user can type it here, and what to start with it: in an environment that is not activated,
    `python` would be another one, without us."""
    beside = os.path.join(os.path.dirname(sys.executable), "posthog-instrument")
    found = shutil.which("posthog-instrument")
    if found is None and os.path.exists(beside):
        return os.path.relpath(beside) if beside.startswith(os.getcwd() + os.sep) else beside, "app.py"
    return "posthog-instrument", "python app.py"


def _stored(path: str, run: str, started_at: float) -> list[EventSummary]:
    if not is_there(Path(path)):
        return []
    with Store(path) as store:
        # A second of slack: the store's times are wall clock times, and a clock may be set back.
        found = store.read(after=started_at - 1)
        return [columns.summary(one) for one in found if one.get("properties", {}).get(MARK) == run]


def _after_sending(host: str, run: str, lost: bool) -> int:
    """Print where the run's events are in PostHog; none of them are on this machine."""
    if lost:
        diagnostics.write(
            f"not all events reached {urlsplit(host).hostname}; run posthog-instrument doctor to find out why"
        )
        return 1
    _print(
        "",
        f"The events of these calls were sent to {host}; nothing was written to disk.",
        f"Look for them in {traces_url(host) or 'your PostHog'}; their property {MARK} is {run}.",
        f"Next: your own program, {' '.join(_names())}",
    )
    return 0
