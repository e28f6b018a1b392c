"""The spool: what a call left on disk before it returned is delivered, whatever happens to its process."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.programs import TOKEN, environment
from support.waiting import held_until

from posthog_autoinstrument.cli import send
from posthog_autoinstrument.core.records import record_from_bytes
from posthog_autoinstrument.export.spool.directory import AbandonedOutbox, Spool
from posthog_autoinstrument.export.spool.outbox import EVENT, RECORD, Outbox
from posthog_autoinstrument.settings import loader
from posthog_autoinstrument.store.database import StoreError
from posthog_autoinstrument.testing import Answer, Fault

NOWHERE = {"POSTHOG_HOST": "http://127.0.0.1:9"}
LATE = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600"}
ASK = """
import os, signal, sys, time
import openai
client = openai.OpenAI()

def ask(text, **more):
    said = [{"role": "user", "content": str(text)}]
    client.chat.completions.create(model="gpt-4o-mini", messages=said, **more)
    print(text, flush=True)
"""
KILL = "\nos.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def run(run_program, folder):
    """Run a program with a spool."""

    def start(source, env=None, **options):
        environ = {"POSTHOG_SPOOL": str(folder), "POSTHOG_AUTOINSTRUMENT_RAISE": "1", **(env or {})}
        body = textwrap.dedent(source.removesuffix(KILL)) + (KILL if source.endswith(KILL) else "")
        return run_program(ASK + body, env=environ, **options)

    return start


def asked(events):
    """The questions of events, and how often each was asked; no event may have come twice."""
    assert len({event["uuid"] for event in events}) == len(events)
    return Counter(event["properties"]["$ai_input"][0]["content"] for event in events)


def outboxes(folder):
    return sorted(folder.glob("outbox-*.db"))


class TestOneProcess:
    def test_what_is_delivered_leaves_nothing(self, run, folder):
        ran = run("for number in range(5): ask(number)\nprint(len(os.listdir(os.environ['POSTHOG_SPOOL'])) > 0)")
        assert ran.stdout.endswith("True\n")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert asked(ran.events) == Counter("01234")
        assert list(folder.iterdir()) == []
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_the_call_is_on_disk_before_it_returns(self, run, folder):
        ran = run("ask('hello')" + KILL, LATE)
        assert (ran.returncode, ran.events) == (-signal.SIGKILL, [])
        (path,) = outboxes(folder)
        assert path.stat().st_mode & 0o777 == 0o600
        abandoned = AbandonedOutbox(path, 1 << 30)
        (row,) = abandoned.outbox.rows(0, 10)
        assert row.kind == RECORD
        call = record_from_bytes(row.body)
        assert json.loads(call.request)["messages"] == [{"role": "user", "content": "hello"}]
        assert call.uuid == row.uuid
        abandoned.close()
        assert outboxes(folder) == [path]

    def test_streams_async_calls_and_forks(self, run):
        ran = run(
            """
            import asyncio
            from posthog_autoinstrument import posthog_context
            said = [{"role": "user", "content": "stream"}]
            list(client.chat.completions.create(model="gpt-4o-mini", messages=said, stream=True))

            async def main():
                said = [{"role": "user", "content": "async"}]
                with posthog_context(distinct_id="ada", properties={"plan": "pro"}):
                    await openai.AsyncOpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)
            asyncio.run(main())
            pid = os.fork()
            ask("parent" if pid else "child")
            if pid:
                os.waitpid(pid, 0)
            """
        )
        assert asked(ran.events) == Counter(["stream", "async", "parent", "child"])
        (mine,) = [event for event in ran.events if event["distinct_id"] == "ada"]
        assert mine["properties"]["plan"] == "pro"

    def test_what_memory_has_no_room_for_is_read_from_the_disk(self, run, posthog_server, folder):
        posthog_server.fail_next(Fault(503, delay_s=2.0))
        ran = run(
            """
            import posthog_autoinstrument
            for number in range(40):
                ask(number)
            print(posthog_autoinstrument.flush(30))
            """,
            {"POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS": "3", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "3"},
        )
        assert ran.stdout.endswith("True\n")
        assert ran.stderr == ""
        assert asked(ran.events) == Counter(map(str, range(40)))
        assert list(folder.iterdir()) == []

    def test_it_is_read_while_the_program_goes_on_calling(self, run, posthog_server, tmp_path):
        """After each full batch some calls wait for the rest of their interval: what is on the disk need not."""
        posthog_server.fail_next(Fault(503, delay_s=1.0))
        first = set(map(str, range(300)))
        with held_until(lambda: first <= asked(posthog_server.events).keys(), tmp_path / "delivered"):
            ran = run(
                f"""
                number = 0
                while number < 400 or not os.path.exists({str(tmp_path / "delivered")!r}):
                    ask(number)
                    number += 1
                os.kill(os.getpid(), signal.SIGKILL)
                """,
                {
                    "POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS": "120",
                    "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "30",
                    "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600",
                },
            )
        assert ran.stdout.split()[:300] == [str(number) for number in range(300)]
        assert first <= asked(posthog_server.events).keys()

    def test_first_calls_at_the_same_time_share_one_file(self, run, folder):
        source = """
            import threading
            together = threading.Barrier(8)

            def first(number):
                together.wait()
                ask(number)

            threads = [threading.Thread(target=first, args=(number,)) for number in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            """
        ran = run(source)
        assert asked(ran.events) == Counter("01234567")
        assert list(folder.iterdir()) == []
        run(source + KILL, LATE)
        assert len(outboxes(folder)) == 1
        assert asked(run("").events) == Counter()
        assert asked(run("ask('own')").events) == Counter([*"01234567", "own"])

    def test_threads_that_overflow_memory_send_nothing_twice(self, run, folder):
        ran = run(
            """
            import posthog_autoinstrument
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(ask, range(400)))
            print(posthog_autoinstrument.flush(30))
            """,
            {"POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS": "3", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "3"},
        )
        assert ran.stdout.endswith("True\n")
        assert asked(ran.events) == Counter(map(str, range(400)))
        assert list(folder.iterdir()) == []


class TestInTheMiddleOfACommit:
    """Another process has the file locked, so that the signal comes while the program's thread is in it."""

    def lock(self, source):
        holder = """
            import subprocess
            holder = subprocess.Popen([sys.executable, "-S", "-c",
                "import sqlite3, sys; other = sqlite3.connect(sys.argv[1], isolation_level=None);"
                "other.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.readline()", path],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            holder.stdout.readline()
            """
        find = """
            ask("first")
            import posthog_autoinstrument, glob, threading
            posthog_autoinstrument.flush()
            (path,) = glob.glob(os.environ["POSTHOG_SPOOL"] + "/*.db")
            """
        return textwrap.dedent(find) + textwrap.dedent(holder) + textwrap.dedent(source)

    TERM = """
        def terminate():
            while True:
                frame = sys._current_frames()[threading.main_thread().ident]
                if frame.f_code.co_name == "add" and frame.f_code.co_filename.endswith("outbox.py"):
                    os.kill(os.getpid(), signal.SIGTERM)
                    holder.stdin.close()
                    return
        threading.Thread(target=terminate, daemon=True).start()
        """

    def test_sigterm_is_heard_when_it_is_done(self, run, folder):
        ran = run(self.lock(self.TERM) + "\nask('second')\nask('never')")
        assert ran.returncode == -signal.SIGTERM
        assert ran.stderr == ""
        assert asked(ran.events) == Counter(["first", "second"])
        assert list(folder.iterdir()) == []

    def test_a_handler_that_raises(self, run, folder):
        source = "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(5))\n" + textwrap.dedent(self.TERM)
        ran = run(self.lock(source) + "\nask('second')\nask('never')")
        assert ran.returncode == 5
        assert asked(ran.events) == Counter(["first", "second"])
        assert list(folder.iterdir()) == []

    def test_a_file_that_stays_locked_is_left_alone_for_a_while(self, run, folder):
        """One call waits for the lock, the next ones are not offered to the disk. None is lost."""
        ran = run(
            self.lock(
                """
                from posthog_autoinstrument.export.spool.outbox import Outbox
                tried = []
                def count(frame, event, argument):
                    if event == "c_call" and frame.f_code is Outbox.add.__code__ and argument.__name__ == "execute":
                        tried.append(1)
                sys.setprofile(count)
                for number in range(5):
                    ask(number)
                sys.setprofile(None)
                holder.stdin.close()
                print(len(tried))
                """
            ),
            LATE,
        )
        *calls, tried = ran.stdout.split()
        assert 1 <= int(tried) < 5
        assert "calls wait in memory instead" in ran.stderr
        assert asked(ran.events) == Counter(calls)
        assert list(folder.iterdir()) == []


