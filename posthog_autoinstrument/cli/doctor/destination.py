"""Where events go: PostHog and its token, the local store, the spool."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...export.destination import why_refused
from ...export.posthog import answers
from ...export.token_check import check_token
from ...processing import redaction
from ...settings.config import Config
from ...settings.parsing import EU_HOST, US_HOST
from ...store import ownership
from ...store.database import Store, StoreError
from ...store.prices import Prices, PricesError
from .report import Check
from .values import masked

HOST_TIMEOUT_S = 5.0


def is_local(settings: Config) -> bool:
    """Whether events are kept in the local store."""
    return settings.local or settings.token is None


def check_posthog(settings: Config) -> Iterator[Check]:
    """Whether the host responds and a project has the token."""
    shown = redaction.redact_url(settings.host)
    if settings.token is None:
        yield Check("token", "none: set POSTHOG_PROJECT_TOKEN to send events to PostHog")
    refused = why_refused(settings.host, settings)
    reason = refused or answers(settings.host, HOST_TIMEOUT_S)
    problem = ""
    if reason is not None and not is_local(settings):
        problem = f"no event is sent: {refused}" if refused else f"no event would arrive at {shown}: {reason}"
    yield Check(shown, reason or "responds", problem)
    if settings.token is not None and reason is None:
        yield _token(settings, settings.token)


def _token(settings: Config, token: str) -> Check:
    """Whether a project has the token: capture accepts any token, and drops the events if no project has it."""
    shown, host = masked(token), redaction.redact_url(settings.host)
    found = check_token(settings.host, token, HOST_TIMEOUT_S)
    if found.known:
        return Check("token", f"{shown} belongs to a project there ({found.why}; no event was sent)")
    looks = "" if token.startswith("phc_") else "; a project token begins with phc_"
    if found.known is None:
        return Check(
            "token",
            f"{shown} could not be checked: {found.why}{looks}",
            problem=f"POSTHOG_PROJECT_TOKEN ({shown}) does not look like a project token: those begin with phc_"
            if looks and not is_local(settings)
            else "",
            unknown=f"whether a project has the token {shown} ({found.why})",
        )
    other = {US_HOST: EU_HOST, EU_HOST: US_HOST}.get(settings.host)
    if other is not None and check_token(other, token, HOST_TIMEOUT_S).known:
        remedy = f"the token {shown} is of a project in the other region: set POSTHOG_HOST={other}"
    else:
        remedy = (
            f"no project at {host} has the token {shown}{looks}: PostHog accepts its events and drops them "
            "(PostHog: project settings, Project token)"
        )
    used = not is_local(settings)
    verdict = f"{shown} does not belong to a project there ({found.why}){looks}"
    return Check("token", verdict, problem=remedy if used else "", note="" if used else remedy)


def check_store(settings: Config) -> Iterator[Check]:
    """Whether events can be kept in the local store, and which prices are known."""
    path = Path(settings.db_path)
    state, usable = _state_of_store(path)
    problem = "" if usable or not is_local(settings) else f"no event can be kept: {state}"
    yield Check(str(path), state, problem)
    try:
        names, problem = Prices.load(settings.prices_path).names, ""
    except PricesError as error:
        names, problem = ["a file that cannot be read, see below"], str(error)
    yield Check("prices", ", ".join(names) or 'none: pip install "posthog-autoinstrument[viewer]"', problem)


def _state_of_store(path: Path) -> tuple[str, bool]:
    """What is known of the store without creating it, and whether events can be kept in it."""
    try:
        if path.exists() or path.is_symlink():
            with Store(path) as store:
                return f"{store.count()} events, writable", os.access(path, os.W_OK)
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except StoreError as error:
        return str(error), False
    except OSError as error:
        return f"cannot be used: {error.strerror}", False
    if _is_writable(folder):
        return "created with the first event", True
    return f"cannot be created: {folder} is not a writable folder", False


def check_spool(spool: str) -> Iterator[Check]:
    """Whether calls can be kept in the spool."""
    folder = Path(spool)
    problem = ownership.folder_problem(folder)
    if problem is not None:
        state, usable = problem.removeprefix(f"{folder} "), False
    elif folder.is_dir():
        usable = _is_writable(folder)
        n_files = len(list(folder.glob("outbox-*.db")))
        state = f"{n_files} {'outbox' if n_files == 1 else 'outboxes'} of processes" if usable else "is not writable"
    else:
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        usable = _is_writable(above)
        state = "created with the first call" if usable else f"cannot be created: {above} is not a writable folder"
    problem = "" if usable else f"POSTHOG_SPOOL={folder} {state}: calls would be kept in memory only"
    yield Check(str(folder), state, problem)


def _is_writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
