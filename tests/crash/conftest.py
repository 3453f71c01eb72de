"""What tests of sudden ends share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.forks import Forks, running_forks


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Yield a program that forks a process for each job."""
    with running_forks() as found:
        yield found
