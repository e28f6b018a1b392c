"""The launcher installed from a wheel, from an sdist and editable, each in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import paths

ROOT = Path(os.environ.get("POSTHOG_AUTOINSTRUMENT_SOURCE", paths.ROOT))
PROGRAM = """
from openai import OpenAI
print(OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]).model)
"""


def call(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree: building writes into it."""
    copy = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__")
    )
    return copy


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    call(sys.executable, "-m", "build", "--outdir", source / "dist", source, cwd=source)
    return source / "dist"


@pytest.mark.packages
@pytest.mark.timeout(900)
def test_the_wheel_holds_every_file_of_the_package(source, built):
    held = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    for folder in ("posthog_autoinstrument", "sitecustomize_template"):
        for path in (source / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(source).as_posix() in held


def launcher_in(environment: Path, *what: str | Path) -> Path:
    call(sys.executable, "-m", "venv", environment, cwd=environment.parent)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    call(scripts / "python", "-m", "pip", "install", "--quiet", *what, "openai", cwd=environment.parent)
    return scripts


@pytest.mark.packages
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_the_launcher_installed_from(kind, source, built, tmp_path, openai_server, posthog_server):
    what = {"wheel": next(built.glob("*.whl")), "sdist": next(built.glob("*.tar.gz")), "editable": source}[kind]
    scripts = launcher_in(tmp_path / "environment", *(["-e", what] if kind == "editable" else [what]))
    (tmp_path / "app.py").write_text(PROGRAM)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "PYTHONPATH"))}
    environ.update(
        {
            "OPENAI_BASE_URL": openai_server.base_url,
            "OPENAI_API_KEY": "sk-test",
            "POSTHOG_PROJECT_TOKEN": "phc_test",
            "POSTHOG_HOST": posthog_server.url,
        }
    )
    for command in (
        [scripts / "python", "app.py"],
        ["app.py"],
        [scripts / "python", "-c", "import subprocess, sys; subprocess.run([sys.executable, 'app.py'], check=True)"],
    ):
        done = call(scripts / "posthog-instrument", *command, cwd=tmp_path, env=environ)
        assert done.stdout == "gpt-4o-mini-2024-07-18\n"
        assert done.stderr == ""
    assert len(posthog_server.events) == 3
    installed = json.loads(
        call(
            scripts / "python",
            "-c",
            "import json, importlib.metadata as m; print(json.dumps(m.requires('posthog-autoinstrument')))",
            cwd=tmp_path,
        ).stdout
    )
    assert sorted(name for name in installed if "extra" not in name) == ["requests>=2.31", "wrapt>=1.16"]
    assert "demo" in call(scripts / "posthog-instrument", "--help", cwd=tmp_path, env=environ).stdout
    files = call(
        scripts / "python",
        "-c",
        "import posthog_autoinstrument as p, os; print(*os.walk(os.path.dirname(p.__file__)))",
        cwd=tmp_path,
    ).stdout
    for name in ("py.typed", "overview.html", "page.css", "page.js"):
        assert f"'{name}'" in files
    missing = subprocess.run(
        [scripts / "posthog-instrument", "view"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert 'pip install "posthog-autoinstrument[viewer]"' in missing.stderr
