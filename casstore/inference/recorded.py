"""Answers as stored bytes, and back.  Floor: inference.

The object holds what the provider said: JSON Lines, the first line what a program sees, the next ones the
provider's own words. The labels of the entry hold by whom and how dear. Both are specified in
`designs/inference.md`. Nothing read is believed: what does not fit is a `FormatError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import orjson

from casstore.catalog.records import Entry
from casstore.digest import Key
from casstore.errors import FormatError, malformed
from casstore.inference.policy import Settings
from casstore.inference.types import NO_USAGE, Chunk, Original, Request, Response, Usage

FORMAT = 1
"""Version of the stored form."""

UsageOnHit = Literal["zero", "original"]

_USAGE_NAMES = tuple(each.name for each in fields(Usage))


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored answer, ready to be given again.

    Attributes:
        response: The answer, as a hit.
        content: The stored bytes of a recorded stream; empty for any other.
    """

    response: Response
    content: bytes = b""


def to_json(value: object) -> bytes:
    """Return `value` as one line of JSON that `json.loads` gives back exactly.

    Raises:
        FormatError: `value` is no JSON.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits: both are JSON, if rare
        try:
            return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise FormatError(f"not JSON: {malformed(error)}") from error


def encode(response: Response, chunks: Iterable[Chunk] | None = None) -> bytes:
    """Return the stored bytes of an answer, or of a stream where `chunks` are its events."""
    head = {
        "casstore": FORMAT,
        "kind": "response" if chunks is None else "stream",
        "text": response.text,
        "stop": response.stop_reason,
        "model": response.model,
        "usage": usage_to_json(response.usage),
    }
    if chunks is None:
        return to_json(head) + b"\n" + response.reply
    return b"\n".join([to_json(head), *(to_json({"text": each.text, "raw": each.raw}) for each in chunks)])


def decode(entry: Entry, content: bytes, kind: str, usage_on_hit: UsageOnHit = "zero") -> Answer:
    """Return the answer stored as `content`, as a hit.

    Args:
        entry: Its entry.
        content: The object's bytes.
        kind: ``response`` or ``stream``: what is expected there.
        usage_on_hit: Whether the hit tells no usage and no cost, or the first call's.

    Raises:
        FormatError: The bytes are no stored answer of this version.
    """
    line, _, rest = content.partition(b"\n")
    head = head_of(line, kind)
    original = Original(
        usage_from_json(head.get("usage")),
        number_in(entry.labels, "cost"),
        number_in(entry.labels, "seconds") or 0.0,
        entry.created,
    )
    reply = rest if kind == "response" else b""
    text, stop, model = head.get("text"), head.get("stop"), head.get("model")
    if not (isinstance(text, str) and isinstance(stop, str) and isinstance(model, str)):
        raise FormatError("a stored answer lacks its text, its stop or its model")
    hit = _hit(text, stop, model, reply, entry.key, original, usage_on_hit)
    answer = Answer(hit, content if kind == "stream" else b"")
    if kind == "stream":
        for _ in _events(answer):  # a replay must not fail half-way
            pass
    return answer


def as_hit(response: Response, created: int, usage_on_hit: UsageOnHit) -> Response:
    """Return a first answer as a later caller gets it."""
    original = Original(response.usage, response.cost, response.seconds, created)
    text, stop, model = response.text, response.stop_reason, response.model
    return _hit(text, stop, model, response.reply, response.key, original, usage_on_hit)


def _hit(
    text: str,
    stop: str,
    model: str,
    reply: bytes,
    key: Key | None,
    original: Original,
    usage_on_hit: UsageOnHit,
) -> Response:
    # By position, and not by `replace`: this is on the hit path.
    if usage_on_hit == "original":
        usage, cost, seconds = original.usage, original.cost, original.seconds
    else:
        usage, cost, seconds = NO_USAGE, 0.0, 0.0
    return Response(text, stop, usage, model, reply, True, key, cost, seconds, original)


def chunks_of(answer: Answer) -> Iterator[Chunk]:
    """Yield the events of a recorded stream, the last one with the whole answer."""
    yield from _events(answer)
    yield Chunk("", None, answer.response)


def _events(answer: Answer) -> Iterator[Chunk]:
    for line in answer.content.split(b"\n")[1:]:
        event = _exactly(line)
        text = event.get("text")
        if not isinstance(text, str):
            raise FormatError("an event of a stored stream lacks its text")
        yield Chunk(text, event.get("raw"))


def labels_of(request: Request, settings: Settings, response: Response, kind: str) -> dict[str, Any]:
    """Return the labels of an answer's entry."""
    labels: dict[str, Any] = {
        "kind": kind,
        "provider": request.provider,
        "host": request.host,
        "model": request.model,
        "answered_by": response.model,
        "stop": response.stop_reason,
        "usage": usage_to_json(response.usage),
        "seconds": round(response.seconds, 6),
    }
    if response.cost is not None:
        labels["cost"] = response.cost
    return labels | settings_labels(settings)


def settings_labels(settings: Settings) -> dict[str, Any]:
    """Return what an entry tells of the settings it was asked with, where they are not the default."""
    labels: dict[str, Any] = {}
    if settings.namespace:
        labels["namespace"] = settings.namespace
    if settings.sample:
        labels["sample"] = settings.sample
    if settings.tag:
        labels["tag"] = settings.tag
    return labels


def usage_to_json(usage: Usage) -> dict[str, int]:
    """Return the counts of `usage` that are not zero, by name."""
    return {name: count for name in _USAGE_NAMES if (count := getattr(usage, name))}


def usage_from_json(counts: object) -> Usage:
    """Return the usage that `usage_to_json` wrote; a count that is no number is 0."""
    if not isinstance(counts, dict):
        return NO_USAGE
    told = {name: count for name, count in counts.items() if type(count) is int and name in _USAGE_NAMES}
    return Usage(**told)


def number_in(labels: Mapping[str, Any], name: str) -> float | None:
    """Return the number labelled `name`; None where there is none."""
    value = labels.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def head_of(line: bytes, kind: str) -> dict[str, Any]:
    """Return the first line of a stored answer, parsed.

    Raises:
        FormatError: It is not one of this version, or of another kind.
    """
    head = _loads(line)
    if head.get("casstore") != FORMAT:
        raise FormatError(f"an answer stored in form {str(head.get('casstore'))[:20]!r}; upgrade casstore")
    if head.get("kind") != kind:
        raise FormatError(f"a stored {str(head.get('kind'))[:20]!r} where a {kind} was expected")
    return head


def _loads(line: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _exactly(line)  # orjson refuses the escaped lone surrogates that the standard library reads
    if not isinstance(value, dict):
        raise FormatError("a stored answer is not a JSON object")
    return value


def _exactly(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise FormatError(f"a stored answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError("a stored answer is not a JSON object")
    return value
