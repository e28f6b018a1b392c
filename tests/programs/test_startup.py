"""Start-up: the host's own sitecustomize, other launchers, foreign interpreters, import hooks, and what it costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import ClassVar

import pytest
from support.pythons import find_python

import sitecustomize_template

TEMPLATE = os.path.dirname(os.path.abspath(sitecustomize_template.__file__))


def run(
    *arguments: str, path: list[str], cwd: Path, python: str = sys.executable, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
    environ["PYTHONPATH"] = os.pathsep.join(path)
    environ.update(env or {})
    return subprocess.run(
        [python, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def write(folder: Path, source: str, name: str = "sitecustomize.py") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(source))
    return str(folder)


PROGRAM = """
import sys
print("finders:", sum(type(f).__module__ == "posthog_autoinstrument.bootstrap.import_hook" for f in sys.meta_path))
"""


class TestChain:
    def test_the_hosts_own_sitecustomize_runs_as_without_us(self, tmp_path):
        own = write(
            tmp_path / "own",
            """
            import sys
            print("own", __name__, __file__ == __spec__.origin, sys.modules[__name__].__file__ == __file__)
            value = 7
            """,
        )
        program = "import sitecustomize; print(sitecustomize.value)"
        bare = run("-c", program, path=[own], cwd=tmp_path)
        ours = run("-c", program, path=[TEMPLATE, own], cwd=tmp_path)
        assert (ours.stdout, ours.stderr, ours.returncode) == (bare.stdout, bare.stderr, bare.returncode)
        assert ours.stdout == "own sitecustomize True True\n7\n"
        assert run("-c", PROGRAM, path=[TEMPLATE, own], cwd=tmp_path).stdout.endswith("finders: 1\n")

    @pytest.mark.parametrize(
        "error",
        ["raise ValueError('broken')", "import no_such_module", "raise SystemExit(4)", "raise KeyboardInterrupt"],
    )
    def test_its_errors_are_as_without_us(self, tmp_path, error):
        own = write(tmp_path / "own", error + "\n")
        bare = run("-c", PROGRAM, path=[own], cwd=tmp_path)
        ours = run("-c", PROGRAM, path=[TEMPLATE, own], cwd=tmp_path)
        assert ours.returncode == bare.returncode
        if bare.returncode == 0:
            assert ours.stderr == bare.stderr
            assert ours.stdout == "finders: 1\n"
        else:
            assert bare.stderr.splitlines()[0] == ours.stderr.splitlines()[0]

    def test_the_path_is_given_back(self, tmp_path):
        own = write(tmp_path / "own", "import sys\nsys.path.append('/added')\n")
        shown = run("-c", "import sys; print(sys.path)", path=[TEMPLATE, own], cwd=tmp_path).stdout
        bare = run("-c", "import sys; print(sys.path)", path=[own], cwd=tmp_path).stdout
        ours, theirs = eval(shown), eval(bare)
        assert [entry for entry in ours if entry != TEMPLATE] == theirs
        assert ours.count(TEMPLATE) == 1

    CHAINERS: ClassVar[dict[str, str]] = {
        # Removes its own folder, forgets the module and imports the name again (ddtrace's way).
        "reimports": """
            import os, sys
            own = os.path.dirname(os.path.abspath(__file__))
            print("other")
            kept = list(sys.path)
            sys.path[:] = [p for p in sys.path if os.path.abspath(p) != own]
            sys.modules.pop("sitecustomize", None)
            try:
                import sitecustomize
            except ImportError:
                pass
            sys.path[:] = kept
            """,
        # Finds the next one on the path and runs it (newrelic's way).
        "finds": """
            import os, sys
            from importlib.machinery import PathFinder
            from importlib.util import module_from_spec
            own = os.path.dirname(os.path.abspath(__file__))
            print("other")
            spec = PathFinder.find_spec("sitecustomize", [p for p in sys.path if os.path.abspath(p) != own])
            if spec is not None:
                module = module_from_spec(spec)
                sys.modules["sitecustomize"] = module
                spec.loader.exec_module(module)
            """,
    }

    @pytest.mark.parametrize("kind", CHAINERS)
    @pytest.mark.parametrize("ours_first", [True, False])
    def test_another_launcher_in_either_order(self, tmp_path, kind, ours_first):
        other = write(tmp_path / "other", self.CHAINERS[kind])
        own = write(tmp_path / "own", "print('own')\n")
        path = [TEMPLATE, other, own] if ours_first else [other, TEMPLATE, own]
        done = run("-c", PROGRAM, path=path, cwd=tmp_path)
        assert done.stdout == "other\nown\nfinders: 1\n"
        assert done.stderr == ""

    def test_a_trailing_separator_in_the_path_entry(self, tmp_path):
        own = write(tmp_path / "own", "print('own')\n")
        assert run("-c", PROGRAM, path=[TEMPLATE + os.sep, own], cwd=tmp_path).stdout == "own\nfinders: 1\n"


class TestForeignInterpreters:
    def test_an_environment_without_the_package_is_silent(self, tmp_path):
        template = shutil.copytree(TEMPLATE, tmp_path / "template")
        done = run("-S", "-c", "import site; site.main(); print('ran')", path=[str(template)], cwd=tmp_path)
        assert done.stdout == "ran\n"
        bare = run(
            "-c", "import sys; print('ran', sys.meta_path[0].__class__)", path=[str(template)], cwd=tmp_path,
            python=getattr(sys, "_base_executable", sys.executable),
        )  # fmt: skip
        assert bare.stderr == ""
        assert bare.stdout.startswith("ran")

    @pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8", "3.9"])
    def test_older_pythons(self, tmp_path, version):
        python = find_python(version)
        if python is None:
            pytest.skip(f"no python{version} here")
        own = write(tmp_path / "own", "print('own')\n")
        template = shutil.copytree(TEMPLATE, tmp_path / "template")
        done = run("-c", "print('ran')", path=[str(template), own], cwd=tmp_path, python=python)
        assert done.stdout == "own\nran\n"
        assert done.stderr == ""

    def test_a_package_that_exits_while_it_is_imported(self, tmp_path):
        broken = tmp_path / "broken"
        write(broken / "posthog_autoinstrument", "raise SystemExit(9)\n", "__init__.py")
        done = run("-c", "print('ran')", path=[TEMPLATE, str(broken)], cwd=tmp_path)
        assert (done.stdout, done.stderr, done.returncode) == ("ran\n", "", 0)


class TestStartUp:
    def test_a_program_without_openai_loads_nothing_of_ours_but_start_up(self, tmp_path):
        done = run("-X", "importtime", "-c", "import json", path=[TEMPLATE], cwd=tmp_path)
        modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
        ours = {name for name in modules if name.startswith(("posthog", "wrapt", "requests", "sitecustomize"))}
        assert ours == {
            "sitecustomize",
            "posthog_autoinstrument",
            "posthog_autoinstrument.bootstrap",
            "posthog_autoinstrument.bootstrap.import_hook",
            "posthog_autoinstrument.bootstrap.startup",
            "posthog_autoinstrument.integrations",
        }

    @pytest.mark.parametrize(
        ("text", "asked"),
        [("0", 0), ("false", 0), (" Off ", 0), ("no", 0), (" ", 0), ("maybe", 0), ("1", 1), ("YES", 1), ("on", 1)],
    )
    def test_a_summary_is_asked_for_by_what_says_so(self, tmp_path, text, asked):
        show = (
            "import atexit, sys; print(atexit._ncallbacks(), 'posthog_autoinstrument.settings.config' in sys.modules)"
        )
        done = run("-c", show, path=[TEMPLATE], cwd=tmp_path, env={"POSTHOG_AUTOINSTRUMENT_SUMMARY": text})
        assert done.stdout == f"{asked} False\n"
        assert ("no calls were captured" in done.stderr) == bool(asked)

    @pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
    @pytest.mark.parametrize(
        ("text", "handled"), [("0", False), ("OFF", False), ("1", True), ("maybe", True), (" ", True)]
    )
    def test_a_signal_is_handled_as_the_setting_is_read_everywhere(self, tmp_path, run_program, text, handled):
        show = CALL + "call()\nimport signal\nprint(signal.getsignal(signal.SIGTERM) != signal.SIG_DFL)"
        ran = run_program(show, env={"POSTHOG_AUTOINSTRUMENT_SIGTERM": text})
        assert ran.stdout == f"{handled}\n"

    def test_several_watch_one_module(self, tmp_path):
        write(tmp_path, "print('module')\n", "watched.py")
        done = run(
            "-c",
            "from posthog_autoinstrument.bootstrap import import_hook\n"
            "finder, said = import_hook.finder(), []\n"
            "for callback in (said.append, lambda name: said.append('second'), said.append):\n"
            "    finder.watch('watched', callback)\n"
            "import watched; print(said)",
            path=[TEMPLATE, str(tmp_path)],
            cwd=tmp_path,
        )
        assert done.stdout == "module\n['watched', 'second']\n", done.stderr

    def test_nothing_is_imported_that_a_bare_interpreter_has_not_loaded(self, tmp_path):
        show = "import sys; print(sorted(sys.modules))"
        bare = set(eval(run("-c", show, path=[], cwd=tmp_path).stdout))
        ours = set(eval(run("-c", show, path=[TEMPLATE], cwd=tmp_path).stdout))
        assert (
            ours - bare
            == {
                "sitecustomize",
                "posthog_autoinstrument",
                "posthog_autoinstrument.bootstrap",
                "posthog_autoinstrument.bootstrap.import_hook",
                "posthog_autoinstrument.bootstrap.startup",
                "posthog_autoinstrument.integrations",
            }
            - bare
        )

    def test_openai_waits_for_what_captures_only(self, run_program):
        """What makes and sends events is loaded by the first of them, on the flusher's thread."""
        ran = run_program(
            """
            import sys, threading
            import openai
            NAME = "posthog_autoinstrument."
            def ours():
                return {name.removeprefix(NAME) for name in sys.modules if name.startswith(NAME)}
            late = {"processing.event", "processing.pipeline", "processing.sanitize", "processing.redaction",
                    "providers.parsing", "core.records", "capture.finalize", "export.exporter", "export.destination",
                    "core.safejson", "instrumentation.websockets", "providers.openai.chat"}
            if "openai.resources.beta.realtime.realtime" in sys.modules:  # openai 1.60 imports what they patch
                late -= {"instrumentation.websockets", "providers.parsing", "core.records"}
            print(sorted(ours() & late))
            print("export.http_session" in ours(), threading.active_count())
            openai.OpenAI().chat.completions.create(model="m", messages=[])
            import posthog_autoinstrument
            posthog_autoinstrument.flush()
            print("processing.event" in ours(), "export.http_session" in ours(), "requests" in sys.modules)
            """
        )
        assert ran.stdout == "[]\nFalse 1\nTrue True False\n", ran.stderr
        assert len(ran.events) == 1

    def test_asking_whether_openai_is_installed_loads_nothing(self, tmp_path):
        source = """
            import importlib.util, sys
            spec = importlib.util.find_spec("openai")
            print(type(spec.loader).__name__, "wrapt" in sys.modules, "posthog_autoinstrument.agent" in sys.modules)
            import openai
            print("posthog_autoinstrument.agent" in sys.modules, "exec_module" in vars(openai.__loader__))
            """
        done = run("-c", textwrap.dedent(source), path=[TEMPLATE], cwd=tmp_path)
        assert done.stdout == "SourceFileLoader False False\nTrue False\n"

    def test_woken_without_launcher_and_token_it_captures_nothing(self, tmp_path, openai_server):
        source = """
            import os, threading
            from openai import OpenAI
            OpenAI().chat.completions.create(model="m", messages=[], posthog_distinct_id="u")
            print(threading.active_count(), os.listdir(os.environ["HOME"]))
            """
        home = tmp_path / "home"
        home.mkdir()
        env = {"OPENAI_BASE_URL": openai_server.base_url, "OPENAI_API_KEY": "k", "HOME": str(home)}
        done = run("-c", textwrap.dedent(source), path=[TEMPLATE], cwd=tmp_path, env=env)
        assert done.stdout == "1 []\n", done.stderr
        (line,) = done.stderr.splitlines()
        assert "nothing is captured: POSTHOG_PROJECT_TOKEN is not set" in line

    def test_a_module_that_imports_its_own_submodule_in_a_thread_does_not_hang(self, tmp_path):
        package = tmp_path / "openai"
        write(
            package,
            """
            import threading
            def work():
                import importlib
                importlib.import_module("openai._base_client")
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(20)
            print("hung" if thread.is_alive() else "done")
            """,
            "__init__.py",
        )
        write(package, "", "_base_client.py")
        bare = run("-c", "import openai", path=[str(tmp_path)], cwd=tmp_path)
        done = run(
            "-c", "import openai", path=[TEMPLATE, str(tmp_path)], cwd=tmp_path, env={"POSTHOG_API_KEY": "phc_1"}
        )
        assert done.stdout == bare.stdout
        # Python 3.14.10 waits by itself: the thread imports the package that it is in, which has not loaded.
        assert done.stdout == "done\n" or sys.version_info >= (3, 14)
        (line,) = done.stderr.splitlines()
        assert "nothing of openai" in line


