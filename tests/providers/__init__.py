"""Tests of providers: the contract that all of them keep, and for each what its readers make of documented answers."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.contract")
