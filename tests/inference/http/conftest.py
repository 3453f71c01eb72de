"""What the tests of the HTTP layer share: a server on loopback, and libraries as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from casstore.inference.http.patching import uninstall
from tests.inference.http.loopback import Loopback, running_loopback


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """Yield a server of the test's own."""
    with running_loopback() as server:
        yield server


@pytest.fixture(autouse=True)
def _libraries_as_they_were() -> Iterator[None]:
    """Leave httpx and httpx2 as they were, whatever a test did."""
    yield
    uninstall()
