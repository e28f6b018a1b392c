"""The benchmarks run and count right; how large their figures are is nothing that a test may say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A quick run of one scenario, with the interpreter of the tests."""
    found = tmp_path_factory.mktemp("bench") / "found.json"
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "bench.py", "--quick", "--only", "chat 1 KB", "--python", sys.executable]
        + ["--json", str(found)],
        env={name: text for name, text in os.environ.items() if not name.startswith("POSTHOG_")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "| **ours** |" in done.stdout
    result: dict[str, Any] = json.loads(found.read_text())
    return result["samples"]["chat 1 KB"]


def test_each_figure_is_there_of_both(measured: dict[str, Any]) -> None:
    assert set(measured) == {"bare", "ours"}
    for samples in measured.values():
        assert len(samples) == 2
        for sample in samples:
            assert min(sample[figure] for figure in ("wall_s", "p99_s", "caller_s", "all_s")) > 0
            assert sample["caller_s"] <= sample["all_s"]
            assert sample["before"] <= sample["peak"] or sys.platform != "linux"


def test_every_event_is_delivered_and_its_bytes_are_counted(measured: dict[str, Any]) -> None:
    for sample in measured["ours"]:
        assert sample["sink"]["delivered"] == sample["made"] == 80
        assert set(sample["sink"]["paths"]) == {"/i/v0/ai/batch/"}
        assert sample["sink"]["requests"] == sum(sample["sink"]["paths"].values())
        # Each prompt has half a kilobyte of prose of its own, which compresses to a third at best.
        assert sample["sink"]["bytes"] > 80 * 512 / 3


def test_nothing_of_the_bare_program_is_delivered(measured: dict[str, Any]) -> None:
    assert [sample["sink"]["delivered"] for sample in measured["bare"]] == [0, 0]
