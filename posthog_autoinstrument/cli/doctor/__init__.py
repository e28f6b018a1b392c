"""`posthog-instrument doctor`: what is set, installed and patched here, and whether events would arrive.

It starts the agent in its own process and imports the SDKs, so its patch points are those that a program gets. Each
file checks one subject and yields a `Check` for everything it looks at.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence

from ... import api
from ..._version import __version__
from ...settings.config import Config
from .. import launcher
from . import destination, integrations, program, python, sdks, values
from .report import Check, Report


def main(arguments: Sequence[str], settings: Config) -> int:
    """Print the report; 0 if no problem was found, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="posthog-instrument doctor",
        description="Check whether calls would be captured and events arrive: for COMMAND, or for this Python. "
        "COMMAND is not started. No event is sent.",
        epilog="exit code: 0 if no problem was found, 1 otherwise",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="a program and its arguments")
    # `-m` begins a command, as after `posthog-instrument`; argparse would take it for an option.
    is_module = arguments[:1] and arguments[0] == "-m"
    command = parser.parse_args(["--", *arguments] if is_module else list(arguments)).command
    if command[:1] in (["--"], ["run"]):
        del command[0]
    report = Report()
    report.add(f"posthog-autoinstrument {__version__}")
    environ = launcher.environment(dict(os.environ), local=False, debug=False)
    folders = [os.getcwd()]
    if command:
        found = program.look_at(launcher.command_line(command), environ)
        if found.other is not None:
            options = ["--local"] if settings.local else []
            again = [found.other, "-m", "posthog_autoinstrument", *options, "doctor", "--", *command]
            return subprocess.run(again, check=False).returncode
        report.add("Program", found.checks)
        folders = found.folders
    else:
        notes = (program.of_path(name, environ) for name in ("python", "python3"))
        report.add("", [Check("python on PATH", note=next(filter(None, notes), ""))])
    report.add("Settings", values.check(settings, os.environ), width=40)
    report.add("", values.check_functions(settings, folders))
    report.add("Versions", python.versions())
    report.add("Start-up", python.start_up(os.environ))
    patchers = api.start(explicit=True).patchers
    for one in patchers:
        report.add(sdks.heading(one), sdks.check(one))
    report.add("Web servers, frameworks and libraries", integrations.check(settings))
    report.add(
        "Other PostHog integrations (calls that one of them captures are not captured twice)", integrations.others()
    )
    report.add("", sdks.none_installed(patchers))
    report.add("PostHog", destination.check_posthog(settings))
    report.add("Local store", destination.check_store(settings))
    if settings.spool is not None:
        report.add("Spool", destination.check_spool(settings.spool))
    report.print("the local store" if destination.is_local(settings) else "PostHog")
    return 1 if report.problems else 0
