"""What the tests of the inference layer share: a cache, the provider's server, a search for credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from casstore.inference.cache import Cache
from tests.credentials import no_credential_is_stored
from tests.inference.provider import Provider, running_provider

__all__ = ["no_credential_is_stored"]


@pytest.fixture
def cache(folder: Path) -> Iterator[Cache]:
    """Yield a cache over a store of its own."""
    with Cache(folder) as cache:
        assert cache.repository is not None
        yield cache


@pytest.fixture(scope="session")
def provider_server() -> Iterator[Provider]:
    """Yield the provider's server of this test process."""
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(provider_server: Provider) -> Provider:
    """Return the provider's server, with nothing scripted and nothing counted."""
    provider_server.reset()
    return provider_server
