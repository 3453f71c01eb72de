"""Where an example asks: the provider itself where its key is set, else a server on loopback."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import TemporaryDirectory
from typing import Any

from casstore import Cache

QUESTION = "Why is the sky blue? Answer in one sentence."
ANSWER = "Blue light is scattered most by the air."

_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 17, "completion_tokens": 9, "total_tokens": 26},
}
_CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": ANSWER}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 17, "outputTokens": 9, "totalTokens": 26},
    "metrics": {"latencyMs": 1},
}


@dataclass(frozen=True)
class Asked:
    """Where to ask.

    Attributes:
        options: Arguments for the SDK's client: none for the provider itself.
        cache: A cache over a store of this run alone; leave it out of your programs to use your own.
    """

    options: dict[str, Any]
    cache: Cache = field(repr=False)

    def tell(self, first: object, second: object) -> None:
        """Print both answers, and what the second one cost."""
        print(first)
        print(second)
        stats = self.cache.stats()
        print(f"{stats.calls} call, {stats.hits} hit")


@contextmanager
def asked(variable: str, address: str = "base_url", path: str = "/v1") -> Iterator[Asked]:
    """Yield where to ask.

    Args:
        variable: The environment variable that holds the provider's key.
        address: What the SDK calls the address of a server.
        path: The path under which the SDK's requests go there.
    """
    with TemporaryDirectory() as folder, Cache(folder) as cache:
        if os.environ.get(variable):
            yield Asked({}, cache)
            return
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ[variable] = "no-key-needed"
        try:
            yield Asked({address: f"http://127.0.0.1:{server.server_address[1]}{path}"}, cache)
        finally:
            del os.environ[variable]
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(_CONVERSE if self.path.endswith("/converse") else _CHAT).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the base class names it
        """Say nothing."""
