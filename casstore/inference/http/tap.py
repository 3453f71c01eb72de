"""What watches a body go by, to store it or only to count it, without changing a byte.  Floor: inference.

A transport feeds it each piece and closes it; what is wrong with a piece is the tap's trouble alone. It knows
no HTTP library.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from casstore.errors import FormatError
from casstore.inference.http.core import HttpCache, Opened
from casstore.inference.http.exchange import Decoder, HttpReply, decodes, media_type
from casstore.inference.http.framing import framing_for
from casstore.inference.http.judge import Verdict, judge, judge_stream
from casstore.inference.http.material import Passed, Subject
from casstore.inference.http.streams import StreamWatch

MOST: Final = 64 * 1024 * 1024
"""Bytes of a body from which it is no longer kept in memory, and so neither stored nor counted."""


class Tap:
    """Watches one body.

    Args:
        http: The cache.
        about: The request: one with a key, whose reply is recorded, or one that passes and is counted.
        status: The reply's status.
        headers: The reply's headers, by lower-case name.
        started: When it was asked, by `time.perf_counter`.
    """

    def __init__(
        self, http: HttpCache, about: Opened | Passed, status: int, headers: Mapping[str, str], started: float
    ) -> None:
        self._http = http
        self._about = about
        self._status = status
        self._headers = headers
        self._started = self._last = started
        encoding = headers.get("content-encoding", "")
        self._decoder = Decoder(encoding) if decodes(encoding) else None
        self._watch = self._watching()
        self._pieces: list[bytes] = []
        self._pace: list[tuple[int, int]] = []
        self._size = 0
        self._over = self._closed = False

    def _watching(self) -> StreamWatch | None:
        subject = self._about.subject
        framing = framing_for(media_type(self._headers))
        if subject is None or framing is None or not subject.streams:
            return None
        return StreamWatch(subject.endpoint.wire, framing)

    def watched(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces of the body as they come; whoever stops before its end closes it."""
        for piece in pieces:
            self.feed(piece)
            yield piece
        self.end()
        self.close()

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body, as it came."""
        if self._decoder is not None and not self._http.guard.attempt(
            "follow a stream", self._take, self._decoder, piece
        ):
            self._decoder = None

    def _take(self, decoder: Decoder, piece: bytes) -> bool:
        """Follow a piece; tell whether the body can still be followed."""
        try:
            plain = decoder.feed(piece)
        except FormatError:
            return False
        if self._watch is not None:
            self._watch.feed(plain)
        return self._keep(plain)

    def _keep(self, piece: bytes) -> bool:
        self._size += len(piece)
        if self._size > MOST:
            self._pieces.clear()
            return False
        if isinstance(self._about, Opened) or self._watch is None:
            now = time.perf_counter()
            self._pieces.append(piece)
            self._pace.append((len(piece), round((now - self._last) * 1000)))
            self._last = now
        return True

    def end(self) -> None:
        """Say that the body is over."""
        self._over = True
        if self._watch is not None and self._decoder is not None:
            self._http.guard.attempt("follow a stream", self._watch.end)

    def close(self) -> None:
        """Judge, store and count; may block. Only the first call does something."""
        if not self._closed:
            self._closed = True
            self._http.guard.attempt("store a stream", self._finish)

    def _finish(self) -> None:
        seconds = time.perf_counter() - self._started
        about = self._about
        if isinstance(about, Passed):
            verdict = None if about.subject is None else self._verdict(about.subject)
            self._http.count_passed(about, verdict, seconds)
            return
        reply = HttpReply(self._status, self._headers, b"".join(self._pieces))
        self._http.store(about, reply, self._verdict(about.subject), seconds, tuple(self._pace))

    def _verdict(self, subject: Subject) -> Verdict:
        if self._decoder is None:
            return Verdict("encoding", "the body cannot be followed")
        keep = self._http.rules.keep
        if self._watch is not None:
            return judge_stream(self._status, self._watch, keep)
        verdict = judge(subject, HttpReply(self._status, self._headers, b"".join(self._pieces)), keep)
        if self._over or verdict.reason is not None:
            return verdict
        return Verdict("cut", "the body was left before its end", verdict.response)
