"""Delivery is nobody's to see: what tests patch and modules of the program's do not reach it, and it breaks neither."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import trustme

CALL = """
import os, sys
from contextlib import contextmanager
import posthog_autoinstrument
from openai import OpenAI

def call(text="Hello"):
    with OpenAI() as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
"""

MOCKS = {
    "responses": """
        import requests, responses
        @contextmanager
        def mocked():
            with responses.RequestsMock() as mock:
                mock.get("http://service.example/", body="mocked")
                yield
                assert requests.get("http://service.example/").text == "mocked"
                assert len(mock.calls) == 1, list(mock.calls)
    """,
    "requests_mock": """
        import requests, requests_mock
        @contextmanager
        def mocked():
            with requests_mock.Mocker() as mock:
                mock.get("http://service.example/", text="mocked")
                yield
                assert requests.get("http://service.example/").text == "mocked"
                assert mock.call_count == 1, mock.request_history
    """,
    "httpretty": """
        sys.modules["eventlet"] = None  # httpretty imports it, and it imports trio, which cannot be imported under it
        import urllib.request, httpretty
        @contextmanager
        def mocked():
            with httpretty.enabled(allow_net_connect=False):
                httpretty.register_uri(httpretty.GET, "http://service.example/", body="mocked")
                yield
                assert urllib.request.urlopen("http://service.example/").read() == b"mocked"
                seen = {found.path for found in httpretty.latest_requests()}
                assert seen == {"/"}, seen
    """,
    "vcr": """
        import requests, vcr
        @contextmanager
        def mocked():
            with vcr.use_cassette("cassette.yaml", record_mode="all") as cassette:
                yield
                requests.get(os.environ["OPENAI_BASE_URL"] + "/models")
                assert [found.path for found in cassette.requests] == ["/v1/models"], cassette.requests
            assert os.environ["POSTHOG_PROJECT_TOKEN"] not in open("cassette.yaml").read()
            os.remove("cassette.yaml")
    """,
    "pytest_socket": """
        import socket, pytest_socket, warnings
        warnings.simplefilter("ignore", UserWarning)  # it warns of what it blocks
        @contextmanager
        def mocked():
            pytest_socket.disable_socket()
            try:
                yield
                try:
                    socket.create_connection(("127.0.0.1", 9))
                except pytest_socket.SocketBlockedError:
                    pass
                else:
                    raise AssertionError("not blocked")
            finally:
                pytest_socket.enable_socket()
    """,
    "pytest_socket_hosts": """
        import socket, pytest_socket, warnings
        warnings.simplefilter("ignore", UserWarning)  # it warns of what it blocks
        @contextmanager
        def mocked():
            pytest_socket.socket_allow_hosts(["192.0.2.1"], allow_unix_socket=True)
            try:
                yield
                try:
                    socket.create_connection(("127.0.0.1", 9))
                except pytest_socket.SocketConnectBlockedError:
                    pass
                else:
                    raise AssertionError("not blocked")
            finally:
                pytest_socket._remove_restrictions()
    """,
    "by hand": """
        import http.client, requests, select, socket, ssl, time, urllib3
        from unittest import mock
        def refuse(*args, **kwargs):
            raise AssertionError("a request of the agent's")
        @contextmanager
        def mocked():
            places = ("requests.Session.send", "requests.adapters.HTTPAdapter.send", "urllib3.PoolManager.urlopen",
                "urllib3.connectionpool.HTTPConnectionPool.urlopen", "urllib3.util.connection.create_connection",
                "http.client.HTTPConnection.request", "http.client.HTTPConnection.connect", "socket.socket",
                "socket.create_connection", "socket.getaddrinfo", "ssl.SSLContext", "certifi.where")
            with mock.patch.multiple(http.client.HTTPConnection, debuglevel=1):
                patches = [mock.patch(place, refuse) for place in places]
                for patch in patches:
                    patch.start()
                yield
                for patch in patches:
                    patch.stop()
    """,
}


@pytest.mark.parametrize("mock", MOCKS)
def test_a_mock_or_recorder_sees_nothing_of_ours_and_stops_nothing(run_program, mock):
    ran = run_program(
        CALL
        + textwrap.dedent(MOCKS[mock])
        + """
