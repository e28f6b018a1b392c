"""Processes that end without exit hooks, and signals: as without us where nothing was captured, nothing lost where
something was. Nothing is sent before the end: the interval is an hour.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter

import pytest
from support.programs import environment
from support.waiting import wait_until

from posthog_autoinstrument.testing import Fault

pytestmark = pytest.mark.timeout(450)
LATE = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600", "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "20"}
NEVER = {**LATE, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "300"}
"""Who waits for the exit timeout here fails by the test's own."""
PREAMBLE = """
import os, signal, sys, threading, time
import openai

def ask(text="Hi"):
    said = [{"role": "user", "content": str(text)}]
    return openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).id
"""
DISPOSITION = """
import signal
def caught():
    "Signals that have a handler, in Python or in C."
    with open("/proc/self/status") as status:
        bits = int(next(line for line in status if line.startswith("SigCgt")).split()[1], 16)
    return [name for name in ("SIGTERM", "SIGHUP") if bits >> (getattr(signal, name) - 1) & 1]
"""
linux_only = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")


@pytest.fixture
def ends(run_program):
    """Run a program bare and launched; both must end the same way. The launched run."""

    def run(source, returncode=0, env=LATE):
        source = PREAMBLE + textwrap.dedent(source)
        bare = run_program(source, launched=False, env=env, timeout_s=200)
        launched = run_program(source, env=env, timeout_s=200)
        assert bare.returncode == returncode, bare.stderr
        assert (launched.returncode, launched.stdout, launched.stderr) == (bare.returncode, bare.stdout, bare.stderr)
        return launched

    return run


@pytest.fixture
def started(tmp_path, openai_server, posthog_server):
    """Start a program under the launcher: a process, its output a pipe."""
    processes = []

    def start(source):
        program = tmp_path / "program.py"
        program.write_text(PREAMBLE + textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, "-m", "posthog_autoinstrument", sys.executable, program],
            env=environment(openai_server, posthog_server, **LATE),
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


class TestPools:
    """`Pool.terminate` signals its children once and joins them for ever: a signal that is lost hangs the program."""

    LOOP = """
    import faulthandler, multiprocessing, sys

    def work(number):
        return number

    def many(method, rounds):
        context = multiprocessing.get_context(method)
        for _ in range(rounds):
            faulthandler.dump_traceback_later(60, exit=True)
            with context.Pool(2) as pool:
                pool.map(work, range(6), chunksize=1)
        faulthandler.cancel_dump_traceback_later()
        print(rounds, "pools")
    """

    @pytest.mark.parametrize(("method", "rounds"), [("fork", 1000), ("forkserver", 20), ("spawn", 4)])
    def test_of_a_program_that_captures_nothing(self, run_program, method, rounds):
        source = textwrap.dedent(self.LOOP) + f"if __name__ == '__main__':\n    many({method!r}, {rounds})\n"
        ran = run_program(source, timeout_s=400)
        assert (ran.stdout, ran.returncode) == (f"{rounds} pools\n", 0), ran.stderr

    def test_of_a_program_that_has_captured_something(self, run_program):
        source = PREAMBLE + textwrap.dedent(self.LOOP) + "ask()\nmany('fork', 200)\n"
        ran = run_program(source, env=LATE, timeout_s=400)
        assert (ran.stdout, ran.returncode) == ("200 pools\n", 0), ran.stderr
        assert len(ran.events) == 1

    def test_of_children_that_have_captured_something(self, run_program):
        source = PREAMBLE + textwrap.dedent(self.LOOP).replace("return number", "return ask(number)")
        ran = run_program(source + "many('fork', 10)\n", env=LATE, timeout_s=400)
        assert (ran.stdout, ran.returncode) == ("10 pools\n", 0), ran.stderr
        assert len(ran.events) == 60