CALL = """
from openai import OpenAI
def call():
    return OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
"""


class TestWaysToInstrument:
    def test_openai_imported_before_the_agent(self, run_program):
        ran = run_program(
            CALL
            + """
client = OpenAI()
client.chat.completions
import posthog_autoinstrument
posthog_autoinstrument.instrument()
posthog_autoinstrument.instrument()
call()
client.chat.completions.create(model="gpt-4o-mini", messages=[])
""",
            launched=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert len(ran.events) == 2

    def test_import_auto(self, run_program):
        ran = run_program("import posthog_autoinstrument.auto\n" + CALL + "call()\n", launched=False)
        assert len(ran.events) == 1

    def test_by_hand_without_a_token_nothing_is_kept_and_it_says_so_once(self, run_program, tmp_path):
        ran = run_program(
            "import posthog_autoinstrument.auto\n" + CALL + "call()\ncall()\n", launched=False, token=False
        )
        assert ran.returncode == 0
        assert "POSTHOG_PROJECT_TOKEN" in ran.stderr.splitlines()[0]
        assert not (tmp_path / "state").exists()

    def test_a_token_set_in_code_on_the_posthog_package(self, run_program, posthog_server, tmp_path):
        source = f"""
import posthog
posthog.project_api_key = "phc_from_code"
posthog.host = {posthog_server.url!r}
"""
        ran = run_program(source + CALL + "call()\n", token=False)
        assert len(ran.events) == 1, ran.stderr
        assert not (tmp_path / "state").exists()

    def test_child_processes(self, run_program):
        ran = run_program(
            CALL
            + """
import multiprocessing, os, subprocess, sys
if __name__ == "__main__":
    call()
    head = open(__file__).read().split("import multiprocessing")[0]
    subprocess.run([sys.executable, "-c", head + "call()"], check=True)
    for method in ("spawn", "fork", "forkserver"):
        child = multiprocessing.get_context(method).Process(target=call)
        child.start()
        child.join()
        assert child.exitcode == 0
    pid = os.fork()
    if pid == 0:
        call()
        sys.exit(0)
    os.waitpid(pid, 0)
    print("ok")
""",
            env={"PYTHONWARNINGS": "ignore"},
        )
        assert ran.stdout == "ok\n", ran.stderr
        assert len(ran.events) == 6
        assert len({event["uuid"] for event in ran.events}) == 6

    def test_a_reloaded_sdk_module_is_patched_again(self, run_program):
        ran = run_program(
            CALL
            + """
import importlib, sys
from openai.resources.chat.completions import Completions
call()
importlib.reload(sys.modules[Completions.__module__])
call()
"""
        )
        assert len(ran.events) == 2, ran.stderr
