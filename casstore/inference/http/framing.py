"""Streams of bytes as events: SSE, NDJSON, JSON arrays, AWS event streams; pure.  Floor: inference.

Each framing is fed pieces as they come, cut anywhere, and yields the events that are whole. It knows no
provider.
"""

from __future__ import annotations

import json
import struct
from binascii import crc32
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from casstore.errors import FormatError, malformed

LONGEST: Final = 64 * 1024 * 1024
"""Bytes of one event from which a stream is no longer followed; an image in base64 has a tenth of it."""

_PRELUDE: Final = struct.Struct(">III")
_TAIL: Final = 4


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        name: Its type, where the framing tells one beside the data.
        data: Its payload.
        headers: Of an AWS event, its headers that are text.
    """

    name: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Framing(Protocol):
    """Cuts a stream into events."""

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece` completes.

        Raises:
            FormatError: It is no such stream.
        """

    def end(self) -> Iterator[Event]:
        """Yield what the end of the stream completes.

        Raises:
            FormatError: The stream ends within an event.
        """


def framing_for(content_type: str) -> Framing | None:
    """Return a framing for a stream of a media type; None where it is no stream that can be followed."""
    make = FRAMINGS.get(content_type)
    return None if make is None else make()


class _Held:
    """Bytes whose line has not ended yet, in pieces: to join them anew for each piece would take too long.

    Args:
        ends: What lines end with.
    """

    def __init__(self, ends: Sequence[bytes]) -> None:
        self._ends = ends
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> bytes:
        """Return all that is held, and hold it no more, if a line ends in it; else nothing.

        Raises:
            FormatError: It is longer than is followed.
        """
        begun = self._pieces[0] if self._pieces else b""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > LONGEST:
            raise FormatError("an event longer than is followed")
        if not any(end in piece or begun.endswith(end) for end in self._ends):
            return b""
        whole = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return whole

    def put_back(self, rest: bytes) -> None:
        """Hold what is left after the last line."""
        if rest:
            self._pieces, self._size = [rest], len(rest)


class ServerSentEvents:
    """SSE (the WHATWG's HTML standard, 9.2): lines end with LF, CRLF or CR, events with an empty line."""

    def __init__(self) -> None:
        self._held = _Held((b"\n", b"\r"))
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece` completes; see `Framing.feed`."""
        buffer = self._held.add(piece)
        # A CR at the end may be the first half of a CRLF.
        held = b"\r" if buffer.endswith(b"\r") else b""
        text = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._held.put_back(rest + held)
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event

    def end(self) -> Iterator[Event]:
        """Yield the event that lacks only its empty line; see `Framing.end`."""
        yield from self.feed(b"\n\n")

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._event()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _event(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data = "", []
        return Event(name, b"\n".join(data)) if data else None


class JsonLines:
    """NDJSON: an event a line."""

    def __init__(self) -> None:
        self._held = _Held((b"\n",))

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece` completes; see `Framing.feed`."""
        *lines, rest = self._held.add(piece).split(b"\n")
        self._held.put_back(rest)
        yield from (Event("", line) for line in lines if line.strip())

    def end(self) -> Iterator[Event]:
        """Yield the last line, if it lacks only its end; see `Framing.end`."""
        yield from self.feed(b"\n")


class JsonArray:
    """A JSON array whose elements are the events, known when it ends: Gemini without ``alt=sse``."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Keep `piece`; see `Framing.feed`."""
        self._size += len(piece)
        if self._size > LONGEST:
            raise FormatError("an event longer than is followed")
        self._pieces.append(piece)
        yield from ()

    def end(self) -> Iterator[Event]:
        """Yield the elements; see `Framing.end`."""
        try:
            items = json.loads(b"".join(self._pieces))
        except ValueError as error:
            raise FormatError(f"a stream ends within its JSON: {error}") from error
        yield from (
            Event("", json.dumps(item).encode()) for item in (items if isinstance(items, list) else [items])
        )


class AwsEvents:
    """Messages of an AWS event stream: lengths, checksum, headers, payload, checksum."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece` completes; see `Framing.feed`."""
        self._rest += piece
        while len(self._rest) >= _PRELUDE.size:
            total, head, check = _PRELUDE.unpack_from(self._rest)
            if check != crc32(self._rest[:8]) or not _PRELUDE.size + head + _TAIL <= total <= LONGEST:
                raise FormatError("no AWS event stream")
            if len(self._rest) < total:
                return
            message = bytes(self._rest[:total])
            del self._rest[:total]
            if int.from_bytes(message[-_TAIL:], "big") != crc32(message[:-_TAIL]):
                raise FormatError("a damaged AWS event")
            headers = _aws_headers(message[_PRELUDE.size : _PRELUDE.size + head])
            name = headers.get(":event-type") or headers.get(":exception-type") or ""
            yield Event(name, message[_PRELUDE.size + head : -_TAIL], headers)

    def end(self) -> Iterator[Event]:
        """Yield nothing; see `Framing.end`."""
        if self._rest:
            raise FormatError("a stream ends within an AWS event")
        yield from ()


_WIDTHS: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value, by its type (AWS: Amazon Transcribe, "Event stream encoding")."""

_TEXT: Final = 7


def _aws_headers(block: bytes) -> dict[str, str]:
    """Return the headers of an AWS event that are text."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            name = block[at + 1 : at + 1 + block[at]].decode()
            at += 1 + block[at]
            kind = block[at]
            width = _WIDTHS.get(kind)
            if width is None:
                width = int.from_bytes(block[at + 1 : at + 3], "big")
                at += 2
            value = block[at + 1 : at + 1 + width]
            at += 1 + width
            if kind == _TEXT:
                found[name] = value.decode()
    except (IndexError, UnicodeDecodeError) as error:
        raise FormatError(f"a damaged AWS event: {malformed(error)}") from error
    return found


FRAMINGS: Final[Mapping[str, Callable[[], Framing]]] = {
    "text/event-stream": ServerSentEvents,
    "application/x-ndjson": JsonLines,
    "application/ndjson": JsonLines,
    "application/jsonl": JsonLines,
    "application/stream+json": JsonLines,
    "application/json": JsonArray,
    "application/vnd.amazon.eventstream": AwsEvents,
}
"""By media type."""
