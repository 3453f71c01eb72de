"""Which replies are stored; pure.

A reply is stored if it is a success, whole, has content, and would be the answer tomorrow as well. This
module knows replies and what was asked; it knows neither keys nor stores.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from casstore.errors import FormatError, malformed
from casstore.inference.http.endings import UNFINISHED, UNKNOWN
from casstore.inference.http.exchange import HttpReply
from casstore.inference.http.material import Subject
from casstore.inference.http.replies import Reading, read
from casstore.inference.http.streams import StreamWatch
from casstore.inference.policy import why_not_stored
from casstore.inference.types import Response, Usage

STORABLE: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})
"""The statuses of replies that may be stored; some servers say that they created the answer."""

_NO_ANSWER: Final = Response("", UNFINISHED)

_AWS_COUNTS: Final = ("x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided of a reply.

    Attributes:
        reason: None for one to be stored; else one word, for the ledger: ``status``, ``form``, ``error``,
            ``unfinished``, ``ending``, ``filtered``, ``empty``, ``links`` or ``cut``.
        detail: The same for a person.
        response: What the reply says of its ending, model and usage, as far as it can be read.
    """

    reason: str | None
    detail: str = ""
    response: Response = _NO_ANSWER


def judge(subject: Subject, reply: HttpReply, keep: Collection[str] = ()) -> Verdict:
    """Return whether a whole reply is stored, or why not.

    Args:
        subject: What was asked.
        reply: The reply, decoded.
        keep: Reasons that are overruled; see `casstore.inference.reasons`.
    """
    if reply.status not in STORABLE:
        return Verdict("status", f"the status is {reply.status}")
    if subject.endpoint.wire == "speech":
        return _of_speech(reply)
    if subject.endpoint.wire == "transcript" and reply.content_type.startswith("text/plain"):
        text = reply.body.decode("utf-8", "replace")
        return verdict_of(Reading(Response(text, "end")), keep)
    return _of_json(subject, reply, keep)


def _of_json(subject: Subject, reply: HttpReply, keep: Collection[str]) -> Verdict:
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        return _of_unknown_form(reply, None, f"the reply cannot be read: {malformed(error)}", keep)
    if not isinstance(value, dict):
        return _of_unknown_form(reply, value, "the reply is no JSON object", keep)
    if _has_error(value):
        return Verdict("error", "the reply tells of an error")
    try:
        found = read(subject.endpoint.wire, value)
    except (FormatError, RecursionError) as error:
        return _of_unknown_form(reply, value, f"the reply cannot be read: {malformed(error)}", keep)
    return verdict_of(_with_aws_counts(found, reply), keep)


def _of_unknown_form(reply: HttpReply, value: object, detail: str, keep: Collection[str]) -> Verdict:
    """Return the verdict on a whole reply whose form is not known; a page or an error is never stored."""
    if "form" not in keep or not reply.body or _is_page(reply) or _may_be_error(value):
        return Verdict("form", detail)
    return Verdict(None, response=Response("", "end"))


def _is_page(reply: HttpReply) -> bool:
    return "html" in reply.content_type or reply.body.lstrip()[:1] == b"<"


def _may_be_error(value: object) -> bool:
    return isinstance(value, Mapping) and (
        any(value.get(name) for name in _ERROR_FIELDS) or value.get("status") in _ERROR_STATUSES
    )


_ERROR_FIELDS: Final = ("error", "errors", "exception", "fault", "detail", "Message", "__type")
_ERROR_STATUSES: Final = ("error", "fail", "failed", "failure", "queued", "in_progress", "pending")


def judge_stream(status: int, watch: StreamWatch, keep: Collection[str] = ()) -> Verdict:
    """Return whether a stream, as far as it was watched, is stored, or why not."""
    found = watch.reading()
    if status not in STORABLE:
        return Verdict("status", f"the status is {status}", found.response)
    if watch.trouble is not None:
        return Verdict("error", watch.trouble, found.response)
    if not watch.complete:
        return Verdict("cut", "the stream did not come to its end, or was left before", found.response)
    return verdict_of(found, keep)


def _of_speech(reply: HttpReply) -> Verdict:
    if not reply.content_type.startswith(("audio/", "application/octet-stream")):
        return Verdict("form", "the reply is no audio")
    if not reply.body:
        return Verdict("empty", "the reply has no content")
    return Verdict(None, response=Response("", "end"))


def verdict_of(found: Reading, keep: Collection[str] = ()) -> Verdict:
    """Return whether a reply that was read is stored, or why not."""
    response = found.response
    if response.stop_reason == UNFINISHED:
        return Verdict(UNFINISHED, "the reply does not say that it is complete", response)
    if response.stop_reason == UNKNOWN and "ending" not in keep:
        return Verdict("ending", "the reply pauses the turn, or ends with a word that is not known", response)
    if found.links and "links" not in keep:
        return Verdict("links", "the reply holds links to content that the provider deletes", response)
    reason = why_not_stored(response, keep, content=found.content)
    return Verdict(reason, _DETAILS.get(reason or "", ""), response)


_DETAILS: Final = {
    "filtered": "the provider's filter withheld or changed the answer",
    "empty": "the reply has no content",
}


def _has_error(value: Mapping[str, Any]) -> bool:
    return bool(value.get("error")) or value.get("type") == "error"


def _with_aws_counts(found: Reading, reply: HttpReply) -> Reading:
    counts = [reply.headers.get(name, "") for name in _AWS_COUNTS]
    if found.response.usage != Usage() or not all(count.isdecimal() for count in counts):
        return found
    usage = Usage(int(counts[0]), int(counts[1]))
    return replace(found, response=replace(found.response, usage=usage))
