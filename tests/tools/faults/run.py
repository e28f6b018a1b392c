"""What becomes of events when something fails: real programs, a recording PostHog with programmed faults, a table.

    make faults                                # all rows; about five minutes
    python tests/tools/faults/run.py 401 hang  # the rows whose names contain one of these words
    python tests/tools/faults/run.py --write   # also write the table into docs/delivery.md

A row is a program under the launcher that makes 30 calls while its PostHog, or its own end, misbehaves. With a spool,
the program is followed by `posthog-instrument send`, as by a next process. Counted are the events that PostHog took:

- delivered: how many of the calls arrived;
- again: events that arrived a second time although PostHog's answer had said what became of the first;
- resent: events that arrived a second time, with the same uuid, after an answer that never came: nobody can know;
- lost: calls whose event never arrived;
- exit: how much longer than without the agent the program took to end, after its last line.

Exit code 1 when a row loses or repeats an event and does not say why it must.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

from posthog_autoinstrument.testing import Fault, OpenAIServer, PostHogServer

ROOT = Path(__file__).resolve().parents[3]
N_CALLS = 30
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"

PROGRAM = """
import os, signal, sys, time
import openai
client = openai.OpenAI()
for number in range({calls}):
    time.sleep({gap_s})
    said = [{{"role": "user", "content": str(number) + {padding!r}}}]
    client.chat.completions.create(model="gpt-4o-mini", messages=said)