for moment in ("before the first delivery", "after it"):
    call(moment)
    with mocked():
        assert posthog_autoinstrument.flush(20)
print("passed")
""",
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"},
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "passed\n", ""), ran.stderr
    assert [event["properties"]["$ai_input"][0]["content"] for event in ran.events] == [
        "before the first delivery",
        "after it",
    ]


def test_a_suite_of_tests_passes_as_without_us(run_program):
    source = """
        import os, sys
        import posthog_autoinstrument, pytest, requests
        from openai import OpenAI

        @pytest.fixture(autouse=True)
        def deliver_while_the_mock_is_there(request):
            yield
            posthog_autoinstrument.flush(20)

        def ask():
            with OpenAI() as client:
                client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])

        def test_requests_mock(requests_mock):
            requests_mock.get("http://service.example/", text="mocked")
            ask()
            posthog_autoinstrument.flush(20)
            assert requests.get("http://service.example/").text == "mocked"
            assert requests_mock.call_count == 1

        def test_socket_enabled(socket_enabled):
            ask()

        def test_socket_disabled(socket_disabled):
            pass

        if __name__ == "__main__":
            sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:langsmith"]))
    """
    ran = run_program(source, name="test_program.py")
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout
    assert len(ran.events) == 2


OWN = {
    "requests.py": "",
    "requests/__init__.py": "",
    "urllib3.py": "",
    "charset_normalizer.py": "",
    "chardet.py": "",
    "simplejson.py": "",
    "brotli.py": "",
    "socks.py": "",
    "netrc.py": "class netrc: pass  # aiohttp's annotations name it",
    "certifi.py": "where = lambda: 'ca.pem'  # httpx asks it",
    "wrapt.py": "",
    "wrapt/__init__.py": "",
}


@pytest.mark.parametrize("name", OWN)
def test_a_module_of_the_programs_with_the_name_of_a_dependency_is_the_programs(run_program, tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    file.write_text(f"print('executed', __name__)\n{OWN[name]}\nMINE = 'mine'\n")
    module = name.partition("/")[0].removesuffix(".py")
    source = f"""
print("imported before" if {module!r} in sys.modules else "not imported")
call()
posthog_autoinstrument.flush(20)
print("imported before" if {module!r} in sys.modules else "not imported")
import {module}
print({module}.MINE, {module}.__name__, os.path.relpath({module}.__file__))
call()
"""
    source = "import sys\n" + CALL.replace("from openai", "print('start')\nfrom openai") + source
    bare, ran = run_program(source, launched=False), run_program(source)
    assert bare.returncode == 0, bare.stderr
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, bare.stdout, bare.stderr)
    assert ran.stdout.count("executed") == 1
    assert len(ran.events) == 2


@pytest.mark.parametrize(
    "settings", [{"POSTHOG_SPOOL": "spool"}, {"POSTHOG_AUTOINSTRUMENT_LOCAL": "1"}], ids=["spool", "local"]
)
def test_a_sqlite3_of_the_programs_is_not_the_stores(run_program, tmp_path, settings):
    (tmp_path / "sqlite3.py").write_text("print('executed')\nMINE = 'mine'\n")
    source = f"{CALL}\ncall()\nprint(posthog_autoinstrument.flush(20))\nimport sqlite3\nprint(sqlite3.MINE)\n"
    ran = run_program(source, env=settings)
    assert (ran.returncode, ran.stdout) == (0, "True\nexecuted\nmine\n"), ran.stderr
    assert "could not" not in ran.stderr
    shown = [sys.executable, "-m", "posthog_autoinstrument", "events", "--db", str(tmp_path / "state" / "events.db")]
    if "POSTHOG_SPOOL" in settings:
        assert len(ran.events) == 1
    else:
        assert "gpt-4o-mini" in subprocess.run(shown, capture_output=True, text=True, check=True).stdout


def test_a_program_whose_folder_is_gone_delivers(run_program, tmp_path):
    source = f"{CALL}\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')\ncall()\n"
    ran = run_program(source)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.events) == 1


def test_modules_of_the_programs_on_pythonpath_are_the_programs_too(run_program, tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    for name in ("requests", "wrapt", "urllib3"):
        (library / f"{name}.py").write_text("print('executed', __name__)\n")
    ran = run_program(
        CALL + "call()\nposthog_autoinstrument.flush(20)\nimport wrapt, requests\n",
        env={"PYTHONPATH": os.pathsep.join(filter(None, (str(library), os.environ.get("PYTHONPATH"))))},
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "executed wrapt\nexecuted requests\n", "")
    assert len(ran.events) == 1


SPANS = """
import os, sys
import posthog_autoinstrument
from posthog_autoinstrument import posthog_span