class TestTakingOver:
    def test_the_next_process_delivers_what_a_killed_one_left(self, run, folder):
        for _ in range(2):
            assert run("ask('first'); ask('second')" + KILL, LATE).events == []
        ran = run("ask('own')")
        assert asked(ran.events) == Counter(["first", "first", "second", "second", "own"])
        assert list(folder.iterdir()) == []

    def test_the_event_says_what_it_would_have_said(self, run):
        source = "ask('hello', temperature=0.5, extra_body={'metadata': {'a': '1'}})"
        (whole,) = run(source).events
        assert run(source + KILL, LATE).events == []
        late = next(event for event in run("ask('x')").events if "hello" in str(event["properties"]["$ai_input"]))
        different = {"$ai_trace_id", "$ai_span_id", "$ai_latency", "$ai_parent_id"}
        assert {name: value for name, value in whole["properties"].items() if name not in different} == {
            name: value for name, value in late["properties"].items() if name not in different
        }

    def test_killed_at_any_instant(self, run, tmp_path, folder, openai_server, posthog_server):
        """Eight processes call and are killed, while others take over: what returned is delivered, once."""
        program = tmp_path / "calls.py"
        program.write_text(ASK + "for number in range(10_000): ask(f'{sys.argv[1]}-{number}')")
        environ = {**environment(openai_server, posthog_server), "POSTHOG_SPOOL": str(folder)}
        launched = [sys.executable, "-m", "posthog_autoinstrument", sys.executable]
        dice = random.Random(7)

        def live_and_die(name):
            with subprocess.Popen(
                [*launched, program, name], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process:
                lines = [process.stdout.readline() for _ in range(dice.randrange(1, 60))]
                process.send_signal(signal.SIGKILL)
                return [*lines, *process.stdout.readlines()]

        with ThreadPoolExecutor(4) as pool:
            returned = [line.strip() for lines in pool.map(live_and_die, "abcdefgh") for line in lines]
        with ThreadPoolExecutor(3) as pool:
            done = list(
                pool.map(
                    lambda name: (
                        subprocess.run(
                            [*launched, "-c", ASK + f"ask('{name}')"],
                            env={**environ, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "60"},
                            check=False,
                        ).returncode
                    ),
                    ["x", "y", "z"],
                )
            )
        assert done == [0, 0, 0]
        assert outboxes(folder) == []
        found = Counter(event["properties"]["$ai_input"][0]["content"] for event in posthog_server.events)
        assert set(returned) - set(found) == set()
        # A process that died between the delivery and its note of it: the same event, a second time.
        twice = Counter(event["uuid"] for event in posthog_server.events)
        assert sum(found.values()) - len(twice) <= 8 * 100
        assert len(twice) == len(found)

    def test_a_running_process_keeps_its_own(self, tmp_path, folder, openai_server, posthog_server, run):
        program = tmp_path / "waits.py"
        program.write_text(ASK + "ask('mine')\nsys.stdin.readline()\n")
        environ = {**environment(openai_server, posthog_server, **LATE), "POSTHOG_SPOOL": str(folder)}
        with subprocess.Popen(
            [sys.executable, "-m", "posthog_autoinstrument", sys.executable, program],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "mine\n"
            assert asked(run("ask('other')").events) == Counter(["other"])
            process.communicate("\n")
        assert asked(posthog_server.events) == Counter(["other", "mine"])
        assert list(folder.iterdir()) == []

    def test_what_is_another_projects_stays(self, run, folder, posthog_server):
        env = {"POSTHOG_PROJECT_TOKEN": "phc_of_another_project_of_the_tests"}
        posthog_server.fail_next(*[Fault(503)] * 50)
        ran = run("ask('theirs')", {**env, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "0.5"})
        posthog_server._faults.clear()
        assert "1 event stays in the spool" in ran.stderr
        assert asked(run("ask('ours')").events) == Counter(["ours"])
        assert len(outboxes(folder)) == 1
        assert asked(run("ask('more')", env).events) == Counter(["theirs", "more"])
        assert list(folder.iterdir()) == []

    def test_what_a_newer_version_left_stays(self, run, folder):
        run("ask('newer')" + KILL, LATE)
        (path,) = outboxes(folder)
        with sqlite3.connect(path) as newer:
            newer.execute("PRAGMA user_version = 9")
        newer.close()
        ran = run("ask('own')")
        assert asked(ran.events) == Counter(["own"])
        assert "newer version" in ran.stderr
        assert outboxes(folder) == [path]
        with sqlite3.connect(path) as newer:
            newer.execute("PRAGMA user_version = 1")
        newer.close()
        assert asked(run("ask('own')").events) == Counter(["newer", "own"])

    def test_one_that_is_damaged_in_its_middle_holds_up_nothing(self, run, folder):
        many = "for number in range(150): ask(f'{number} ' + 'x' * 3000)"
        run(many + KILL, {**LATE, "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "1000"})
        (path,) = outboxes(folder)
        with sqlite3.connect(path, isolation_level=None) as broken:
            broken.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        broken.close()
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"garbage " * 10_000)
        run("ask('behind')" + KILL, LATE)
        ran = run("ask('own')", {"POSTHOG_AUTOINSTRUMENT_RAISE": "0"})
        found = asked(ran.events)
        assert {"behind", "own"} <= set(found)
        assert "put aside" in ran.stderr
        assert not outboxes(folder)
        assert not asked(run("ask('own')").events).keys() - {"own"}

    def test_what_has_a_hook_waits_for_a_hook(self, run, folder, tmp_path):
        (tmp_path / "hooks.py").write_text(
            "def hide(event):\n    event['properties']['hidden'] = True\n    return event\n"
        )
        env = {"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": "hooks:hide", "PYTHONPATH": str(tmp_path)}
        run("ask('secret')" + KILL, {**LATE, **env})
        ran = run("ask('open')")
        assert asked(ran.events) == Counter(["open"])
        assert "before_send" in ran.stderr
        ran = run("ask('more')", env)
        assert asked(ran.events) == Counter(["secret", "more"])
        assert all(event["properties"]["hidden"] for event in ran.events)
        assert list(folder.iterdir()) == []

    def test_a_background_response_that_nobody_waited_for(self, run):
        create = "made = client.responses.create(model='gpt-4o-mini', input='later', background=True)\n"
        poll = "client.responses.retrieve(made.id); client.responses.retrieve(made.id)\n"
        if "responses" not in dir(__import__("openai").OpenAI(api_key="k")):
            pytest.skip("this SDK has no responses")
        run(create + KILL, LATE)
        run(create + poll + KILL, LATE)
        events = [event for event in run("ask('own')").events if event["properties"]["$ai_input"] != "own"]
        texts = [json.dumps(event["properties"]["$ai_output_choices"]) for event in events]
        assert len(events) == 3
        assert sum("later" in text for text in texts) == 1

    @pytest.mark.parametrize(
        ("create", "poll"), [("True", "True"), ("True", "False"), ("False", "True")], ids=["both", "create", "poll"]
    )
    def test_a_background_response_in_private_is_one_event(self, run, create, poll):
        """The spool has of a private call the event only. What comes out is the event that memory makes of it."""
        if "responses" not in dir(__import__("openai").OpenAI(api_key="k")):
            pytest.skip("this SDK has no responses")
        source = f"""
            from posthog_autoinstrument import posthog_context
            with posthog_context(trace_id="t", distinct_id="ann", privacy_mode={create}, properties={{"mine": 1}}):
                made = client.responses.create(model="gpt-4o-mini", input="later", background=True, temperature=0.5)
            with posthog_context(privacy_mode={poll}):
                for _ in range(3): client.responses.retrieve(made.id)
            """
        (expected,) = run(source, {"POSTHOG_SPOOL": ""}).events
        run(source + KILL, LATE)
        events = [event for event in run("ask('own')").events if event["properties"]["$ai_trace_id"] == "t"]
        assert len(events) == 1
        (found,) = events
        assert (found["event"], found["distinct_id"]) == ("$ai_generation", "ann")
        assert found["properties"]["$ai_output_tokens"] > 0
        assert found["properties"]["$ai_output_choices"] is None
        assert found["properties"]["$ai_latency"] > 0
        differing = ("$ai_latency", "$ai_span_id", "$ai_base_url", "$ai_request_url")
        for name in differing:
            assert expected["properties"].pop(name, None) is not None
            assert found["properties"].pop(name, None) is not None
        assert found["properties"] == expected["properties"]

    def test_a_private_background_response_that_nobody_waited_for(self, run, folder):
        if "responses" not in dir(__import__("openai").OpenAI(api_key="k")):
            pytest.skip("this SDK has no responses")
        env = {"POSTHOG_PRIVACY_MODE": "1"}
        create = "made = client.responses.create(model='gpt-4o-mini', input='later', background=True)\n"
        run(create + KILL, {**LATE, **env})
        run(create + "client.responses.retrieve(made.id)\n" + KILL, {**LATE, **env})
        names = Counter(event["properties"]["$ai_request_url"][-10:] for event in run("ask('own')", env).events)
        assert names["/responses"] == 2
        assert list(folder.iterdir()) == []


class TestWhenTheServerIsAway:
    def test_an_outage_costs_nothing(self, run, folder):
        ran = run("ask('one'); ask('two')", {**NOWHERE, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "1"})
        assert ran.returncode == 0
        assert ran.stderr.count("\n") == 1
        assert f"2 events stay in the spool {folder}" in ran.stderr
        assert outboxes(folder)

    def test_the_log_goes_into_the_file_while_nothing_is_delivered(self, run):
        """The log takes ten times the room of what is in it, and the file alone has a bound."""
        ran = run(
            """
            import glob
            ask("first")
            (path,) = glob.glob(os.environ["POSTHOG_SPOOL"] + "/*.db")
            while os.path.getsize(path) < 1 << 20:
                client.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": "x" * 20_000}])
            print(True)
            """
            + KILL,
            {**NOWHERE, "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.1"},
        )
        assert ran.stdout.endswith("True\n")

    def test_a_refused_token_keeps_them_too(self, run, folder, posthog_server):
        posthog_server.fail_next(Fault(401))
        ran = run("ask('one')")
        assert "stays in the spool" in ran.stderr
        assert ran.events == []
        assert asked(run("ask('two')").events) == Counter(["one", "two"])

    def test_a_poison_event_goes_alone(self, run, folder, posthog_server):
        posthog_server.fail_next(Fault(400), Fault(400))
        ran = run("ask('one'); ask('two')", LATE)
        assert "dropped" in ran.stderr
        assert list(asked(ran.events)) == ["two"]
        assert list(folder.iterdir()) == []


class TestWhenTheDiskFails:
    def test_a_full_disk(self, run, folder):
        ran = run(
            """
            import resource
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            ask("before")
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            for number in range(5):
                ask(f"{number} " + "x" * 100_000)
            """,
            LATE,
        )
        assert ran.returncode == 0
        assert len(ran.events) == 6
        (line,) = ran.stderr.splitlines()
        assert "calls wait in memory instead" in line
        assert outboxes(folder) == []  # though nothing could be deleted in it

    def test_a_disk_that_was_full_from_the_start_is_not_littered(self, run, folder):
        ran = run(
            """
            import resource
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
            began = time.monotonic()
            while time.monotonic() < began + 2.5:
                ask("more")
            print(sorted(os.listdir(os.environ["POSTHOG_SPOOL"])))
            print(sum("outbox" in os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                      if os.path.exists(f"/proc/self/fd/{name}")))
            """,
            LATE,
        )
        *calls, listed, descriptors = ran.stdout.splitlines()
        assert (listed, descriptors) == ("[]", "0")
        assert asked(ran.events) == Counter(calls)

    def test_what_cannot_be_deleted_is_sent_once(self, run, folder):
        run("for number in range(5): ask(f'{number} ' + 'x' * 3000)" + KILL, LATE)
        (path,) = outboxes(folder)
        with sqlite3.connect(path, isolation_level=None) as left:
            left.execute("CREATE TRIGGER full BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        left.close()
        ran = run("ask('own')")
        assert len(asked(ran.events)) == 6
        assert ran.stderr.count("disk full") == 1
        assert list(folder.iterdir()) == []

    def test_a_full_outbox(self, run, folder):
        ran = run(
            "for number in range(20): ask(f'{number} ' + 'x' * 100_000)",
            {**LATE, "POSTHOG_AUTOINSTRUMENT_SPOOL_MAX_BYTES": "1048576"},
        )
        assert len(ran.events) == 20
        assert "full" in ran.stderr
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("place", ["below a file", "a file", "a symbolic link"])
    def test_a_directory_that_cannot_be_used(self, run, folder, tmp_path, place):
        if place == "below a file":
            folder.write_text("mine")
            env = {"POSTHOG_SPOOL": str(folder / "below")}
        elif place == "a file":
            folder.write_text("mine")
            env = {}
        else:
            (tmp_path / "elsewhere").mkdir()
            folder.symlink_to(tmp_path / "elsewhere")
            env = {}
        ran = run("ask('one'); ask('two')", env)
        assert asked(ran.events) == Counter(["one", "two"])
        assert ran.stderr.count("\n") == 1
        assert "calls wait in memory instead" in ran.stderr
        assert ran.stderr.count("POSTHOG_SPOOL: ") == ran.stderr.count(str(folder)) == 1
        if folder.is_file():
            assert folder.read_text() == "mine"

    def test_nothing_is_taken_over_through_a_symbolic_link(self, run, folder, tmp_path, posthog_server):
        run("ask('theirs')" + KILL, LATE)
        link = tmp_path / "link"
        link.symlink_to(folder)
        ran = run("ask('ours')", {"POSTHOG_SPOOL": str(link)})
        assert asked(ran.events) == Counter(["ours"])
        stderr = io.StringIO()
        settings = loader.load({"POSTHOG_PROJECT_TOKEN": TOKEN, "POSTHOG_HOST": posthog_server.url})
        assert send.main([str(link)], settings, io.StringIO(), stderr) == 1
        loader.load()
        assert stderr.getvalue() == f"send: {link} is a symbolic link: name the directory itself\n"
        assert len(outboxes(folder)) == 1

    def test_a_relative_one_is_where_the_program_was_started(self, run, tmp_path, posthog_server):
        (tmp_path / "elsewhere").mkdir()
        run("os.chdir('elsewhere')\nask('one')" + KILL, {"POSTHOG_SPOOL": "spool", **LATE})
        assert len(outboxes(tmp_path / "spool")) == 1

    def test_files_that_are_none_of_ours(self, run, folder):
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
        (folder / "outbox-1-garbage.db").write_bytes(os.urandom(20_000))
        with sqlite3.connect(folder / "outbox-2-foreign.db") as foreign:
            foreign.execute("CREATE TABLE theirs (x)")
        foreign.close()
        (folder / "outbox-3-empty.db").touch()
        ran = run("ask('one')")
        assert asked(ran.events) == Counter(["one"])
        names = {path.name for path in folder.iterdir()}
        assert {"notes.txt", "outbox-1-garbage.set-aside", "outbox-2-foreign.set-aside"} <= names
        assert ran.stderr.count("put aside") == 2
        assert not outboxes(folder)

    def test_an_outbox_that_breaks_in_use(self, run, folder):
        ran = run(
            """
            ask("one")
            (path,) = [name for name in os.listdir(os.environ["POSTHOG_SPOOL"]) if name.endswith(".db")]
            for suffix in ("", "-wal"):
                with open(os.path.join(os.environ["POSTHOG_SPOOL"], path + suffix), "r+b") as file:
                    file.write(b"garbage " * 5000)
            ask("two")
            ask("three")
            """,
            LATE,
        )
        assert ran.returncode == 0
        assert {"one", "two", "three"} == set(asked(ran.events))

    def test_a_row_that_is_damaged_is_counted_and_holds_up_nothing(self, run, folder):
        run("ask('one'); ask('two')" + KILL, LATE)
        (path,) = outboxes(folder)
        with sqlite3.connect(path) as open_file:
            open_file.execute("UPDATE outbox SET body = x'00' WHERE number = 1")
        open_file.close()
        ran = run("ask('three')")
        assert asked(ran.events) == Counter(["two", "three"])
        assert "1: damaged in the spool" in ran.stderr
        assert list(folder.iterdir()) == []


class TestWhatIsOnDisk:
    SECRET = "sk-canary-of-the-spool-0123456789"

    def test_credentials_of_addresses_tools_and_errors_are_not_written(self, run, folder, openai_server):
        openai_server.script(
            Answer(status=401, body={"error": {"message": f"Incorrect API key provided: {self.SECRET}"}})
        )
        run(
            f"""
            secret = "{self.SECRET}"
            try:
                openai.OpenAI(api_key=secret, max_retries=0).chat.completions.create(model="m", messages=[])
            except openai.APIStatusError:
                pass
            other = client.with_options(default_query={{"api-key": secret}}, default_headers={{"x-key": secret}})
            other.chat.completions.create(model="m", messages=[{{"role": "user", "content": "q"}}])
            tool = {{"type": "mcp", "server_label": "a", "server_url": "https://a.example", "authorization": secret}}
            said = [{{"role": "user", "content": "q"}}]
            client.chat.completions.create(model="m", messages=said, extra_body={{"tools": [tool]}})
            client.chat.completions.create(model="m", messages=[{{"role": "user", "content": secret}}],
                                           posthog_privacy_mode=True)
            client.chat.completions.create(model="m", messages=said, extra_body={{"metadata": {{"text": secret}}}})
            client.chat.completions.create(model="m", messages=said, user="\\n" + secret)
            """
            + KILL,
            LATE,
        )
        (path,) = outboxes(folder)
        abandoned = AbandonedOutbox(path, 1 << 30)
        rows = abandoned.outbox.rows(0, 10)
        abandoned.close()
        # The two of whose requests nothing is known but that they were sent are there as they were sent.
        assert [row.kind for row in rows] == [EVENT] * 4 + [RECORD] * 2
        assert [self.SECRET.encode() in row.body for row in rows] == [False] * 4 + [True] * 2
        events = run("ask('own')").events
        assert len(events) == 7
        assert self.SECRET not in json.dumps(events)


class TestSend:
    def send(self, path, posthog_server, **environ):
        stdout, stderr = io.StringIO(), io.StringIO()
        settings = loader.load({"POSTHOG_PROJECT_TOKEN": TOKEN, "POSTHOG_HOST": posthog_server.url, **environ})
        code = send.main([str(path)] if path else [], settings, stdout, stderr)
        return code, stdout.getvalue(), stderr.getvalue()

    @pytest.fixture(autouse=True)
    def _settings(self):
        yield
        loader.load()  # `load` also sets how failures behave

    def test_a_spool(self, run, folder, posthog_server):
        run("ask('one'); ask('two')" + KILL, LATE)
        assert self.send(folder, posthog_server) == (0, "2 sent, 0 left\n", "")
        assert asked(posthog_server.events) == Counter(["one", "two"])
        assert list(folder.iterdir()) == []
        assert self.send(folder, posthog_server) == (0, "0 sent, 0 left\n", "")

    def test_a_local_store_keeps_what_it_has(self, run_program, tmp_path, posthog_server):
        ran = run_program(ASK + "for number in range(250): ask(number)", token=False)
        assert ran.events == []
        store = tmp_path / "state" / "events.db"
        posthog_server.fail_next(Fault(200), Fault(401))
        code, said, error = self.send(store, posthog_server)
        assert (code, said) == (1, "100 sent, 150 left\n")
        assert "401" in error
        posthog_server.events.clear()  # the first answer was a plain 200 that records nothing
        assert self.send(store, posthog_server)[:2] == (0, "150 sent, 0 left\n")
        assert self.send(store, posthog_server)[:2] == (0, "0 sent, 0 left\n")
        assert asked(posthog_server.events) == Counter(map(str, range(100, 250)))
        shown = subprocess.run(
            [sys.executable, "-m", "posthog_autoinstrument", "events", "--json", "--db", store],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.splitlines()
        stored = {event["uuid"]: event["timestamp"] for event in map(json.loads, shown)}
        assert len(stored) == 250
        assert all(stored[event["uuid"]] == event["timestamp"] for event in posthog_server.events)

    def test_more_outboxes_than_files_can_be_open(self, run, folder, posthog_server):
        run("ask('one')" + KILL, LATE)
        (path,) = outboxes(folder)
        with sqlite3.connect(path) as whole:
            whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        whole.close()
        for number in range(60):
            (folder / f"outbox-{number}.db").write_bytes(path.read_bytes())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
        try:
            assert self.send(folder, posthog_server) == (0, "61 sent, 0 left\n", "")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(posthog_server.events) == 61
        assert list(folder.iterdir()) == []

    def test_why_nothing_moves(self, run, folder, posthog_server):
        run("ask('one')" + KILL, LATE)
        posthog_server.fail_next(Fault(503), Fault(503))
        code, said, error = self.send(folder, posthog_server)
        assert (code, said) == (0, "1 sent, 0 left\n")
        assert error == "send: 503 from 127.0.0.1: not now; trying again, for 15 minutes\n"

    def test_what_it_is_told(self, run, folder, posthog_server, tmp_path):
        run("ask('one')" + KILL, LATE)
        settings = loader.load({})
        for arguments, code in (([str(folder)], 2), ([str(tmp_path / "nowhere")], 2)):
            stderr = io.StringIO()
            assert send.main(arguments, settings, io.StringIO(), stderr) == code
            assert stderr.getvalue().startswith("send: ")
        stdout = io.StringIO()
        assert send.main(["--dry-run", str(folder)], settings, stdout, io.StringIO()) == 0
        assert stdout.getvalue() == "1 to send\n"
        assert posthog_server.events == []

    def test_the_command(self, run, folder, openai_server, posthog_server):
        run("ask('one')" + KILL, LATE)
        done = subprocess.run(
            [sys.executable, "-m", "posthog_autoinstrument", "send"],
            env={**environment(openai_server, posthog_server), "POSTHOG_SPOOL": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "1 sent, 0 left\n"), done.stderr
        assert asked(posthog_server.events) == Counter(["one"])


class TestOutboxes:
    def test_one_owner(self, folder):
        first, second = Spool(str(folder), 1 << 30), Spool(str(folder), 1 << 30)
        assert first.keep(RECORD, "u", b"body") == 1
        assert second.take_over(lambda facts: True) is None
        assert first.close() == 1
        abandoned = second.take_over(lambda facts: True)
        assert abandoned is not None
        assert first.take_over(lambda facts: True) is None
        abandoned.close()

    def test_a_newer_version_is_left_alone(self, folder):
        folder.mkdir()
        path = folder / "outbox-1.db"
        Outbox(path, 1 << 30).close()
        with sqlite3.connect(path) as newer:
            newer.execute("PRAGMA user_version = 9")
        newer.close()
        with pytest.raises(StoreError, match="newer version"):
            Outbox(path, 1 << 30)

    def test_the_clock_may_jump(self, folder, monkeypatch):
        monkeypatch.setattr("time.time", lambda: 0.0)
        spool = Spool(str(folder), 1 << 30)
        assert [spool.keep(RECORD, "u", b"body") for _ in range(3)] == [1, 2, 3]
        monkeypatch.setattr("time.time", lambda: 4e9)
        spool.spill([1, 2])
        assert [row.number for row in spool.spilled_rows(10)] == [1, 2]
        spool.done([1, 2, 3])
        assert spool.close() == 0
        assert list(folder.iterdir()) == []
