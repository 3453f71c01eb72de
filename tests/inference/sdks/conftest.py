"""What tests with frameworks and boto3 share: a server on loopback, and nothing left open."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator

import pytest

from tests.inference.http.conftest import _libraries_as_they_were, loopback

__all__ = ["_libraries_as_they_were", "loopback"]


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """Collect the clients that frameworks leave open, while their warnings of it are nobody's."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "litellm" in sys.modules:
            sys.modules["litellm"].in_memory_llm_clients_cache.flush_cache()
        gc.collect()
