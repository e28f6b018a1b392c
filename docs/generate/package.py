"""What the documents take from the package, imported here and nowhere else in this folder."""

from __future__ import annotations

from posthog_autoinstrument.providers import load_providers as load_providers
from posthog_autoinstrument.settings.config import SETTINGS as SETTINGS
from posthog_autoinstrument.settings.config import Setting as Setting
from posthog_autoinstrument.testing import OpenAIServer as OpenAIServer
from posthog_autoinstrument.testing import PostHogServer as PostHogServer
