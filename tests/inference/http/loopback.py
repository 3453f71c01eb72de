"""A server on loopback that sends canned replies, piece by piece, and keeps what it was sent."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Canned:
    """A reply to send.

    Attributes:
        status: Its status.
        headers: Its headers, in their order; a length is added unless it comes in pieces.
        body: Its body, as it goes over the wire.
        pieces: The body in pieces, sent chunked, one write each; none for a body with a length.
        cut: Close the connection before the end of the body.
        pause: Seconds to wait before each piece.
        hold: What to wait for before anything is sent.
    """

    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    body: bytes = b""
    pieces: Sequence[bytes] = ()
    cut: bool = False
    pause: float = 0.0
    hold: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Loopback:
    """What the server does and did.

    Attributes:
        url: Where it listens.
        reply: What it sends when nothing is scripted.
        script: What it sends to the coming requests, in order.
        seen: Requests, in the order they came.
    """

    url: str = ""
    reply: Canned = field(default_factory=Canned)
    script: deque[Canned] = field(default_factory=deque)
    seen: list[Arrived] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def calls(self) -> int:
        """Requests that came."""
        return len(self.seen)

    @property
    def host(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    def take(self, request: Arrived) -> Canned:
        """Note a request, and return what to send."""
        with self.lock:
            self.seen.append(request)
            return self.script.popleft() if self.script else self.reply


@contextmanager
def running_loopback() -> Iterator[Loopback]:
    """Yield a server that listens until the block ends."""
    loopback = Loopback()
    handler = type("Handler", (_Handler,), {"loopback": loopback})
    server = _Server(("127.0.0.1", 0), handler)
    loopback.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="loopback", daemon=True)
    thread.start()
    try:
        yield loopback
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    loopback: ClassVar[Loopback]
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        canned = self.loopback.take(Arrived(self.command, self.path, headers, body))
        if canned.hold is not None:
            canned.hold.wait(60)
        self.send_response_only(canned.status)
        for name, value in canned.headers:
            if name not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if canned.pieces or canned.cut:
            self._send_pieces(canned)
        else:
            self.send_header("content-length", str(len(canned.body)))
            self.end_headers()
            self.wfile.write(canned.body)

    def do_GET(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def _send_pieces(self, canned: Canned) -> None:
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in canned.pieces:
            if canned.pause:
                time.sleep(canned.pause)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if canned.cut:
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the base class names it
        """Say nothing."""
