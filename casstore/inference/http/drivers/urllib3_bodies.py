"""Bodies and responses of urllib3: made from bytes, watched as they are read, played with their pauses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from time import sleep
from typing import Any

from casstore.inference.http.native import pieces
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap


class Body(BytesIO):
    """Bytes that are closed once they are read, as a connection's are: urllib3 sees the end by that."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.size = len(content)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `BytesIO` does."""
        return self._checked(super().read(size))

    def read1(self, size: int | None = -1, /) -> bytes:
        """Read as `BytesIO` does."""
        return self._checked(super().read1(size))

    def _checked(self, piece: bytes) -> bytes:
        if self.tell() == self.size:
            self.close()
        return piece


class FailedBody(Body):
    """A body that cannot be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"")
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002 — as `BytesIO` has it
        """Raise the error."""
        raise self._error

    read1 = read


def made(status: int, headers: Any, body: Body, sent: Any, options: Mapping[str, Any]) -> Any:
    """Return a response that is still to be read, unless the call wants it read."""
    urllib3 = sys.modules["urllib3"]
    found = urllib3.HTTPResponse(
        body=body,
        headers=headers,
        status=status,
        reason=_reason(status) if sent is None else sent.reason,
        version=11 if sent is None else sent.version,
        preload_content=options.get("preload_content", True),
        decode_content=options.get("decode_content", True),
        original_response=getattr(sent, "_original_response", None),  # in it requests looks for cookies
        retries=getattr(sent, "retries", None),
    )
    if not isinstance(body, FailedBody):
        found.headers["content-length"] = str(body.size)
    return found


def _reason(status: int) -> str:
    from http.client import responses

    return responses.get(status, "")


class Watched:
    """Watches the body of one response, by the functions through which all of its bytes go."""

    def __init__(self, response: Any, tap: Tap) -> None:
        self._response, self._tap = response, tap
        self._busy = self._failed = False
        for name in ("_fp_read", "_handle_chunk"):
            self._replace(name, self._feeding)
        for name in ("read", "read1"):
            self._replace(name, self._reading)
        for name in ("stream", "read_chunked"):
            self._replace(name, self._streaming)
        for name in ("close", "release_conn"):
            self._replace(name, self._closing)

    def _replace(self, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = getattr(self._response, name, None)
        if original is not None:  # older versions have no `read1`
            setattr(self._response, name, make(original))

    def _feeding(self, original: Callable[..., bytes]) -> Callable[..., bytes]:
        def feed(*args: Any, **kwargs: Any) -> bytes:
            piece = original(*args, **kwargs)
            if piece:
                self._tap.feed(piece)
            return piece

        return feed

    def _reading(self, original: Callable[..., bytes]) -> Callable[..., bytes]:
        def read(*args: Any, **kwargs: Any) -> bytes:
            outer, self._busy = self._busy, True
            try:
                return original(*args, **kwargs)
            except StopIteration:
                raise
            except BaseException:
                self._fail()
                raise
            finally:
                self._busy = outer
                if not outer:
                    self._end_if_over()

        return read

    def _streaming(self, original: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
        def stream(*args: Any, **kwargs: Any) -> Iterator[bytes]:
            read = self._reading(original(*args, **kwargs).__next__)
            try:
                while True:
                    try:
                        piece = read()
                    except StopIteration:
                        return
                    yield piece
            except BaseException:  # its reader left
                self._fail()
                raise

        return stream

    def _closing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def close() -> Any:
            try:
                return original()
            finally:
                if not self._busy:
                    self._tap.close()

        return close

    def _fail(self) -> None:
        self._failed = True
        self._tap.close()

    def _end_if_over(self) -> None:
        response = self._response
        fp = getattr(response, "_fp", None)
        over = fp is None or getattr(fp, "closed", False) or _has_ended(fp)
        if over and not self._failed and not response.length_remaining:
            self._tap.end()
            self._tap.close()


def _has_ended(fp: Any) -> bool:
    isclosed = getattr(fp, "isclosed", None)  # of `http.client.HTTPResponse`, once it was read
    return bool(isclosed is not None and isclosed())


def play(response: Any, stored: StoredReply) -> None:
    """Have a response give a stored stream in its pieces, each after its pause."""

    def stream(*_: Any, **__: Any) -> Iterator[bytes]:
        for seconds, piece in pieces(stored):
            sleep(seconds)
            yield piece
        response.read()

    response.stream = stream
