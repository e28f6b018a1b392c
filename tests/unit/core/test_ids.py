"""Fresh ids: never the same twice, whoever draws them."""

from __future__ import annotations

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from posthog_autoinstrument.core import ids


def drawn(count: int) -> list[str]:
    return [one for _ in range(count) for one in (*ids.new_ids(time.time()), ids.new_trace_id())]


def test_they_are_uuids_of_their_versions() -> None:
    ordered, span_id = ids.new_ids(1_700_000_000.123)
    assert uuid.UUID(ordered).version == 7
    assert int(uuid.UUID(ordered)) >> 80 == 1_700_000_000_123
    for one in (span_id, ids.new_trace_id()):
        assert uuid.UUID(one).version == 4
        assert uuid.UUID(one).variant == uuid.RFC_4122
    assert ids.new_ids(-5.0)[0].startswith("00000000-0000-7")


def test_threads_draw_different_ones() -> None:
    with ThreadPoolExecutor(16) as pool:
        found = [one for each in pool.map(drawn, [500] * 16) for one in each]
    assert len(set(found)) == len(found) == 24_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_draws_none_of_its_parents() -> None:
    ids.new_trace_id()
    while not ids._entropy._pieces:  # the last of those that were drawn ahead
        ids.new_trace_id()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "\n".join(drawn(30)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        of_child = told.read().split()
    os.waitpid(child, 0)
    assert len(of_child) == 90
    assert not set(of_child) & set(drawn(30))


def test_a_process_that_was_forked_without_pythons_knowledge_draws_its_own() -> None:
    entropy = ids.Entropy()
    entropy.take()
    ahead = set(entropy._pieces)
    entropy._pid = -1  # as the parent's is another one
    assert not {entropy.take() for _ in range(100)} & ahead
