"""Replies as stored bytes, and back; pure.  Floor: inference.

An object is one line of JSON, which tells of the reply, and then the reply's body, byte for byte. The form is
specified in `designs/http.md`. Nothing read is believed: what does not fit is a `FormatError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final

from casstore.catalog.records import Entry
from casstore.digest import Key
from casstore.errors import FormatError, malformed
from casstore.inference.http.controls import marked
from casstore.inference.http.exchange import HttpReply
from casstore.inference.http.judge import STORABLE
from casstore.inference.http.material import KIND, Subject
from casstore.inference.policy import Settings
from casstore.inference.recorded import (
    FORMAT,
    head_of,
    labels_of,
    number_in,
    to_json,
    usage_from_json,
    usage_to_json,
)
from casstore.inference.types import Original, Response
from casstore.values import quick_value

REPLY_HEADERS: Final = frozenset({"content-type", "content-language", "content-disposition"})
"""The only headers of a reply that are stored, besides those that begin as `_REPLY_PREFIX`."""

_REPLY_PREFIX: Final = "x-amzn-bedrock-"

Pace = tuple[tuple[int, int], ...]
"""Of a stream, the pieces as they came: bytes, and the milliseconds waited for them."""


@quick_value(frozen=True, slots=True)
class StoredReply:
    """A reply from the store.

    Attributes:
        reply: The reply.
        key: Its key.
        stop: How the answer ended.
        model: The model that answered, as the reply names it.
        original: What the first call used, cost and took.
        pace: Of a stream, the pieces it came in; empty for any other reply.
    """

    reply: HttpReply
    key: Key
    stop: str
    model: str
    original: Original
    pace: Pace = field(default=(), repr=False)

    def as_hit(self) -> HttpReply:
        """Return the reply as it is given."""
        reply = self.reply
        return HttpReply(reply.status, marked(reply.headers, "hit", self.key), reply.body)


def kept_headers(headers: Mapping[str, object]) -> dict[str, str]:
    """Return those of a reply's headers (by lower-case name) that are stored."""
    return {
        name: str(value)
        for name, value in headers.items()
        if name in REPLY_HEADERS or name.startswith(_REPLY_PREFIX)
    }


def encode(reply: HttpReply, response: Response, pace: Iterable[tuple[int, int]] = ()) -> bytes:
    """Return the stored bytes of a reply.

    Args:
        reply: The reply, decoded.
        response: What it says: see `casstore.inference.http.judge.Verdict`.
        pace: Of a stream, the pieces it came in.
    """
    head: dict[str, Any] = {
        "casstore": FORMAT,
        "kind": KIND,
        "status": reply.status,
        "headers": kept_headers(reply.headers),
        "stop": response.stop_reason,
        "model": response.model,
        "usage": usage_to_json(response.usage),
        "size": len(reply.body),
    }
    pieces = [list(piece) for piece in pace]
    if pieces:
        head["pace"] = pieces
    return to_json(head) + b"\n" + reply.body


def decode(entry: Entry, content: bytes) -> StoredReply:
    """Return the reply stored as `content`.

    Args:
        entry: Its entry.
        content: The object's bytes.

    Raises:
        FormatError: The bytes are no stored reply of this version.
    """
    line, _, body = content.partition(b"\n")
    head = head_of(line, KIND)
    status, headers = head.get("status"), head.get("headers")
    if status not in STORABLE or not isinstance(headers, dict) or head.get("size") != len(body):
        raise FormatError("a stored reply whose status, headers or size is wrong")
    original = Original(
        usage_from_json(head.get("usage")),
        number_in(entry.labels, "cost"),
        number_in(entry.labels, "seconds") or 0.0,
        entry.created,
    )
    stop, model = str(head.get("stop", "")), str(head.get("model", ""))
    pace = _pace(head["pace"], len(body)) if "pace" in head else ()
    return StoredReply(HttpReply(status, kept_headers(headers), body), entry.key, stop, model, original, pace)


def _pace(told: object, size: int) -> Pace:
    try:
        pace = tuple((int(length), int(waited)) for length, waited in told)  # type: ignore[attr-defined]  # whatever it is, it is tried
    except (TypeError, ValueError) as error:
        raise FormatError(f"a stored stream without its pieces: {malformed(error)}") from error
    if sum(length for length, _ in pace) != size or any(length < 0 or waited < 0 for length, waited in pace):
        raise FormatError("a stored stream whose pieces are not its body")
    return pace


def labels_for(subject: Subject, settings: Settings, response: Response) -> dict[str, Any]:
    """Return the labels of a stored reply's entry."""
    labels = labels_of(subject.request, settings, response, KIND)
    labels |= {"path": subject.request.path, "wire": subject.endpoint.wire}
    if subject.streams:
        labels["stream"] = True
    return labels
