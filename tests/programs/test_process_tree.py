"""Who warns: whichever process of a program meets a loss, a refusal or an SDK that is unknown, once for each kind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.programs import Ran, environment

from posthog_autoinstrument.core import diagnostics
from posthog_autoinstrument.testing import Answer, LoopbackServer, OpenAIServer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
Run = Callable[..., Ran]

WORK = """
import multiprocessing, os, sys

def work(number=0):
    import openai
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}])
"""
WAYS = {
    "itself": "if __name__ == '__main__': work()",
    "fork": """
for number in range(3):
    child = os.fork()
    if not child:
        work()
        sys.exit(0)
    os.waitpid(child, 0)
""",
    "itself and fork": """
work()
import posthog_autoinstrument
posthog_autoinstrument.flush(30)
child = os.fork()
if not child:
    work()
    sys.exit(0)
os.waitpid(child, 0)
""",
    **{
        f"pool {method}": f"""
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        pool.map(work, range(4))
        pool.close()
        pool.join()
"""
        for method in ("fork", "spawn", "forkserver")
    },
    "subprocesses": """
import subprocess
for number in range(2):
    subprocess.run([sys.executable, "-c", "import program; program.work()"], check=True)
""",
}


@pytest.fixture
def refusing() -> Iterator[LoopbackServer]:
    """A PostHog that does not know the token."""
    server = LoopbackServer(lambda request: Answer(401))
    yield server
    server.close()


def lines(ran: Ran) -> list[str]:
    assert ran.returncode == 0, ran.stderr
    assert all(line.startswith(diagnostics.PREFIX) for line in ran.stderr.splitlines()), ran.stderr
    return [line.removeprefix(diagnostics.PREFIX) for line in ran.stderr.splitlines()]


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_token_is_said_once_whoever_meets_it(
    run_program: Run, refusing: LoopbackServer, tmp_path: Path, way: str
) -> None:
    environ = {"POSTHOG_HOST": refusing.url, "XDG_RUNTIME_DIR": str(tmp_path)}
    source = WAYS[way]
    if way == "subprocesses":
        source = f"if __name__ == '__main__':{source.replace(chr(10), chr(10) + '    ')}\n"
    said = lines(run_program(WORK + source, env=environ))
    assert len([line for line in said if line.startswith("401 from 127.0.0.1: the project token")]) == 1, said
    assert len([line for line in said if " lost" in line]) == 1, said
    assert len(said) == 2, said
    (loss,) = (line for line in said if " lost" in line)
    assert ("other processes of this program may have lost more" in loss) == (way != "itself")


def test_what_is_left_is_an_empty_file_in_a_folder_of_the_users_own(
    run_program: Run, refusing: LoopbackServer, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(0o755)
    environ = {"POSTHOG_HOST": refusing.url, "XDG_RUNTIME_DIR": str(runtime)}
    assert lines(run_program("print(1)", env=environ)) == []
    assert list(runtime.iterdir()) == []
    assert len(lines(run_program(WORK + WAYS["fork"], env=environ))) == 2
    (folder,) = runtime.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [file.stat().st_size for file in folder.iterdir()] == [0, 0]
    # Another run is another tree.
    assert len(lines(run_program(WORK + WAYS["fork"], env=environ))) == 2


@pytest.mark.parametrize("kind", ["missing", "link", "open to others", "read-only"])
def test_without_such_a_folder_each_process_warns_for_itself(
    run_program: Run, refusing: LoopbackServer, tmp_path: Path, kind: str
) -> None:
    runtime, name = tmp_path / "runtime", f"posthog-autoinstrument-{os.geteuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    if kind != "missing":
        runtime.mkdir()
    if kind == "link":
        (runtime / name).symlink_to(elsewhere)
    if kind == "open to others":
        (runtime / name).mkdir()
        (runtime / name).chmod(0o777)
    if kind == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        runtime.chmod(0o500)
    # The usual folders are the machine's; the tree of another program cannot meet ours there.
    environ = {"POSTHOG_HOST": refusing.url, "XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(tmp_path / "none")}
    said = lines(run_program(WORK + WAYS["fork"], env=environ))
    assert len([line for line in said if line.startswith("401")]) == 1
    assert list(elsewhere.iterdir()) == []
    if kind == "open to others":
        assert list((runtime / name).iterdir()) == []


def test_a_child_whose_standard_error_nobody_sees_does_not_silence_the_program(
    run_program: Run, refusing: LoopbackServer, tmp_path: Path
) -> None:
    source = """
if __name__ == "__main__":
    import subprocess
    ran = [
        subprocess.run([sys.executable, "-c", "import program; program.work()"], check=True, capture_output=True)
        for number in range(2)
    ]
    work()
"""
    environ = {"POSTHOG_HOST": refusing.url, "XDG_RUNTIME_DIR": str(tmp_path)}
    assert len(lines(run_program(WORK + source, env=environ))) == 2


@pytest.mark.parametrize("way", ["fork", "pool fork"])
def test_forked_children_are_one_tree_without_the_launcher_too(
    tmp_path: Path, openai_server: OpenAIServer, refusing: LoopbackServer, way: str
) -> None:
    (tmp_path / "program.py").write_text(WORK + WAYS[way])
    import sitecustomize_template

    environ = environment(
        openai_server, None, POSTHOG_PROJECT_TOKEN="phc_x", POSTHOG_HOST=refusing.url, XDG_RUNTIME_DIR=str(tmp_path),
        PYTHONPATH=os.path.dirname(str(sitecustomize_template.__file__)),
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "program.py"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stderr.splitlines()
    assert len([line for line in said if line.startswith(f"{diagnostics.PREFIX}401 from 127.0.0.1")]) == 1, said
    assert len([line for line in said if " lost (" in line]) == 1, said


def test_an_sdk_in_which_nothing_is_known_is_named_by_a_child(run_program: Run, tmp_path: Path) -> None:
    (tmp_path / "openai").mkdir()
    (tmp_path / "openai" / "__init__.py").write_text("__version__ = '99.0'\n")
    source = (
        "import os, sys\nfor number in range(2):\n    child = os.fork()\n    if not child:\n        import openai\n"
    )
    said = lines(run_program(source + "        sys.exit(0)\n    os.waitpid(child, 0)\n"))
    assert len(said) == 1
    assert said[0].startswith("nothing of openai 99.0 could be patched: no call is captured")
