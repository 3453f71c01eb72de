"""Exchanges that went through the HTTP layer into the store of a test of the command line."""

from __future__ import annotations

from typing import Any

from casstore.digest import Key
from casstore.inference.cache import Cache
from tests.inference.http.replies import chat
from tests.inference.reading.asking import answered, asking


def add_exchange(question: str, answer: str, *, reply: Any = None, **request: Any) -> Key:
    """Have a question answered through a cache over the test's store, and return the key."""
    with Cache() as cache:
        return answered(cache, asking(question, **request), chat(answer) if reply is None else reply)
