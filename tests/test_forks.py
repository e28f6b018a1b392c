"""Forks wait for what must not be half done."""

from __future__ import annotations

import threading

from posthog_autoinstrument.forks import Gate


def test_forks_wait_for_another_thread_but_not_for_ever():
    gate = Gate()
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        with gate:
            inside.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    gate.before_fork(timeout_s=0.05)
    gate.after_fork_in_parent()  # it was not held: there is nothing to let go
    release.set()
    gate.before_fork(timeout_s=10)
    holder.join(10)
    assert not holder.is_alive()
    gate.after_fork_in_parent()
    with gate:
        pass


def test_the_gate_is_free_in_the_child_whoever_held_it():
    gate = Gate()
    lock = gate._lock
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            inside.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    gate.after_fork_in_child()
    gate.before_fork(timeout_s=0)
    assert gate._held_by_fork
    gate.after_fork_in_parent()
    release.set()
    holder.join(10)
