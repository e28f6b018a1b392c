"""`python -m posthog_autoinstrument` is `posthog-instrument`."""

import sys

from .cli import main

sys.exit(main())
