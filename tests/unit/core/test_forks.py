"""Forks wait for what must not be half done."""

from __future__ import annotations

import threading

from posthog_autoinstrument.core.forks import Gate


def test_forks_wait_for_another_thread_but_not_for_ever():
    gate = Gate(0.05)
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        with gate:
            inside.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    gate.before_fork()
    gate.after_fork_in_parent()  # it was not held: there is nothing to let go
    release.set()
    gate._wait_s = 10
    gate.before_fork()
    holder.join(10)
    assert not holder.is_alive()
    gate.after_fork_in_parent()
    with gate:
        pass


def test_the_gate_is_free_in_the_child_whoever_held_it():
    gate = Gate(0)
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
    gate.before_fork()
    assert gate._forking == threading.get_ident()
    gate.after_fork_in_parent()
    release.set()
    holder.join(10)


def test_two_threads_that_fork_at_once_do_not_release_each_others_hold():
    gate = Gate(0.05)
    gate.before_fork()
    errors: list[BaseException] = []

    def fork() -> None:
        gate.before_fork()
        try:
            gate.after_fork_in_parent()
        except RuntimeError as error:
            errors.append(error)

    other = threading.Thread(target=fork)
    other.start()
    other.join(10)
    gate.after_fork_in_parent()
    assert errors == []
    with gate:
        pass
