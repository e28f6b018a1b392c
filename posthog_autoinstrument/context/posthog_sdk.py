"""What the `posthog` package gives, where the program has loaded it: user, session and tags of its context, privacy
mode, whether it is switched off. Reads attributes only; posthog 3.6 to 7.91."""

from __future__ import annotations

import sys

from ..core import ids
from . import posthog_clients
from .fields import NO_FIELDS, Fields, serialize


def fields() -> Fields:
    """The fields of the posthog package's own context (posthog 7: `posthog.contexts`) and privacy mode.

    Read when a call starts, on the caller's thread. `privacy_mode` is True where the package or any of its clients has
    it, else None: the package cannot take privacy back.
    """
    contexts = sys.modules.get("posthog.contexts")
    if "posthog" not in sys.modules:
        return NO_FIELDS
    private = is_private()
    read_user = getattr(contexts, "get_context_distinct_id", None)
    read_session = getattr(contexts, "get_context_session_id", None)
    read_tags = getattr(contexts, "get_tags", None)
    user = read_user() if read_user is not None else None
    session = read_session() if read_session is not None else None
    tags = read_tags() if read_tags is not None else None
    if not (user or session or tags or private):
        return NO_FIELDS
    return Fields(
        distinct_id=ids.text_of(user, "posthog.identify_context: distinct_id") if user else None,
        replay_session_id=ids.text_of(session, "posthog.set_context_session: session_id") if session else None,
        properties=serialize(tags) if tags else {},
        privacy_mode=True if private else None,
    )


def is_private() -> bool:
    """Whether the package or any client made of it has `privacy_mode`."""
    posthog = sys.modules.get("posthog")
    client = getattr(posthog, "default_client", None)
    return (
        bool(getattr(posthog, "privacy_mode", False) or getattr(client, "privacy_mode", False))
        or posthog_clients.any_private()
    )


def is_disabled() -> bool:
    """Whether the program switched the posthog package off: that counts for our events, too."""
    posthog = sys.modules.get("posthog")
    if posthog is None:
        return False
    client = getattr(posthog, "default_client", None)
    return bool(getattr(posthog, "disabled", False) or getattr(client, "disabled", False))