class TestSignals:
    @linux_only
    def test_a_process_that_has_captured_nothing_keeps_the_default(self, run_program):
        ran = run_program(
            DISPOSITION
            + PREAMBLE
            + textwrap.dedent(
                """
                client = openai.OpenAI()
                print(caught(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.set_wakeup_fd(-1))
                ask()
                print(caught(), signal.set_wakeup_fd(-1))
                sys.stdout.flush()
                child = os.fork()
                if not child:
                    print(caught(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.set_wakeup_fd(-1))
                    sys.stdout.flush()
                    os._exit(0)
                os.waitpid(child, 0)
                """
            ),
            env=LATE,
        )
        assert ran.stdout == "[] True -1\n['SIGTERM', 'SIGHUP'] -1\n[] True -1\n", ran.stderr
        assert len(ran.events) == 1

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
    @pytest.mark.parametrize("how", ["os.kill(os.getpid(), number)", "signal.raise_signal(number)"])
    def test_a_process_that_ends_itself_by_a_signal(self, ends, name, how):
        ran = ends(f"ask()\nnumber = signal.{name}\n{how}\nprint('not reached')\n", -getattr(signal, name))
        assert len(ran.events) == 1

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
    def test_a_handler_of_the_program_that_is_gone_again(self, ends, name):
        """As uvicorn ends: it puts the disposition of before back, and raises the signal that stopped it."""
        ran = ends(
            f"""
            number = signal.{name}
            before = signal.signal(number, lambda *_: print("stopping", flush=True))
            ask()
            os.kill(os.getpid(), number)
            signal.signal(number, before)
            signal.raise_signal(number)
            """,
            -getattr(signal, name),
        )
        assert ran.stdout == "stopping\n"
        assert len(ran.events) == 1

    def test_nohup(self, ends):
        ran = ends(
            """
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            ask()
            os.kill(os.getpid(), signal.SIGHUP)
            print("still here")
            """
        )
        assert ran.stdout == "still here\n"
        assert len(ran.events) == 1

    def test_a_main_thread_that_does_not_come_back_from_c(self, started, posthog_server):
        """As one that has blocked a moment after the signal came, and will never look."""
        process = started(
            """
            import sqlite3
            ask()
            print("ready", flush=True)
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
            sqlite3.connect(":memory:").execute(endless).fetchall()
            """
        )
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(120) == -signal.SIGTERM
        assert len(posthog_server.events) == 1

    def test_calls_of_threads_while_the_main_thread_waits(self, started, posthog_server):
        """Nothing can be installed then; so it is sent at once."""
        process = started(
            """
            def work():
                time.sleep(0.5)
                ask()
            threading.Thread(target=work).start()
            threading.Lock().acquire() and threading.Event().wait()
            """
        )
        wait_until(lambda: posthog_server.events, "the event is not sent", timeout_s=120)
        process.terminate()
        assert process.wait(120) == -signal.SIGTERM

    def test_calls_of_threads_of_a_main_thread_that_goes_on(self, ends):
        ran = ends(
            """
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            launched = hasattr(sys, "_posthog_autoinstrument_finder")
            while launched and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            """,
            -signal.SIGTERM,
        )
        assert len(ran.events) == 1

    @pytest.mark.parametrize("library", ["asyncio", "trio"])
    def test_beside_a_wakeup_descriptor_of_the_program(self, ends, library):
        pytest.importorskip(library)
        ran = ends(
            """
            ask()
            if LIBRARY == "asyncio":
                import asyncio
                async def main():
                    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, "usr1")
                    os.kill(os.getpid(), signal.SIGUSR1)
                    await asyncio.sleep(0.1)
                asyncio.run(main())
            else:
                import trio
                async def main():
                    with trio.open_signal_receiver(signal.SIGUSR1) as received:
                        os.kill(os.getpid(), signal.SIGUSR1)
                        async for number in received:
                            print("usr1", flush=True)
                            break
                trio.run(main)
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGTERM)
            """.replace("LIBRARY", repr(library)),
            -signal.SIGTERM,
        )
        assert ran.stdout == "usr1\n"
        assert len(ran.events) == 1

    def test_a_program_that_closes_every_descriptor(self, ends):
        """As a daemon does: the number of a signal is not written into the file that has our descriptor now."""
        ran = ends(
            """
            ask()
            signal.signal(signal.SIGUSR1, lambda *_: None)
            os.closerange(3, 100)
            files = [open(f"{__file__}.{number}", "wb+", buffering=0) for number in range(20)]
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGUSR1)
            print([file.read() for file in files if os.fstat(file.fileno()).st_size], flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            """,
            -signal.SIGTERM,
        )
        assert ran.stdout == "[]\n"

    def test_a_child_is_killed_and_the_parent_goes_on(self, ends):
        ran = ends(
            """
            ask()
            for _ in range(20):
                child = os.fork()
                if not child:
                    signal.pause()
                os.kill(child, signal.SIGTERM)
                assert os.waitpid(child, 0)[1] == signal.SIGTERM
            print("still here", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            """,
            -signal.SIGTERM,
        )
        assert ran.stdout == "still here\n"
        assert len(ran.events) == 1


