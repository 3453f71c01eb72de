"""The simulated provider: a loopback server with OpenAI's wire format, in place of a model an extract.

It answers with the sentences of what it was sent that weigh most for the task, after a delay. The same
request always gets the same answer, and every request is counted here, where nobody can talk it away.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "extract-1"
PRICES = {MODEL: {"input": 2.50, "output": 10.00}}
"""USD per million tokens: made up, of the size that good models cost."""

DELAY = 0.2
"""Seconds an answer takes on average."""

_SENTENCES = 4
_TOKEN = 4  # characters a token, as a rule of thumb
_CUES = {
    "risk": "warning never must error fail unsafe deprecated careful may raise insecure beware invalid lost",
    "claim": "is are always returns every same only equal means supports provides allows because",
    "decide": "must should use called return",
}


class Provider:
    """What is asked of the server from outside.

    Attributes:
        base_url: Where the SDK finds it.
        host: Host and port alone.
        calls: Requests answered so far.
    """

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.base_url = f"http://{self.host}/v1"
        self.calls = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        """Count a request."""
        with self._lock:
            self.calls += 1


@contextmanager
def simulated_provider(delay: float = DELAY) -> Iterator[Provider]:
    """Serve on a free port of the loopback interface for as long as the block lasts.

    Args:
        delay: Seconds an answer takes on average; single ones take half to one and a half times as long.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            provider.count()
            time.sleep(delay * (0.5 + sha256(body).digest()[0] / 255))
            answer = json.dumps(_completion(json.loads(body))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


def _completion(request: dict[str, Any]) -> dict[str, Any]:
    task, text = (str(message["content"]) for message in request["messages"])
    answer = extract(task, text)
    read, written = (len(task) + len(text)) // _TOKEN, len(answer) // _TOKEN
    return {
        "id": "chatcmpl-" + sha256(answer.encode()).hexdigest()[:24],
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
        ],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


def extract(task: str, text: str) -> str:
    """Return the few sentences of `text` that weigh most for `task`, in the order of the text."""
    sentences = list(dict.fromkeys(" ".join(part.split()) for part in re.split(r"(?<=[.!?:])\s+|\n\n", text)))
    sentences = [sentence for sentence in sentences if sentence.count(" ") > 2] or [text.strip()]  # noqa: PLR2004
    frequency = Counter(_words(text))
    cues = {word for cue, words in _CUES.items() if cue in task.lower() for word in words.split()}

    def weight(sentence: str) -> float:
        words = _words(sentence)
        common = sum(frequency[word] for word in set(words)) / (len(words) + 5)
        return common + 100 * len(cues.intersection(words))

    chosen = set(sorted(sentences, key=weight, reverse=True)[:_SENTENCES])
    return "\n".join(f"- {sentence}" for sentence in sentences if sentence in chosen)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]{2,}", text.lower())
