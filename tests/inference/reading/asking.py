"""Requests that go through the HTTP core, answered by values, for the tests of what reads entries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from casstore.digest import Key
from casstore.inference.cache import Cache
from casstore.inference.http.core import Opened
from casstore.inference.http.exchange import HttpReply, HttpRequest
from tests.credentials import SECRET
from tests.inference.http.replies import chat

URL = "https://api.openai.com/v1/chat/completions"


def asking(
    question: str = "hello", url: str = URL, headers: Mapping[str, str] | None = None, **fields: Any
) -> HttpRequest:
    """Return a request for a chat completion."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": question}], **fields}
    credentials = {"authorization": f"Bearer {SECRET}", **(headers or {})}
    return HttpRequest.of("POST", url, credentials, json.dumps(body).encode())


def answered(
    cache: Cache, request: HttpRequest, reply: Any = None, kind: str = "application/json", **rules: Any
) -> Key:
    """Have a request answered through the cache, and return its key.

    Args:
        cache: The cache.
        request: The request.
        reply: The reply, as JSON or bytes; by default a chat completion.
        kind: Its media type.
        rules: The rules of the HTTP layer.
    """
    body = reply if isinstance(reply, bytes) else json.dumps(chat() if reply is None else reply).encode()
    http = cache.http(**rules)
    opened = http.open(request)
    assert isinstance(opened, Opened)
    http.run(opened, lambda _: HttpReply(200, {"content-type": kind}, body))
    return opened.material.key
