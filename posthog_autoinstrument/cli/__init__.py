"""The command line: `posthog-instrument`, its own words first, everything else a program to start."""

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
Start a Python program so that every OpenAI call in it, by whatever library,
becomes an event in PostHog. The program's code is not changed.

  posthog-instrument python app.py            a program and its arguments
  posthog-instrument app.py                   a Python file, run by this Python
  posthog-instrument -m package.module        a module, run by this Python
  posthog-instrument gunicorn app:app         anything on PATH
  posthog-instrument run demo                 a program that is named like one
                                              of our own words (also: -- demo)

options (before the command; what stands after it is the program's own):
  --local        keep events in the local store, even with a PostHog token
  --summary      say on standard error, when the program has ended, how many
                 calls it made, their tokens, cost and the slowest
  --debug        say on standard error what the agent does
  -h, --help     this text
  -V, --version  the version

our own words:
  demo           run an example program against a bundled server
  view           show the local store as a page in the browser
  events         print what is in the local store; --follow: as it comes
  stats          calls, errors, tokens, costs and times of the local store
  send           ship a spool or the local store to PostHog
  doctor         check settings, versions, patch points, host and token;
                 doctor COMMAND ...: and the Python that COMMAND would run
                 (each has a --help of its own)

environment:
  POSTHOG_PROJECT_TOKEN   your project token (phc_...); without it events stay
                          in the local store
  POSTHOG_HOST            where PostHog takes events (default: US cloud)
  POSTHOG_PRIVACY_MODE    1: no prompts, answers and error texts in events
  POSTHOG_AUTOINSTRUMENT_DISABLED
                          1: capture nothing
  all others              posthog-instrument doctor, docs/settings.md

exit code: the program's own; 127 program not found, 126 not executable,
2 for a wrong use of this command.
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
            return _with_output(lambda: _tell(HELP))
        elif option in ("-V", "--version"):
            return _with_output(lambda: _tell(f"posthog-autoinstrument {__version__}\n"))
        else:
            diagnostics.write(f"unknown option {option} (options of the program stand after it)")
            _usage()
            return 2
    if arguments and arguments[0] in ("demo", "view", "events", "stats", "send", "doctor"):
        return _with_output(lambda: _own_word(arguments[0], arguments[1:], local, debug))
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


def _tell(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _with_output(command: Callable[[], int]) -> int:
    """Run a command of ours. Where its standard output takes nothing, one line says so, and the exit code is 1."""
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


def _own_word(word: str, arguments: list[str], local: bool, debug: bool) -> int:
    from ..settings import loader
    from ..store import columns

    environ = dict(os.environ)
    if local:
        environ["POSTHOG_AUTOINSTRUMENT_LOCAL"] = "1"
    if debug:
        environ["POSTHOG_AUTOINSTRUMENT_DEBUG"] = "1"
    settings = loader.load(environ)
    diagnostics.main_pid = diagnostics.tree = None  # a command of ours speaks, also where it was itself launched
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