time.sleep({pause_s})
print(time.time(), flush=True)
{end}
"""

IN_MEMORY = "nothing keeps them: a spool does"
NO_CODE = "the platform lets no code run: a spool keeps them"


@dataclass(frozen=True)
class Row:
    """One fault."""

    name: str
    faults: Sequence[Fault] = ()
    env: dict[str, str] = field(default_factory=dict)
    spool: bool = False
    end: str = ""
    pause_s: float = 0.0
    padding: str = ""
    prepare: Callable[[PostHogServer], None] | None = None
    host: str | None = None
    """Where the program sends to instead; `send` always finds the real one."""
    may_lose: str = ""
    """Why events may be lost here."""
    unknown: bool = False
    """PostHog took the events and the answer did not arrive."""
    n_calls: int = N_CALLS
    outage_s: float = 0.0
    """From its start PostHog answers 503 for so long, while a call is made every 20 ms."""
    poison: int = 0
    """How many events PostHog refuses for what is in them."""


def _later(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


def _no_ai_path(server: PostHogServer) -> None:
    server.ai_path = False


def _small_events(server: PostHogServer) -> None:
    server.max_event_bytes = 20_000


def _small_bodies(server: PostHogServer) -> None:
    server.max_body_bytes = 3_000


ALWAYS = 400
FAST = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.2"}
POISON = {"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": "hooks:poison"}

SERVER_ROWS = [
    Row("200"),
    Row("400 for one event", env=POISON, poison=1),
    Row("401", [Fault(401)] * ALWAYS, may_lose=IN_MEMORY),
    Row("401, spool", [Fault(401)], spool=True),
    Row("402 (quota), spool", [Fault(402)], spool=True),
    Row("404 on the AI path", prepare=_no_ai_path),
    Row("408, then well", [Fault(408)] * 2, pause_s=2.5),
    Row("413 for the batch", prepare=_small_bodies),
    Row("413 for each event", prepare=_small_events, padding=" long" * 10_000),
    Row("429 with seconds", [Fault(429, {"retry-after": "1"})], pause_s=3),
    Row("429 with a date, spool", [Fault(429, {"retry-after": _later(3600)})] * ALWAYS, spool=True),
    Row("503 with seconds", [Fault(503, {"retry-after": "1"})] * 2, pause_s=4),
    Row("500 four times", [Fault(500)] * 4, pause_s=6),
    Row("503 always, spool", [Fault(503)] * ALWAYS, spool=True),
    Row("redirect, spool", [Fault(302, {"location": "http://127.0.0.1:9/"})] * ALWAYS, spool=True),
    Row("reset before it is read", [Fault(reset=True)] * 2, pause_s=2.5),
    Row("reset after it was taken", [Fault(reset=True, recorded=True)], pause_s=2.5, unknown=True),
    Row("slow: 1 s", [Fault(200, delay_s=1.0, recorded=True)] * 3, pause_s=0.1),
    Row("no answer in 15 s", [Fault(hang=True)], pause_s=18),
    Row("no answer in 15 s, taken", [Fault(hang=True, recorded=True)], pause_s=18, unknown=True),
    Row("no answer at exit", [Fault(hang=True)] * ALWAYS, may_lose=IN_MEMORY),
    Row("no answer at exit, spool", [Fault(hang=True)] * ALWAYS, spool=True),
    Row("garbage for an answer", host="garbage", spool=True),
    Row("a web page for an answer, spool", host="page", spool=True),
    Row("an answer a byte at a time, spool", host="drip", spool=True),
    Row("407 of a proxy, spool", [Fault(407)] * ALWAYS, spool=True),
    Row("429 for an hour", [Fault(429, {"retry-after": "3600"})], pause_s=3),
    Row("nobody listens", host="http://127.0.0.1:9", may_lose=IN_MEMORY),
    Row("nobody listens, spool", host="http://127.0.0.1:9", spool=True),
    Row(
        "the name resolves nowhere, spool",
        host="http://nowhere.invalid",
        env={"POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP": "1"},
        spool=True,
    ),
    Row("TLS that is none, spool", host="tls", spool=True),
    Row("packets go nowhere, spool", host="black hole", spool=True),
]
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
END_ROWS = [
    Row("ends: sys.exit", end="sys.exit(3)"),
    Row("ends: exception", end="raise ValueError('mine')"),
    Row("ends: SIGINT", end="os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"),
    Row("ends: SIGTERM", end="os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)"),
    Row("ends: SIGKILL after 3 s", env=FAST, pause_s=3.0, end=KILL),
    Row("ends: SIGKILL at once", end=KILL, may_lose=NO_CODE),
    Row("ends: SIGKILL at once, spool", end=KILL, spool=True),
    Row("ends: os._exit, spool", end="os._exit(5)", spool=True),
    Row("ends: os.execv, spool", end="os.execv(sys.executable, [sys.executable, '-c', ''])", spool=True),
    Row(
        "ends: SIGKILL while it sends, spool",
        [Fault(delay_s=3.0, status=200, recorded=True)],
        env=FAST,
        pause_s=1.0,
        end=KILL,
        spool=True,
        unknown=True,
    ),
]
OUTAGE = Row("away for 60 s at 50 calls a second", outage_s=60.0, n_calls=3_300)
"""In real time, with `--slow`. What lasts longer is simulated: `tests/unit/export/test_outage.py`."""


@dataclass
class Result:
    """What was counted."""

    row: Row
    n_calls: int
    n_delivered: int
    n_twice: int
    exit_s: float
    said: str

    @property
    def n_lost(self) -> int:
        return self.n_calls - self.n_delivered - self.row.poison

    @property
    def wrong(self) -> bool:
        return (self.n_lost > 0 and not self.row.may_lose) or (self.n_twice > 0 and not self.row.unknown)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only rows whose names contain one of these")
    parser.add_argument("--write", action="store_true", help="write the table into docs/delivery.md")
    parser.add_argument("--slow", action="store_true", help="also the outage of a minute")
    parser.add_argument("--jobs", type=int, default=4)
    options = parser.parse_args(arguments)
    rows = [row for row in (*SERVER_ROWS, *END_ROWS) if not options.words or any(w in row.name for w in options.words)]
    rows += [OUTAGE] if options.slow else []
    bare_s = exit_without_the_agent()
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda row: run(row, bare_s), rows))
    print(table(results))
    for result in results:
        if result.wrong:
            print(f"\nWRONG: {result.row.name}\n{result.said}")
    if options.write and not options.words:
        page = ROOT / "docs" / "delivery.md"
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.partition(END)[2]}")
    return int(any(result.wrong for result in results))


def table(results: Sequence[Result]) -> str:
    """Markdown."""
    lines = ["| Fault | Calls | Delivered | Again | Resent | Lost | Exit, s |", "|---|---|---|---|---|---|---|"]
    for result in results:
        row = result.row
        again, resent = (0, result.n_twice) if row.unknown else (result.n_twice, 0)
        lost = f"{result.n_lost}: {row.may_lose}" if result.n_lost and row.may_lose else str(result.n_lost)
        if row.poison:
            lost += f" (and {row.poison} refused)"
        lines.append(
            f"| {row.name} | {result.n_calls} | {result.n_delivered} | {again} | {resent} | {lost} "
            f"| {max(0.0, result.exit_s):.1f} |"
        )
    return "\n".join(lines)


def exit_without_the_agent() -> float:
    with tempfile.TemporaryDirectory() as folder, OpenAIServer() as openai_server:
        return min(_timed([sys.executable], Row(""), Path(folder), _environment(openai_server))[0] for _ in range(3))


def _environment(openai_server: OpenAIServer) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
    return environ | {"OPENAI_BASE_URL": openai_server.base_url, "OPENAI_API_KEY": "sk-test"}


def _timed(command: list[str], row: Row, folder: Path, environ: dict[str, str]) -> tuple[float, str]:
    """How long the program took to end after its last line, and what it said on stderr."""
    program = folder / "program.py"
    program.write_text(
        PROGRAM.format(
            calls=row.n_calls,
            gap_s=0.02 if row.outage_s else 0,
            padding=row.padding,
            pause_s=row.pause_s,
            end=row.end,
        )
    )
    with (folder / "stderr").open("w+") as errors:
        with subprocess.Popen(
            [*command, str(program)], env=environ, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            assert process.stdout is not None
            said = process.stdout.read()
            process.wait()
            ended = time.time()
        errors.seek(0)
        return ended - float(said.split()[0]), errors.read()


def run(row: Row, bare_s: float) -> Result:
    """One row of the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        openai_server = stack.enter_context(OpenAIServer())
        posthog = stack.enter_context(PostHogServer())
        if row.prepare is not None:
            row.prepare(posthog)
        (folder / "hooks.py").write_text(
            "def poison(event):\n"
            "    if event['properties']['$ai_input'][0]['content'] == '7':\n"
            "        event['event'] = 'no_ai_event'\n"
            "    return event\n"
        )
        posthog.fail_next(*row.faults)
        token = {"POSTHOG_PROJECT_TOKEN": "phc_token_of_the_fault_injection", "PYTHONPATH": str(folder)}
        # A row about anything but a PostHog that is away must not fail where a busy machine needs more than 3 s.
        patient = {} if row.spool or row.may_lose else {"POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "30"}
        environ = _environment(openai_server) | token | patient | row.env
        environ["POSTHOG_HOST"] = stack.enter_context(_host(row.host, posthog))
        if row.spool:
            environ["POSTHOG_SPOOL"] = str(folder / "spool")
        launcher = [sys.executable, "-m", "posthog_autoinstrument", sys.executable]
        if row.outage_s:
            posthog.fail_next(*[Fault(503)] * 10_000)
            threading.Timer(row.outage_s, posthog._faults.clear).start()
        took_s, said = _timed(launcher, row, folder, environ)
        posthog._faults.clear()
        if row.spool:
            done = subprocess.run(
                [sys.executable, "-m", "posthog_autoinstrument", "send"],
                env=environ | {"POSTHOG_HOST": posthog.url},
                capture_output=True,
                text=True,
                check=False,
            )
            said += done.stdout + done.stderr
        uuids = Counter(event["uuid"] for event in posthog.events)
        n_calls = len(openai_server.requests)
        return Result(row, n_calls, len(uuids), sum(uuids.values()) - len(uuids), took_s - bare_s, said)


ANSWERS = {"page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"}


@contextmanager
def _host(name: str | None, posthog: PostHogServer) -> Iterator[str]:
    """The address that the program is given."""
    if name is None or name.startswith("http"):
        yield name or posthog.url
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0 if name == "black hole" else 50)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        over = threading.Event()
        if name == "black hole":
            # A full backlog: the kernel answers no further connection.
            filling = [socket.socket() for _ in range(4)]
            for one in filling:
                one.setblocking(False)
                one.connect_ex(listening.getsockname())
            yield f"http://{address}"
            for one in filling:
                one.close()
            return

        def talk() -> None:
            listening.settimeout(0.2)
            while not over.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                with connection, suppress(OSError):
                    connection.recv(65536)
                    if name == "drip":
                        connection.sendall(b"HTTP/1.1 ")
                        while not over.wait(0.1):
                            connection.sendall(b"2")
                    connection.sendall(ANSWERS.get(name, b"\x00\x01 this is neither HTTP nor TLS \r\n\r\n"))

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield f"{'https' if name == 'tls' else 'http'}://{address}"
        over.set()
        thread.join()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
