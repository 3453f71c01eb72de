"""An S3 server for tests: moto behind real HTTP, in a process of its own, with an exact request log.

Run as a program it serves and prints its port; imported it starts that program and speaks to it. Requests
come in one at a time, because moto checks conditions and then writes, where S3 does both at once. Faults can
be ordered: an error in place of an answer, or an answer cut short.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http import HTTPStatus
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

CONTROL = "/-/"
"""Paths below this speak to the test server itself; no bucket may be called ``-``."""

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the server got it, and its body's length; LIST is a GET that names no object."""

    verb: str
    path: str
    query: str
    range: str = ""
    length: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do with coming requests.

    Attributes:
        verb: Which requests: ``GET``, ``PUT``, ``LIST``, ...
        times: How many of them.
        status: The HTTP status to answer with.
        code: The S3 error code to answer with.
        detail: More elements of the error's XML.
        headers: More headers of the answer.
        after: Requests to let through first.
        applied: Let moto do the work, and lose only its answer.
        cut: Send moto's own answer, but only half of its body.
    """

    verb: str
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int = 0
    applied: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; `cut` sends half of the body and hangs up."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    length: str | None = None
    cut: bool = False


class Server:
    """A running server, seen from the tests.

    Args:
        port: Where it listens on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{secrets.token_hex(8)}"
        self._send("PUT", f"/{name}", unlogged=True)
        self.clear()
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Store an object behind the backend's back, unlogged."""
        self._send("PUT", f"/{bucket}/{quote(key)}", content, unlogged=True)

    def requests(self) -> list[Request]:
        """Return every request since the last `clear`, in order."""
        return [Request(**each) for each in json.loads(self._send("GET", CONTROL + "requests"))]

    def verbs(self) -> dict[str, int]:
        """Return how many requests of each verb came since the last `clear`."""
        return dict(Counter(request.verb for request in self.requests()))

    def clear(self) -> None:
        """Forget all requests and faults."""
        self._send("DELETE", CONTROL + "requests")

    def fail(self, fault: Fault) -> None:
        """Order a fault."""
        self._send("POST", CONTROL + "faults", json.dumps(asdict(fault)).encode())

    def _send(self, method: str, path: str, body: bytes = b"", *, unlogged: bool = False) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"x-unlogged": "1"} if unlogged else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server process, and end it."""
    command = [sys.executable, "-m", "tests.s3"]
    with subprocess.Popen(
        command,
        cwd=_ROOT,
        env={**os.environ, "S3_UPLOAD_PART_MIN_SIZE": "1"},  # S3 and moto want 5 MiB
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.kill()


class _Recorder:
    """Stands before moto: records requests, plays faults, and lets one request in at a time."""

    def __init__(self, moto: WSGIApplication) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._faults: list[Fault] = []

    def answer(self, environ: WSGIEnvironment) -> Answer:
        with self._lock:
            if environ["PATH_INFO"].startswith(CONTROL):
                return Answer(200, self._control(environ))
            request = _request(environ)
            if "HTTP_X_UNLOGGED" in environ:
                return self._ask_moto(environ)
            self._requests.append(request)
            fault = self._take_fault(request.verb)
            return self._ask_moto(environ) if fault is None else self._play(fault, environ)

    def _play(self, fault: Fault, environ: WSGIEnvironment) -> Answer:
        if fault.cut:
            return replace(self._ask_moto(environ), cut=True)
        if fault.applied:
            self._ask_moto(environ)
        message = "" if "<Message>" in fault.detail else "<Message>ordered by a test</Message>"
        body = f"<Error><Code>{fault.code}</Code>{message}{fault.detail}</Error>".encode()
        if environ["REQUEST_METHOD"] == "HEAD":
            body = b""
        return Answer(fault.status, body, (("Content-Type", "application/xml"), *fault.headers.items()))

    def _ask_moto(self, environ: WSGIEnvironment) -> Answer:
        from werkzeug.test import run_wsgi_app

        body, status, headers = run_wsgi_app(self._moto, environ, buffered=True)
        # The HTTP server sends its own Server and Date, and a strict client refuses two.
        kept = tuple(pair for pair in headers if pair[0].lower() not in {"server", "date", "content-length"})
        # The answer to a HEAD has no body, but the length of one.
        length = headers.get("Content-Length") if environ["REQUEST_METHOD"] == "HEAD" else None
        return Answer(int(status.split()[0]), b"".join(body), kept, length=length)

    def _take_fault(self, verb: str) -> Fault | None:
        for index, fault in enumerate(self._faults):
            if fault.verb != verb:
                continue
            if fault.after:
                self._faults[index] = replace(fault, after=fault.after - 1)
                return None
            if fault.times > 1:
                self._faults[index] = replace(fault, times=fault.times - 1)
            else:
                del self._faults[index]
            return fault
        return None

    def _control(self, environ: WSGIEnvironment) -> bytes:
        if environ["REQUEST_METHOD"] == "POST":
            self._faults.append(Fault(**json.loads(environ["wsgi.input"].read())))
        elif environ["REQUEST_METHOD"] == "DELETE":
            self._requests.clear()
            self._faults.clear()
        return json.dumps([asdict(request) for request in self._requests]).encode()


def _request(environ: WSGIEnvironment) -> Request:
    verb, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
    names_object = "/" in path.strip("/")
    if verb == "GET" and (not names_object or "uploads" in parse_qs(query, keep_blank_values=True)):
        verb = "LIST"
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return Request(verb, path, query, environ.get("HTTP_RANGE", ""), length)


def _mend_moto() -> None:
    """Let requests about an upload that is gone be answered as S3 does, where moto breaks."""
    from moto.s3 import models
    from moto.s3.exceptions import NoSuchUpload

    def mended(original: Callable[..., object]) -> Callable[..., object]:
        def call(self: models.S3Backend, bucket_name: str, multipart_id: str, *rest: object) -> object:
            if multipart_id not in self.get_bucket(bucket_name).multiparts:
                raise NoSuchUpload(upload_id=multipart_id)
            return original(self, bucket_name, multipart_id, *rest)

        return call

    for name in ("upload_part", "complete_multipart_upload"):
        setattr(models.S3Backend, name, mended(getattr(models.S3Backend, name)))


def _serve() -> None:
    """Serve until standard input closes: with the tests gone, so is the server."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    _mend_moto()
    recorder = _Recorder(create_backend_app("s3"))

    class Handler(MotoRequestHandler):
        """Keeps connections alive as S3 does, where werkzeug closes each: pools and forks depend on it."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def run_wsgi(self) -> None:
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.wfile.flush()
            environ = self.make_environ()
            # Read to the end first: an unread body would be taken for the next request.
            body = self.rfile.read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
            self._send(recorder.answer(environ))

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for keyword, value in answer.headers:
                self.send_header(keyword, value)
            if answer.status != HTTPStatus.NO_CONTENT:
                self.send_header("Content-Length", answer.length or str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
            self.wfile.flush()
            self.close_connection = answer.cut or self.close_connection

    server = make_server("127.0.0.1", 0, recorder._moto, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
