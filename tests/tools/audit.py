"""pip-audit over what the agent itself depends on; a visible line where the advisory service cannot be reached.

Exit code 1 for a known weakness, 0 otherwise.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path


def closure(names: list[str]) -> list[str]:
    """The packages and all that they need, as `name==version`."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in importlib.metadata.requires(name) or ():
            if "extra ==" not in requirement:
                waiting.append(requirement.partition(";")[0].split("[")[0].strip("<>=!~ 0123456789.,()"))
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def main() -> int:
    pins = closure(["wrapt", "requests"])
    print("auditing", *pins)
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("\n".join(pins))
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", str(listed)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            print("AUDIT SKIPPED: the advisory service did not answer")
            return 0
    print(done.stdout, end="")
    if done.returncode == 0:
        if "could not be audited" in done.stdout:
            print("AUDIT SKIPPED: the advisory service does not know these packages here")
        return 0
    if "found" in done.stderr.lower() and "known vulnerabilit" in done.stderr.lower():
        print(done.stderr, end="")
        return 1
    print(
        "AUDIT SKIPPED: the advisory service cannot be reached:", (done.stderr.strip().splitlines() or ["?"])[-1][:200]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
