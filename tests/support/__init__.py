"""What tests import: nothing in here is a test."""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("comparison", "documented", "provider_contract", "waiting", "web"))
)
