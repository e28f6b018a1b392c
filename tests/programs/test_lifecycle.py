"""The ways a process lives and ends: signals, pools, task queues, freezes. Nothing lost, nothing sent twice.

Nothing is sent before the end: the interval is an hour.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from support.programs import environment

from posthog_autoinstrument.testing import Fault

# A machine that is busy with other things takes a minute for what an idle one does in five seconds.
pytestmark = pytest.mark.timeout(450)
SCRIPTS = Path(sysconfig.get_path("scripts"))
LATE = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600", "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "20"}
PREAMBLE = """
import os, signal, sys, threading, time
import openai

def ask(text="Hi"):
    said = [{"role": "user", "content": str(text)}]
    return openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).id
"""


@pytest.fixture
def ends(run_program, tmp_path):
    """Run a program bare and launched; both must end the same way. The launched run."""

    def run(source, returncode=0, env=None, name="program.py"):
        source = PREAMBLE + textwrap.dedent(source)
        bare = run_program(source, launched=False, env=env or LATE, name=name, timeout_s=200)
        launched = run_program(source, env=env or LATE, name=name, timeout_s=200)
        assert bare.returncode == returncode, bare.stderr
        assert bare.events == []
        assert (launched.returncode, launched.stdout, launched.stderr) == (bare.returncode, bare.stdout, bare.stderr)
        assert len({event["uuid"] for event in launched.events}) == len(launched.events)
        return launched

    return run


class TestSigterm:
    @pytest.mark.parametrize(
        "waiting",
        [
            "signal.pause()",
            "time.sleep(60)",
            "threading.Event().wait()",
            "threading.Lock().acquire() and threading.Thread(target=time.sleep, args=(60,)).start()",
            "import asyncio; asyncio.run(asyncio.sleep(60))",
            "while True: pass",
        ],
    )
    def test_whatever_the_main_thread_does(self, ends, waiting):
        ran = ends(
            f"""
            ask()
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            {waiting}
            """,
            -signal.SIGTERM,
        )
        assert len(ran.events) == 1

    def test_a_handler_of_the_program_is_left_alone(self, ends):
        ran = ends(
            """
            signal.signal(signal.SIGTERM, lambda *_: print("mine", flush=True))
            ask()
            os.kill(os.getpid(), signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.kill(os.getpid(), signal.SIGTERM)
            print("still here")
            """
        )
        assert ran.stdout == "mine\nstill here\n"
        assert len(ran.events) == 1

    def test_ignored_from_outside(self, run_program):
        ran = run_program(
            """
            import os, signal, subprocess, sys
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a child inherits it
            code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); print(signal.getsignal(signal.SIGTERM))"
            print(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout)
            """
        )
        assert "SIG_IGN" in ran.stdout or ran.stdout.strip() == "1"

    def test_during_the_delivery_at_exit(self, ends):
        ran = ends(
            """
            import atexit
            atexit.register(os.kill, os.getpid(), signal.SIGTERM)
            ask()
            """,
            -signal.SIGTERM,
        )
        assert len(ran.events) == 1

    def test_at_every_line_of_the_end(self, run_program):
        """In a forked child for each line of what runs at exit, the signal comes before that line."""
        ran = run_program(
            PREAMBLE
            + """
import posix  # whose `kill` is not replaced
from posthog_autoinstrument.lifecycle.process import Process
END = Process.close.__code__
lines = sorted({line for _, _, line in END.co_lines() if line})

def kill_at(number):
    def trace(frame, event, arg):
        if frame.f_code is END and event == "line" and frame.f_lineno == number:
            sys.settrace(None)
            posix.kill(os.getpid(), signal.SIGTERM)
        return trace if frame.f_code is END else None
    return trace

for number in lines:
    pid = os.fork()
    if not pid:
        ask(number)
        sys.settrace(kill_at(number))
        sys.exit()
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGTERM), (number, status)
    print(number, flush=True)
