"""openai-python's own tests, with and without the agent: every test must end the same way.

    make sdk-suite                                # the versions below; builds the wheel and the environments
    make sdk-suite SDK_VERSIONS="2.54.0"          # one version
    .venv-test/bin/python tests/tools/sdk_suite.py 2.54.0

For each version: its sdist is unpacked under build/sdk-suite/, an environment gets that version, what its tests need
(as its own lock pins it) and our wheel; then its tests run three times against `tests/tools/sdk_server.py`:

- bare;
- launched: under `posthog-instrument`, set as in production, with a recording PostHog on loopback;
- loud: the same with POSTHOG_AUTOINSTRUMENT_RAISE=1, so that a failure that the agent hides in production fails a test.

A test of the launched or loud run that does not end as in the bare run counts as differing when its file, run again,
differs again; the exit code is 1 then, and when no event arrived: the agent would not have been there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from posthog_autoinstrument.testing import PostHogServer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

VERSIONS = ("1.109.1", "2.54.0", "3.*")
"""What is compared, as pip reads it behind `openai==`: the last 1.x, a 2.x, the newest 3.x."""

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "sdk-suite"
N_WORKERS = 2
N_RERUNS = 3
MAX_RERUN_FILES = 40
RUN_TIMEOUT_S = 1_800

# Of the SDK's development tools: what its tests do not import.
_NOT_FOR_TESTS = re.compile(r"(pyright|mypy|ruff|nox|ty|playwright|types-.*|.*-stubs)\b", re.IGNORECASE)
_NOT_INSTALLED = {"voice_helpers"}  # needs a sound card's library
_OWN_LINE = re.compile(r"^.*posthog-autoinstrument: .*$", re.MULTILINE)


class SuiteError(Exception):
    """The suite could not run; nothing is known about the agent."""


@dataclass
class Run:
    """One run of the SDK's tests: how each ended, by pytest's node id."""

    outcomes: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    """First line of what a test failed with."""
    own_lines: list[str] = field(default_factory=list)
    """What the agent wrote to standard error, of a test or of the whole run."""
    took_s: float = 0.0


@dataclass(frozen=True)
class Sdk:
    """One version of the SDK, unpacked and installed."""

    version: str
    source: Path
    environment: Path

    def program(self, name: str) -> str:
        return str(self.environment / "bin" / name)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS, metavar="VERSION", help=f"default: {VERSIONS}")
    parser.add_argument("--tests", default="tests", help="a folder or file of the SDK's tests (default: all)")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    same = True
    try:
        for wanted in options.versions:
            same = compare(prepare(wanted), options.tests) and same
    except (SuiteError, subprocess.TimeoutExpired) as error:
        print(f"sdk-suite: {error}", file=sys.stderr)
        return 2
    minutes = (time.monotonic() - started) / 60
    print(f"sdk-suite: {'no test differs' if same else 'DIFFERENT, see above'}; {minutes:.1f} minutes")
    return 0 if same else 1


# --- what is run: the sdist, its environment ---


def prepare(wanted: str) -> Sdk:
    """Download, unpack and install one version; what is there from an earlier time is used."""
    archive = _sdist(wanted)
    version = archive.name.removeprefix("openai-").removesuffix(".tar.gz")
    home = BUILD / archive.name.removesuffix(".tar.gz")
    source, environment = home / "source", home / "env"
    if not source.exists():
        with tarfile.open(archive) as packed:
            packed.extractall(home / "unpacking", filter="data")
        (home / "unpacking" / f"openai-{version}").rename(source)
    sdk = Sdk(version, source, environment)
    stamp = environment / ".installed"
    if not stamp.exists():
        _call([str(ROOT / ".ci" / "make-environment"), sys.executable, str(environment)])
        _install(sdk, home / "pins.txt")
        stamp.touch()
    wheels = list((ROOT / "build" / "wheel").glob("*.whl"))
    if not wheels:
        raise SuiteError("there is no wheel under build/wheel; `make sdk-suite` builds it")
    _pip(sdk, "install", str(wheels[0]))
    _pip(sdk, "install", "--force-reinstall", "--no-deps", str(wheels[0]))
    return sdk


def _sdist(wanted: str) -> Path:
    folder = BUILD / "downloads"
    known = folder / f"openai-{wanted}.tar.gz"
    if not known.exists():
        print(f"downloading the sdist of openai {wanted}", flush=True)
        answer = BUILD / "asked"
        answer.mkdir(parents=True, exist_ok=True)
        for old in answer.iterdir():
            old.unlink()
        command = ["download", "--no-binary", ":all:", "--no-deps", "--dest", str(answer), f"openai=={wanted}"]
        _call([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *command])
        [got] = answer.glob("openai-*.tar.gz")
        folder.mkdir(exist_ok=True)
        known = got.rename(folder / got.name)
    return known


def _install(sdk: Sdk, pins: Path) -> None:
    """The SDK with its extras and what its tests need, at the versions of its own lock where they can be had."""
    project = tomllib.loads((sdk.source / "pyproject.toml").read_text())
    tools = project.get("dependency-groups", {}).get("dev") or project["tool"]["rye"]["dev-dependencies"]
    tools = [tool for tool in tools if not _NOT_FOR_TESTS.match(tool)]
    extras = sorted(set(project["project"]["optional-dependencies"]) - _NOT_INSTALLED)
    pins.write_text("\n".join(_pins(sdk.source)))
    requirements = [f"openai[{','.join(extras)}]=={sdk.version}", *tools]
    print(f"installing openai {sdk.version} and what its tests need", flush=True)
    try:
        _pip(sdk, "install", "--constraint", str(pins), *requirements)
    except SuiteError as error:
        print(f"the SDK's own pins cannot be installed on this Python ({error}); without them", flush=True)
        _pip(sdk, "install", *requirements)


def _pins(source: Path) -> Iterator[str]:
    lock = source / "requirements-dev.lock"
    if lock.exists():
        for line in lock.read_text().splitlines():
            if "==" in line and not line.startswith((" ", "#", "-")):
                yield line
        return
    versions: dict[str, set[str]] = {}
    for package in tomllib.loads((source / "uv.lock").read_text())["package"]:
        if "registry" in package.get("source", {}):
            versions.setdefault(package["name"], set()).add(package["version"])
    for name, locked in versions.items():
        if len(locked) == 1:  # the others depend on the Python or on a group
            yield f"{name}=={min(locked)}"


def _pip(sdk: Sdk, *arguments: str) -> None:
    _call([sdk.program("python"), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments])


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise SuiteError(f"{' '.join(command[:5])} ...: {last}")


# --- running and comparing ---


def compare(sdk: Sdk, tests: str) -> bool:
    """Run one version's tests all three ways and print what came out. True when nothing differs."""
    print(f"\nopenai {sdk.version}", flush=True)
    with _api(sdk) as api_url, PostHogServer() as posthog:
        environments = _environments(api_url, posthog.url)
        bare = _run(sdk, "bare", [tests], environments["bare"])
        _print_bare(bare)
        same = True
        for name in ("launched", "loud"):
            n_before = len(posthog.events)
            run = _run(sdk, name, [tests], environments[name])
            kinds = Counter(str(event["event"]) for event in posthog.events[n_before:])
            same = _judge(sdk, name, bare, run, environments) and bool(kinds) and same
            _print_agent(run, kinds)
        refused = Counter(request.status for request in posthog.requests if request.status != 200)
        if refused:
            print(f"  PostHog refused requests: {dict(refused)}")
            same = False
    return same