def span(name):
    with posthog_span(name):
        pass
    assert posthog_autoinstrument.flush(20)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX descriptors")
@pytest.mark.parametrize("spool", [False, True])
def test_a_program_that_closes_all_descriptors_keeps_the_files_that_it_opens_then(run_program, tmp_path, spool):
    """As daemons do. What is opened next gets the numbers that our connection had."""
    ran = run_program(
        SPANS
        + """
span("first")
os.closerange(3, 256)
files = [open(f"{number}.txt", "w+") for number in range(20)]
for number, file in enumerate(files):
    file.write(f"first {number}\\n")
    file.flush()
span("second")
for number, file in enumerate(files):
    os.write(file.fileno(), b"written\\n")
    file.write("at the end")  # buffered until the process is over
""",
        env={"POSTHOG_SPOOL": str(tmp_path / "spool")} if spool else {},
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    for number in range(20):
        assert (tmp_path / f"{number}.txt").read_text() == f"first {number}\nwritten\nat the end"
    assert [event["properties"]["$ai_span_name"] for event in ran.events] == ["first", "second"]
    assert not spool or list((tmp_path / "spool").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_closes_all_descriptors_keeps_its_files(run_program, tmp_path):
    ran = run_program(
        SPANS
        + """
span("parent")
pid = os.fork()
if pid == 0:
    os.closerange(3, 256)
    files = [open(f"{number}.txt", "w") for number in range(20)]
    span("child")
    for file in files:
        file.write("at the end")
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
span("parent again")
""",
        env={"PYTHONWARNINGS": "ignore::DeprecationWarning"},
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert {(tmp_path / f"{number}.txt").read_text() for number in range(20)} == {"at the end"}
    assert [event["properties"]["$ai_span_name"] for event in ran.events] == ["parent", "child", "parent again"]


@pytest.mark.parametrize("settings", [{}, {"POSTHOG_SPOOL": "spool"}, {"POSTHOG_PROJECT_TOKEN": ""}])
def test_development_mode_finds_nothing_that_we_left_open(run_program, settings):
    """`python -X dev` shows a ResourceWarning for each file, socket or database that nobody closed."""
    source = (
        CALL
        + """
import gc
call("parent")
posthog_autoinstrument.flush(20)
call("again")
if hasattr(os, "fork"):
    pid = os.fork()
    if pid == 0:
        call("child")
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
gc.collect()
"""
    )
    environ = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "always::ResourceWarning", **settings}
    bare, ran = run_program(source, launched=False, env=environ), run_program(source, env=environ)
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout) == (0, "")
    assert [line for line in ran.stderr.splitlines() if not line.startswith("posthog-autoinstrument: ")] == (
        bare.stderr.splitlines()
    )
    assert len(ran.events) == (3 if settings.get("POSTHOG_PROJECT_TOKEN", True) else 0)
