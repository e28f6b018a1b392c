"""The command line `posthog-instrument`: its own commands; anything else is a program to start."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from .._version import __version__
from ..core import diagnostics

USAGE = """\
usage: posthog-instrument [OPTION ...] [run | --] COMMAND [ARG ...]
       posthog-instrument demo|view|events|stats|send|doctor [OPTION ...]
"""

HELP = f"""{USAGE}
Start a Python program so that every OpenAI call in it, from any library, is
captured as an event in PostHog. The program's code is not changed.

  posthog-instrument python app.py            a program and its arguments
  posthog-instrument app.py                   a Python file, run by this Python
  posthog-instrument -m package.module        a module, run by this Python
  posthog-instrument gunicorn app:app         anything on PATH
  posthog-instrument run demo                 a program that has the name of a
                                              command below (also: -- demo)

options (before COMMAND; the options after it belong to the program):
  --local        keep events in the local store, even with a PostHog token
  --summary      print a summary on standard error when the program ends:
                 its calls, their tokens and cost, and the slowest one
  --debug        log what the agent does on standard error
  -h, --help     this text
  -V, --version  the version

commands:
  demo           run an example program against a bundled server
  view           show the local store as a page in the browser
  events         print the events of the local store; --follow: new ones
  stats          calls, errors, tokens, costs and latencies of the local store
  send           send a spool or the local store to PostHog
  doctor         check settings, versions, patch points, host and token;
                 doctor COMMAND ...: also the Python that COMMAND runs
                 (each command has its own --help)

environment:
  POSTHOG_PROJECT_TOKEN   your project token (phc_...); without it events stay
                          in the local store
  POSTHOG_HOST            PostHog's address (default: US cloud)
  POSTHOG_PRIVACY_MODE    1: no prompts, answers or error texts in events
  POSTHOG_AUTOINSTRUMENT_DISABLED
                          1: capture nothing
  all others              posthog-instrument doctor, docs/settings.md

exit code: the program's own; 127 program not found, 126 not executable,
2 wrong usage of this command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point `posthog-instrument`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    local = debug = summary = False
    while arguments and arguments[0].startswith("-") and arguments[0] not in ("-m", "--"):
        option = arguments.pop(0)
        if option == "--local":
            local = True
        elif option == "--debug":
            debug = True
        elif option == "--summary":
            summary = True
        elif option in ("-h", "--help"):
            return _with_output(lambda: _print(HELP))
        elif option in ("-V", "--version"):
            return _with_output(lambda: _print(f"posthog-autoinstrument {__version__}\n"))
        else:
            diagnostics.write(f"unknown option {option} (options of the program go after it)")
            _usage()
            return 2
    if arguments and arguments[0] in ("demo", "view", "events", "stats", "send", "doctor"):
        return _with_output(lambda: _run_command(arguments[0], arguments[1:], local, debug))
    if arguments and arguments[0] in ("run", "--"):
        del arguments[0]
    if not arguments or (arguments[0] == "-m" and len(arguments) == 1):
        _usage()
        return 2
    from . import launcher

    return launcher.launch(arguments, local, debug, summary)


def _usage() -> None:
    if sys.stderr is not None:
        sys.stderr.write(USAGE)


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _with_output(command: Callable[[], int]) -> int:
    """Run one of our commands. If standard output cannot be written, print one line and return exit code 1."""
    from .terminal import detach

    if sys.stdout is None:  # closed, as `>&-` and some services do
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        detach(sys.stdout)
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        detach(sys.stdout)
        diagnostics.write(f"cannot write to standard output: {error.strerror}")
        return 1


def _run_command(word: str, arguments: list[str], local: bool, debug: bool) -> int:
    from ..settings import loader
    from ..store import columns

    environ = dict(os.environ)
    if local:
        environ["POSTHOG_AUTOINSTRUMENT_LOCAL"] = "1"
    if debug:
        environ["POSTHOG_AUTOINSTRUMENT_DEBUG"] = "1"
    settings = loader.load(environ)
    # Our commands write to standard error even when they were launched themselves.
    diagnostics.main_pid = diagnostics.tree = None
    if word == "events":
        from . import events

        return events.main(arguments, path=settings.db_path, summarise=columns.summary, stdout=sys.stdout)
    if word == "demo":
        from . import demo

        return demo.main(arguments, settings)
    if word == "view":
        from . import view

        return view.main(arguments, settings, sys.stdout)
    if word == "stats":
        from . import stats

        return stats.main(arguments, settings, sys.stdout)
    if word == "send":
        from . import send

        return send.main(arguments, settings)
    from . import doctor

    return doctor.main(arguments, settings)
