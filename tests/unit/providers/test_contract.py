"""Every provider found keeps the contract, and the contract notices one that does not."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence

import pytest
from support.provider_contract import Exchange, check_provider

from posthog_autoinstrument.bootstrap.startup import TRIGGERS
from posthog_autoinstrument.providers import load_providers
from posthog_autoinstrument.providers.generation import Generation
from posthog_autoinstrument.providers.provider import Endpoint, Provider

PROVIDERS = load_providers()


def exchanges_of(provider: Provider) -> Sequence[Exchange]:
    """The sample calls of the provider."""
    exchanges: Sequence[Exchange] = importlib.import_module(f"support.exchanges.{provider.name}").EXCHANGES
    return exchanges


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_provider_keeps_the_contract(provider: Provider) -> None:
    check_provider(provider, exchanges_of(provider))


def test_names_and_packages_are_unique_and_wake_the_agent() -> None:
    assert PROVIDERS
    assert {provider.package for provider in PROVIDERS} == set(TRIGGERS)
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)
    assert len({provider.package for provider in PROVIDERS}) == len(PROVIDERS)


def _raises(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    raise KeyError("choices")


def _forgets_streams(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    return PROVIDERS[0].endpoints[0].read(request, response, None)


def _remembers(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    generation = PROVIDERS[0].endpoints[0].read(request, response, chunks)
    generation.parameters = _SHARED
    return generation


_SHARED: dict[str, object] = {"n": 1}


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        ({"read": _raises}, KeyError),
        ({"read": _forgets_streams}, AssertionError),
        ({"read": _remembers}, AssertionError),
        ({"path": "chat/completions"}, AssertionError),
        ({"name": "embeddings"}, AssertionError),
    ],
    ids=["raises", "forgets streams", "shares state", "path", "name"],
)
def test_contract_notices_a_provider_that_breaks_it(endpoint: dict[str, object], error: type[Exception]) -> None:
    good = PROVIDERS[0]
    broken: Endpoint = dataclasses.replace(good.endpoints[0], **endpoint)  # type: ignore[arg-type]
    with pytest.raises(error):
        check_provider(dataclasses.replace(good, endpoints=(broken, *good.endpoints[1:])), exchanges_of(good))
