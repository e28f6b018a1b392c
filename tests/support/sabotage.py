"""The agent with guarded steps that fail, for programs under test."""

from __future__ import annotations

SABOTAGE = """
# Before anything of the agent is loaded: every guarded step fails, inside its guard, while its name is in `broken`.
from posthog_autoinstrument.core import guard

broken = set()
reached = set()
whole_guarded, whole_attempt, whole_quietly = guard.guarded, guard.attempt, guard.quietly

class Sabotage(Exception):
    pass

def fails(step, function):
    def run(*args, **kwargs):
        if step in broken or "*" in broken:
            reached.add(step)
            raise Sabotage(step)
        return function(*args, **kwargs)
    return run

guard.guarded = lambda step, fallback: lambda function: whole_guarded(step, fallback)(fails(step, function))
guard.attempt = lambda step, function, *args, **kwargs: whole_attempt(step, fails(step, function), *args, **kwargs)
guard.quietly = lambda function, *args, **kwargs: whole_quietly(fails("quietly", function), *args, **kwargs)
"""