@contextmanager
def _api(sdk: Sdk) -> Iterator[str]:
    """The server that answers the SDK's tests, in the SDK's own environment; gives its URL."""
    log = sdk.environment.parent / "server.log"
    with log.open("w") as stderr:
        server = subprocess.Popen(
            [sdk.program("python"), str(ROOT / "tests" / "tools" / "sdk_server.py")],
            env=_clean(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        with server:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                raise SuiteError(f"the API server did not start: {log}")
            yield url  # leaving closes its standard input, which ends it


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_", "PYTEST"))}


def _environments(api_url: str, posthog_url: str) -> dict[str, dict[str, str]]:
    bare = {**_clean(), "TEST_API_BASE_URL": api_url}
    launched = {**bare, "POSTHOG_PROJECT_TOKEN": "phc_sdk_suite", "POSTHOG_HOST": posthog_url}
    return {"bare": bare, "launched": launched, "loud": {**launched, "POSTHOG_AUTOINSTRUMENT_RAISE": "1"}}


def _run(sdk: Sdk, name: str, tests: Sequence[str], environ: Mapping[str, str], suffix: str = "") -> Run:
    home = sdk.environment.parent
    report, log = home / f"{name}{suffix}.xml", home / f"{name}{suffix}.log"
    report.unlink(missing_ok=True)
    command = [sdk.program("python"), "-m", "pytest", "-q", "-n", str(N_WORKERS), "-p", "no:cacheprovider"]
    command += ["-o", "junit_family=xunit1", "-o", "junit_logging=all", f"--junit-xml={report}", *tests]
    if name != "bare":
        command.insert(0, sdk.program("posthog-instrument"))
    started = time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(
            command, cwd=sdk.source, env=environ, stdout=output, stderr=output, timeout=RUN_TIMEOUT_S, check=False
        )
    if done.returncode not in (0, 1) or not report.exists():
        raise SuiteError(f"pytest ended with exit code {done.returncode}: {log}")
    run = _read(report)
    run.took_s = time.monotonic() - started
    run.own_lines += _OWN_LINE.findall(log.read_text())
    return run


def _read(report: Path) -> Run:
    run = Run()
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("file", "")
        of_file = file.removesuffix(".py").replace("/", ".")
        classes = case.get("classname", "").removeprefix(of_file).strip(".").split(".")
        test = "::".join([file, *filter(None, classes), case.get("name", "")])
        outcome = "passed"
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = child.tag if outcome == "passed" else f"{outcome}, {child.tag}"
                run.messages[test] = (child.get("message") or "").partition("\n")[0][:200]
            elif child.tag in ("system-err", "system-out"):
                run.own_lines += [f"{test}: {line}" for line in _OWN_LINE.findall(child.text or "")]
        run.outcomes[test] = outcome
    return run


def _differences(bare: Run, run: Run) -> list[str]:
    tests = bare.outcomes.keys() | run.outcomes.keys()
    return sorted(test for test in tests if bare.outcomes.get(test) != run.outcomes.get(test))


def _judge(sdk: Sdk, name: str, bare: Run, run: Run, environments: Mapping[str, dict[str, str]]) -> bool:
    """Print what differs; tests that do not differ again, or waver without us too, do not count."""
    different = _differences(bare, run)
    files = sorted({test.partition("::")[0] for test in different})
    flaky: list[str] = []
    if different and len(files) <= MAX_RERUN_FILES:
        again: dict[str, list[Run]] = {"bare": [bare], name: []}
        for _ in range(N_RERUNS):
            for way in again:
                again[way].append(_run(sdk, way, files, environments[way], "-again"))
        for test in different:
            without = {each.outcomes.get(test) for each in again["bare"]}
            if len(without) > 1 or {each.outcomes.get(test) for each in again[name]} == without:
                flaky.append(test)
    different = [test for test in different if test not in flaky]
    counts = Counter(run.outcomes.values())
    print(
        f"  {name:<9}{len(run.outcomes)} tests in {run.took_s:.0f} s: {_words(counts)}; {len(different)} differ"
        + (f", {len(flaky)} flaky" if flaky else ""),
        flush=True,
    )
    for test in different:
        print(f"    DIFFERS {test}: {bare.outcomes.get(test)} -> {run.outcomes.get(test)}")
        if test in run.messages:
            print(f"            {run.messages[test]}")
    for test in flaky:
        print(f"    flaky, the same when run again: {test}: {bare.outcomes.get(test)} -> {run.outcomes.get(test)}")
    return not different


def _print_bare(bare: Run) -> None:
    print(f"  {'bare':<9}{len(bare.outcomes)} tests in {bare.took_s:.0f} s: {_words(Counter(bare.outcomes.values()))}")
    resources = Counter(outcome for test, outcome in bare.outcomes.items() if "/api_resources/" in test)
    n_run = resources.total() - resources["skipped"]
    if n_run:
        print(f"           of api_resources pass {resources['passed']} of {n_run} that are not skipped")
    for file, count in Counter(
        test.partition("::")[0] for test, outcome in bare.outcomes.items() if outcome not in ("passed", "skipped")
    ).items():
        print(f"           {count} do not pass in {file}", flush=True)


def _print_agent(run: Run, kinds: Counter[str]) -> None:
    print(f"           events: {json.dumps(kinds) if kinds else 'NONE: the agent was not there'}")
    for line in sorted(set(run.own_lines))[:20]:
        print(f"           own line: {line}")
    sys.stdout.flush()


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