""",
            env={**LATE, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "10"},
            timeout_s=400,
        )
        asked = [event["properties"]["$ai_input"][0]["content"] for event in ran.events]
        assert ran.returncode == 0, ran.stderr
        assert sorted(asked) == sorted(ran.stdout.split())
        assert len(asked) > 10

    def test_a_second_one_does_not_wait(self, run_program, posthog_server):
        posthog_server.fail_next(Fault(hang=True))
        ran = run_program(
            PREAMBLE
            + textwrap.dedent(
                """
                ask()
                for after_s in (0.1, 2.0):
                    timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGTERM))
                    timer.daemon = True
                    timer.start()
                started = time.monotonic()
                signal.pause()
                """
            ),
            env={**LATE, "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "300"},
        )
        assert ran.returncode == -signal.SIGTERM

    def test_several_at_once_are_one(self, ends):
        """The kernel gives it to a group of processes, and their supervisor hands it on to its child."""
        ran = ends(
            """
            import subprocess
            ask()
            kill = f"kill -TERM {os.getpid()}; " * 3
            subprocess.Popen(["sh", "-c", kill])
            time.sleep(60)
            """,
            -signal.SIGTERM,
        )
        assert len(ran.events) == 1

    def test_switched_off(self, run_program):
        ran = run_program(
            PREAMBLE + "ask()\nprint(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)",
            env={"POSTHOG_AUTOINSTRUMENT_SIGTERM": "0"},
        )
        assert ran.stdout == "True\n"

    def test_by_hand_without_the_launcher(self, run_program):
        ran = run_program(
            "import posthog_autoinstrument.auto\n" + PREAMBLE + "ask()\nos.kill(os.getpid(), signal.SIGTERM)",
            launched=False,
            env=LATE,
        )
        assert ran.returncode == -signal.SIGTERM
        assert len(ran.events) == 1

    @pytest.mark.skipif(shutil.which("unshare") is None or os.name != "posix", reason="there is no unshare")
    def test_as_the_first_process_of_a_container(self, tmp_path, openai_server, posthog_server):
        inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
        if subprocess.run([*inside, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            pytest.skip("this machine allows no process namespaces")
        program = tmp_path / "program.py"
        program.write_text(
            PREAMBLE + "ask()\nprint(os.getpid(), flush=True)\nos.kill(1, signal.SIGTERM)\ntime.sleep(9)"
        )
        command = [*inside, SCRIPTS / "posthog-instrument", sys.executable, program]
        done = subprocess.run(
            command,
            env=environment(openai_server, posthog_server, **LATE),
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout, done.returncode) == ("1\n", 143)
        assert len(posthog_server.events) == 1


class TestChildren:
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_multiprocessing(self, ends, method):
        ran = ends(
            f"""
            import multiprocessing

            def work(number):
                ask(number)
                return number

            def wait_after(number, told):
                ask(number)
                told.set()
                time.sleep(60)

            if __name__ == "__main__":
                context = multiprocessing.get_context({method!r})
                ask("parent")
                with context.Pool(2) as pool:  # ends by terminate(), which sends SIGTERM
                    print(sorted(pool.map(work, range(6), chunksize=1)))
                pool = context.Pool(2)
                print(sorted(pool.map(work, range(6, 10))))
                pool.close()
                pool.join()
                process = context.Process(target=work, args=(10,))
                process.start()
                process.join()
                told = context.Event()
                killed = context.Process(target=wait_after, args=(11, told))
                killed.start()
                told.wait()
                killed.terminate()
                killed.join()
                print(process.exitcode, killed.exitcode)
            """
        )
        assert ran.stdout.splitlines()[-1] == "0 -15"
        asked = Counter(event["properties"]["$ai_input"][0]["content"] for event in ran.events)
        assert asked == Counter(["parent", *map(str, range(12))])

    def test_executors(self, ends):
        ran = ends(
            """
            from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

            if __name__ == "__main__":
                with ProcessPoolExecutor(2) as pool:
                    print(len(list(pool.map(ask, range(5)))))
                with ThreadPoolExecutor(4) as pool:
                    print(len(list(pool.map(ask, range(5, 10)))))
            """
        )
        assert len(ran.events) == 10

    def test_forks_from_threads_while_calls_wait(self, ends):
        """All with one TLS context: a child forked while another thread makes one may hang in OpenSSL, bare as well."""
        ran = ends(
            """
            import ssl
            context = ssl.create_default_context()

            def ask(text):
                client = openai.OpenAI(http_client=openai.DefaultHttpxClient(verify=context))
                said = [{"role": "user", "content": text}]
                return client.chat.completions.create(model="gpt-4o-mini", messages=said).id

            def fork_and_ask(number):
                for turn in range(5):
                    pid = os.fork()
                    if pid == 0:
                        try:
                            ask(f"child {number} {turn}")
                            sys.exit()
                        except SystemExit:
                            import atexit
                            atexit._run_exitfuncs()
                            os._exit(0)
                    os.waitpid(pid, 0)
                    ask(f"parent {number} {turn}")

            import warnings
            warnings.simplefilter("ignore")
            for number in range(20):
                ask(f"before {number}")
            threads = [threading.Thread(target=fork_and_ask, args=(number,)) for number in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            """
        )
        kinds = Counter(event["properties"]["$ai_input"][0]["content"].split()[0] for event in ran.events)
        assert kinds == {"before": 20, "child": 15, "parent": 15}

    def test_programs_that_replace_themselves(self, ends):
        """What runs no code loses what waits; so it is sent before, or kept in a spool."""
        ran = ends(
            """
            import posthog_autoinstrument
            ask(len(sys.argv))
            posthog_autoinstrument.flush()
            if len(sys.argv) == 1:
                sys.stdout.flush()
                os.execv(sys.executable, [sys.executable, __file__, "again"])
            os._exit(7)
            """,
            7,
        )
        assert len(ran.events) == 2

    def test_sys_exit_in_a_thread_and_daemon_threads(self, ends):
        ran = ends(
            """
            def leave():
                ask("thread")
                sys.exit(3)

            def go_on():
                ask("daemon")
                time.sleep(60)

            threading.Thread(target=leave).start()
            daemon = threading.Thread(target=go_on, daemon=True)
            daemon.start()
            daemon.join(3)
            """
        )
        assert len(ran.events) == 2


class TestCelery:
    TASKS = """
import os
import celery
import openai

app = celery.Celery("tasks", broker="filesystem://", backend="file://" + os.environ["FOLDER"] + "/results")
app.conf.broker_transport_options = {
    "data_folder_in": os.environ["FOLDER"] + "/queue",
    "data_folder_out": os.environ["FOLDER"] + "/queue",
    "control_folder": os.environ["FOLDER"] + "/control",
}
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False

@app.task
def ask(number):
    said = [{"role": "user", "content": str(number)}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)
    return os.getpid()
"""

    @pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_no_call_of_a_worker_is_lost(self, tmp_path, openai_server, posthog_server, pool, stop):
        pytest.importorskip("celery")
        for name in ("queue", "results", "control"):
            (tmp_path / name).mkdir()
        (tmp_path / "tasks.py").write_text(self.TASKS)
        (tmp_path / "send.py").write_text(
            "import tasks\nanswers = [tasks.ask.delay(number) for number in range(10)]\n"
            "print(len({answer.get(timeout=120) for answer in answers}))"
        )
        environ = {**environment(openai_server, posthog_server, **LATE), "FOLDER": str(tmp_path)}
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-c", "2", "-P", pool]
        worker = [SCRIPTS / "posthog-instrument", SCRIPTS / "celery", "-A", "tasks", "worker", *options]
        with (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen(worker, cwd=tmp_path, env=environ, stdout=output, stderr=output)
        try:
            sender = [sys.executable, "send.py"]
            done = subprocess.run(
                sender, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True, timeout=150, check=False
            )
            assert done.returncode == 0, (tmp_path / "output").read_text()
            process.send_signal(stop)
            returncode = process.wait(90)
        finally:
            process.kill()
            process.wait()
        assert returncode == (0 if stop == signal.SIGTERM else 1), (tmp_path / "output").read_text()
        asked = Counter(event["properties"]["$ai_input"][0]["content"] for event in posthog_server.events)
        assert asked == Counter(map(str, range(10))), (tmp_path / "output").read_text()


class TestFreeze:
    def test_a_process_that_is_frozen_between_jobs(self, tmp_path, openai_server, posthog_server):
        """As AWS Lambda does: stopped when the job is done, for as long as it likes, and then thawed or killed."""
        program = tmp_path / "program.py"
        program.write_text(
            PREAMBLE
            + textwrap.dedent(
                """
                import posthog_autoinstrument
                for line in sys.stdin:
                    ask(line.strip())
                    print(posthog_autoinstrument.flush(timeout_s=20), flush=True)
                """
            )
        )
        with subprocess.Popen(
            [SCRIPTS / "posthog-instrument", sys.executable, program],
            env=environment(openai_server, posthog_server, **LATE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for number in range(3):
                process.stdin.write(f"{number}\n")
                process.stdin.flush()
                assert process.stdout.readline() == "True\n"
                process.send_signal(signal.SIGSTOP)
                assert len(posthog_server.events) == number + 1
                process.send_signal(signal.SIGCONT)
            process.kill()
        assert [event["properties"]["$ai_input"][0]["content"] for event in posthog_server.events] == ["0", "1", "2"]


class TestGreenlets:
    ENDS: ClassVar = {
        "return": ("", 0),
        "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -signal.SIGTERM),
        "SIGTERM while greenlets run": (
            "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start(); rest()",
            -signal.SIGTERM,
        ),
    }
    PATCHES: ClassVar = {
        "gevent": """
            from gevent import monkey; monkey.patch_all()
            import gevent
            def together(jobs):
                gevent.joinall([gevent.spawn(job) for job in jobs], raise_error=True)
            def rest():
                gevent.joinall([gevent.spawn(gevent.sleep, 60)])
        """,
        "eventlet": """
            import eventlet; eventlet.monkey_patch()
            def together(jobs):
                for thread in [eventlet.spawn(job) for job in jobs]:
                    thread.wait()
            def rest():
                eventlet.spawn(eventlet.sleep, 60).wait()
        """,
    }

    @pytest.mark.parametrize("library", PATCHES)
    @pytest.mark.parametrize("order", ["before", "after"])
    @pytest.mark.parametrize("way", ENDS)
    def test_patched_before_or_after_the_agent(self, run_program, library, order, way):
        pytest.importorskip(library)
        patch = textwrap.dedent(self.PATCHES[library])
        ending, returncode = self.ENDS[way]
        # Late patches and eventlet itself warn; trio, which the tests bring, cannot be imported under eventlet.
        silence = "import sys, warnings; warnings.simplefilter('ignore'); sys.modules['trio'] = None\n"
        program = f"""
ticks = []
def tick():
    for turn in range(20):
        ticks.append(turn)
        time.sleep(0.01)

together([lambda number=number: ask(number) for number in range(5)])
together([tick])
print(len(ticks), flush=True)
{ending}
"""
        first, second = (patch, PREAMBLE) if order == "before" else (PREAMBLE, patch)
        env = {**LATE, "EVENTLET_NO_GREENDNS": "yes"}
        if order == "after":
            bare = run_program(silence + first + second + program, launched=False, env=env)
            if bare.returncode != returncode:  # openai 1.30 has lazy objects in sys.modules that gevent trips over
                pytest.skip("without the agent too, this SDK cannot be patched late")
        ran = run_program(silence + first + second + program, env=env)
        assert (ran.returncode, ran.stdout) == (returncode, "20\n"), ran.stderr
        assert len(ran.events) == 5


def test_sub_interpreters_run_beside_the_agent(ends):
    ran = ends(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        ask()
        made = interpreters.create()
        interpreters.run_string(made, "import json, wave; print(json.dumps([1]), flush=True)")
        interpreters.destroy(made)
        """
    )
    assert len(ran.events) == 1
