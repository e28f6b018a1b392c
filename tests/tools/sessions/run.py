"""Real Gradio, Streamlit and Chainlit under the launcher, two users and more at once: whose each call is.

    make sessions                                                # all of them
    python tests/tools/sessions/run.py gradio                    # some
    python tests/tools/sessions/run.py --environment DIR gradio  # with the Python of an environment that has it all

A library is two files beside this one: `NAME_app.py`, an app, with its command (in which {port}) and what it needs in
its header (inline script metadata), and `NAME_users.py`, which talks to it as browsers do and prints a line for each
call that the app then makes: what it says to the model, the user (null: nobody), the session and the turn, as JSON. The
events must be the same calls, of these users; two calls are of one `$ai_session_id` and of one trace if and only if
their sessions and turns are the same. Exit code 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[2] / "build" / "sessions"
TIMEOUT_S = 240.0
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "CHAINLIT_AUTH_SECRET": "x" * 40, "HF_HUB_OFFLINE": "1"}
STREAMLIT = {"STREAMLIT_SERVER_TRUSTED_USER_HEADERS": '{"X-User": "email"}'}


def main() -> int:
    """Run the apps that were asked for; 0 when all calls are whose they should be."""
    known = {path.stem.removesuffix("_app"): path for path in sorted(HERE.glob("*_app.py"))}
    parser = argparse.ArgumentParser(description="Compare whose calls are with whose they should be.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--python", default=sys.executable, help="makes the environments")
    parser.add_argument("--wheel", help="the package to install into them")
    parser.add_argument("--environment", type=Path, help="use this one as it is, for all")
    options = parser.parse_args()
    wrong = 0
    for name in options.names or known:
        folder = options.environment or environment(name, known[name], options.python, options.wheel)
        for early in (True, False):
            said, events, problems = run(folder / "bin", known[name], early)
            problems += differences(said, events)
            wrong += len(problems)
            when = "at once" if early else "at the first call"
            print(f"{name:<12}openai imported {when:<18}{len(said):>4} calls  {'wrong:' if problems else 'right'}")
            for line in problems:
                print(f"    {line}")
    return 1 if wrong else 0


def environment(name: str, app: Path, python: str, wheel: str | None) -> Path:
    """The environment of a library, made once; the package is installed into it anew."""
    folder = ENVIRONMENTS / name
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    if not (folder / ".made").exists():
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([*pip, *json.loads(header(app, "dependencies")), "openai", "wrapt", "requests"], check=True)
        (folder / ".made").touch()
    if wheel is not None:
        subprocess.run([*pip, "--force-reinstall", "--no-deps", wheel], check=True)
    return folder


def header(app: Path, name: str) -> str:
    (found,) = re.findall(rf"(?m)^# {name} = (.*?)(?:  # .*)?$", app.read_text())
    return str(found)


def run(scripts: Path, app: Path, early: bool) -> tuple[list[Any], list[dict[str, Any]], list[str]]:
    """What the users said, the events of it, and what was wrong with the run."""
    with OpenAIServer() as openai, PostHogServer() as posthog, tempfile.TemporaryDirectory() as at:
        environ = {name: text for name, text in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
        environ |= QUIET | STREAMLIT
        environ |= {
            "OPENAI_BASE_URL": openai.base_url,
            "OPENAI_API_KEY": "sk-test",
            "POSTHOG_PROJECT_TOKEN": "phc_ours",
            "POSTHOG_HOST": posthog.url,
            "POSTHOG_AUTOINSTRUMENT_DEBUG": "1",
            "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.1",
        }
        if early:
            environ["IMPORT_EARLY"] = "1"
        port = free_port()
        words = [word.format(port=port, app=app.name) for word in json.loads(header(app, "command"))]
        (Path(at) / app.name).write_text(app.read_text())
        with served([scripts / "posthog-instrument", scripts / words[0], *words[1:]], environ, at, port) as output:
            users = [scripts / "python", app.with_name(app.name.replace("_app", "_users")), str(port)]
            done = subprocess.run(users, env=environ, cwd=at, stdout=-1, timeout=TIMEOUT_S, check=False)
            said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"[")]
            wait_for(lambda: len(calls(posthog.events)) >= len(said), 20)
        lines = output.read_text(errors="replace").splitlines()
        problems = [line for line in lines if "posthog" in line and ("could not" in line or "Error in" in line)]
        if done.returncode != 0 or not said:
            problems += [f"the users ended with {done.returncode}", *lines[-20:]]
        return said, calls(posthog.events), problems


def calls(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "$ai_generation"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(condition: Callable[[], Any], timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(condition())


@contextlib.contextmanager
def served(command: list[Any], environ: dict[str, str], at: str, port: int) -> Iterator[Path]:
    """Run a server; its output is in the file that this gives."""
    output = Path(at) / "output"
    with output.open("wb") as file:
        server = subprocess.Popen(
            list(map(str, command)), env=environ, cwd=at, stdout=file, stderr=file, start_new_session=True
        )
    try:

        def listens() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return server.poll() is not None

        wait_for(listens, 120)
        yield output
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def differences(said: list[Any], events: list[dict[str, Any]]) -> list[str]:
    """What is not as the users said."""
    found = {event["properties"]["$ai_input"][-1]["content"]: event for event in events}
    problems = [f"no event: {text}" for text, *_ in said if text not in found]
    problems += [f"nobody asked this: {text}" for text in found.keys() - {text for text, *_ in said}]
    if len(found) != len(events):
        problems.append(f"{len(events)} events of {len(found)} calls")
    sessions, turns = [], []
    for text, user, session, turn in said:
        if text not in found:
            continue
        properties = found[text]["properties"]
        trace, given = properties["$ai_trace_id"], found[text]["distinct_id"]
        if given != (trace if user is None else user):
            problems.append(f"{text}: of {given}, not of {user}")
        if not properties.get("$ai_session_id"):
            problems.append(f"{text}: of no session")
        sessions.append((session, properties.get("$ai_session_id")))
        turns.append((f"{session} {turn}", trace))
    for name, pairs in (("session", sessions), ("trace", turns)):
        sizes = {len(set(pairs)), len({ours for ours, _ in pairs}), len({theirs for _, theirs in pairs})}
        if len(sizes) != 1:
            problems += [f"not one {name} each:", *[f"    {pair}" for pair in sorted(map(str, set(pairs)))]]
    return problems


if __name__ == "__main__":
    sys.exit(main())
