"""An embedding request as one request an input, and back; pure.  Floor: inference.

A program that adds a text to a list of a thousand then pays for one. Knows OpenAI's form of embeddings, which
Azure, Mistral and others share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from casstore.errors import FormatError
from casstore.inference.http.exchange import HttpRequest
from casstore.inference.recorded import to_json

_COUNTS = ("prompt_tokens", "total_tokens")


def split(request: HttpRequest) -> tuple[HttpRequest, ...]:
    """Return a request for each input, in their order; nothing where there are not several inputs."""
    body = _object(request.body)
    inputs = body.get("input")
    if not isinstance(inputs, list) or len(inputs) < 2 or not _are_several(inputs):  # noqa: PLR2004 — several
        return ()
    return tuple(_with(request, body, [each]) for each in inputs)


def subset(request: HttpRequest, indexes: Sequence[int]) -> HttpRequest:
    """Return the request for some of the inputs, in the order of `indexes`."""
    body = _object(request.body)
    return _with(request, body, [body["input"][index] for index in indexes])


def parts(body: bytes, weights: Sequence[int]) -> list[bytes]:
    """Return a reply an input, in the order of the inputs.

    Args:
        body: The reply to all of them.
        weights: For each input its size: tokens are told for all inputs together, and are shared out by it,
            so that they add up to what was told.

    Raises:
        FormatError: The reply does not have one embedding an input.
    """
    reply = _object(body)
    data, usage = reply.get("data"), reply.get("usage")
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise FormatError("a reply without embeddings")
    by_index = {each.get("index", place): each for place, each in enumerate(data)}
    if len(data) != len(weights) or set(by_index) != set(range(len(weights))):
        raise FormatError("a reply that has not one embedding an input")
    shares = _shares(usage, weights)
    return [
        to_json({**reply, "data": [{**by_index[place], "index": 0}]} | ({"usage": share} if share else {}))
        for place, share in enumerate(shares)
    ]


def joined(bodies: Sequence[bytes]) -> bytes:
    """Return the reply to all inputs from the reply to each, in the order of the inputs."""
    replies = [_object(body) for body in bodies]
    data = [{**reply["data"][0], "index": place} for place, reply in enumerate(replies)]
    whole = {**replies[0], "data": data}
    usages = [reply["usage"] for reply in replies if isinstance(reply.get("usage"), dict)]
    if usages:
        sums = {name: sum(each.get(name, 0) for each in usages) for name in _COUNTS if name in usages[0]}
        whole["usage"] = {**usages[0], **sums}
    return to_json(whole)


def weight(request: HttpRequest) -> int:
    """Return the size of a request's inputs, for sharing out tokens."""
    return sum(len(each) for each in _object(request.body)["input"])


def _are_several(inputs: list[Any]) -> bool:
    return all(isinstance(each, str) for each in inputs) or all(isinstance(each, list) for each in inputs)


def _with(request: HttpRequest, body: Mapping[str, Any], inputs: list[Any]) -> HttpRequest:
    return replace(request, body=to_json({**body, "input": inputs}))


def _shares(usage: object, weights: Sequence[int]) -> list[dict[str, Any] | None]:
    if not isinstance(usage, dict):
        return [None] * len(weights)
    columns = {name: _shared(usage[name], weights) for name in _COUNTS if type(usage.get(name)) is int}
    return [
        {**usage, **{name: column[place] for name, column in columns.items()}}
        for place in range(len(weights))
    ]


def _shared(count: int, weights: Sequence[int]) -> list[int]:
    """Return `count` shared out by weights: whole numbers that add up to it."""
    total = sum(weights) or len(weights)
    given, seen, shares = 0, 0, []
    for size in weights:
        seen += size if sum(weights) else 1
        share = count * seen // total - given
        given += share
        shares.append(share)
    return shares


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise FormatError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError("no JSON object")
    return value