class TestOsExit:
    @pytest.mark.parametrize(
        "leave",
        [
            "os._exit(5)",
            "_exit(5)",
            "other(5)",
            "threading.Thread(target=os._exit, args=(5,)).start(); time.sleep(60)",
            "signal.signal(signal.SIGUSR1, lambda *_: os._exit(5)); os.kill(os.getpid(), signal.SIGUSR1)",
            "import atexit; atexit.register(os._exit, 5)",
            "import asyncio; asyncio.run(leave())",
            "import posix; posix._exit(5)",
        ],
    )
    def test_nothing_that_waits_is_lost(self, ends, leave):
        ran = ends(
            f"""
            from os import _exit
            from os import _exit as other
            async def leave():
                os._exit(5)
            ask()
            {leave}
            """,
            5,
        )
        assert len(ran.events) == 1

    def test_a_process_that_has_captured_nothing_does_not_wait(self, run_program, posthog_server):
        """Children of one that has captured something: with and without `exec`. Its events do not wait for them."""
        posthog_server.fail_next(*[Fault(hang=True)] * 40)
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                """
                def wait(child):
                    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                ask()
                for leave in (
                    lambda: os._exit(7),
                    lambda: os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(7)"]),
                    lambda: os.execvp(sys.executable, [sys.executable, "-c", "raise SystemExit(7)"]),
                ):
                    child = os.fork()
                    if not child:
                        leave()
                    print(wait(child), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
                """
            ),
            env=NEVER,
            timeout_s=200,
        )
        assert ran.stdout == "7\n7\n7\n", ran.stderr

    def test_from_before_send(self, run_program):
        """That is the thread that delivers: it does not wait for itself."""
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                """
                import posthog_autoinstrument
                posthog_autoinstrument.configure(before_send=lambda event: os._exit(5))
                ask()
                time.sleep(150)
                """
            ),
            env={**NEVER, "POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "1"},
            timeout_s=100,
        )
        assert ran.returncode == 5, ran.stderr
        assert not ran.events

    def test_it_waits_no_longer_than_the_exit_timeout(self, run_program, posthog_server):
        posthog_server.fail_next(*[Fault(hang=True)] * 40)
        ran = run_program(
            PREAMBLE + "ask()\nos._exit(5)", env={**LATE, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "1"}, timeout_s=100
        )
        assert ran.returncode == 5
        assert "1 event was lost" in ran.stderr

    def test_of_a_child_that_has_captured_something(self, ends):
        ran = ends(
            """
            ask("parent")
            child = os.fork()
            if not child:
                ask("child")
                os._exit(0)
            os.waitpid(child, 0)
            """
        )
        assert Counter(event["properties"]["$ai_input"][0]["content"] for event in ran.events) == {
            "parent": 1,
            "child": 1,
        }

    def test_programs_that_replace_themselves(self, ends):
        ran = ends(
            """
            ask(len(sys.argv))
            if len(sys.argv) == 1:
                try:
                    os.execv("/no/such/program", ["program"])
                except OSError:
                    ask("it goes on")
                os.execlp(sys.executable, sys.executable, __file__, "again")
            """
        )
        assert len(ran.events) == 3

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_the_fork_of_multiprocessing(self, ends, method):
        pytest.importorskip("multiprocess")
        ran = ends(
            f"""
            import multiprocess
            if __name__ == "__main__":
                context = multiprocess.get_context({method!r})
                process = context.Process(target=ask, args=("process",))
                process.start()
                process.join()
                with context.Pool(2) as pool:
                    print(len(pool.map(ask, range(4), chunksize=1)))
                    pool.close()
                    pool.join()
            """
        )
        asked = Counter(event["properties"]["$ai_input"][0]["content"] for event in ran.events)
        assert asked == Counter(["process", "0", "1", "2", "3"])

    def test_a_task_process_of_airflow(self, ends):
        """As `airflow.sdk.execution_time.supervisor._fork_main` (1.3) ends: signals reset, hooks of the parent's
        dropped and those of the child run, standard files reopened, sockets closed, and then `os._exit`."""
        ran = ends(
            """
            import atexit, io, socket
            ask("supervisor")
            ours, theirs = socket.socketpair()
            child = os.fork()
            if not child:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
                    signal.signal(number, signal.SIG_DFL)
                os.dup2(theirs.fileno(), 1)
                sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), line_buffering=True)
                atexit._clear()
                ask("task")
                sys.stdout.flush()
                os.close(theirs.fileno())
                atexit._run_exitfuncs()
                os._exit(3)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """
        )
        assert ran.stdout == "3\n"
        asked = [event["properties"]["$ai_input"][0]["content"] for event in ran.events]
        assert sorted(asked) == ["supervisor", "task"]
