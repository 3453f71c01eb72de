"""Entries as lines of JSON, and back: for datasets, audits, and other stores; pure.  Floor: inference.

A line holds what people look for (request, reply, text, usage, labels) and, with that, every byte of the
entry, so that it can be proved when it is read: the request's digest is the key, the answer's the object. The
form is specified in `designs/reading.md`. Nothing read is believed.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from casstore.catalog.records import Entry
from casstore.digest import Digest, Key, digest_of, parse_digest, parse_key
from casstore.errors import FormatError, IntegrityError
from casstore.inference.canonical import CanonicalError, canonical
from casstore.inference.http.material import HTTP_KEY_HEADERS
from casstore.inference.reading.stored import StoredAnswer, read_answer
from casstore.inference.reading.transcript import text_of
from casstore.inference.recorded import to_json
from casstore.inference.request import key_of

FORM: Final = 1
"""Version of the lines."""

KIND: Final = "entry"


@dataclass(frozen=True, slots=True)
class Line:
    """An entry read from a line, and proved.

    Attributes:
        key: Its key.
        content: Its answer.
        created: When it was first given, in milliseconds since the Unix epoch; None where it is not told.
        labels: Its labels.
        refs: What travels with it: the request first, where there is one.
        proven: The request is there, and the key is its digest.
    """

    key: Key
    content: bytes = field(repr=False)
    created: int | None
    labels: Mapping[str, Any] = field(repr=False)
    refs: tuple[bytes, ...] = field(repr=False)
    proven: bool


def to_line(entry: Entry, content: bytes, refs: Mapping[Digest, bytes]) -> dict[str, Any]:
    """Return an entry as the JSON of a line.

    Args:
        entry: The entry.
        content: Its answer.
        refs: What travels with it, by digest, as far as it is here.
    """
    answer = read_answer(content)
    line: dict[str, Any] = {
        "casstore": FORM,
        "kind": KIND,
        "key": entry.key,
        "object": entry.object,
        "created": entry.created,
        "generation": entry.generation,
        "labels": dict(entry.labels),
        "usage": entry.labels.get("usage"),
    }
    line |= _request_fields(entry, refs)
    line |= {"text": None if answer is None else text_of(answer.turns)}
    line |= _answer_fields(content, answer)
    parts = {digest: part for digest, part in refs.items() if str(digest) != entry.key}
    if parts:
        line["parts"] = {digest: _base64(part) for digest, part in parts.items()}
    return line


def _request_fields(entry: Entry, refs: Mapping[Digest, bytes]) -> dict[str, Any]:
    spelled = refs.get(Digest(entry.key))
    if spelled is None:
        return {"request": None}
    try:
        value = json.loads(spelled)
        if value is not None and canonical(value) == spelled:
            return {"request": value}
        return {"request": value, **_exactly("request_text", spelled)}
    except (CanonicalError, ValueError, RecursionError):
        return {"request": None, **_exactly("request_text", spelled)}


def _answer_fields(content: bytes, answer: StoredAnswer | None) -> dict[str, Any]:
    """Return the reply and, where its own bytes cannot be had from that, these too."""
    if answer is None:
        return {"reply": None, **_exactly("content", content)}
    fields = {"reply": answer.value, "head": dict(answer.head)}
    for more in ({}, _exactly("body", answer.body)):
        try:
            if _content_of({**fields, **more}) == content:
                return {**fields, **more}
        except FormatError:
            continue
    return {"reply": answer.value, **_exactly("content", content)}


def _exactly(name: str, content: bytes) -> dict[str, str]:
    """Return bytes as a field: as text where they are text, and else in base64."""
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": _base64(content)}


def _base64(content: bytes) -> str:
    return binascii.b2a_base64(content, newline=False).decode()


def from_line(value: object) -> Line:
    """Return the entry of a line.

    Raises:
        FormatError: It is no such line, or of a later version.
        IntegrityError: Request, answer or a part are not what key and digests say.
    """
    if not isinstance(value, dict) or value.get("kind") != KIND or "casstore" not in value:
        raise FormatError("no entry that casstore export wrote")
    if value["casstore"] != FORM:
        raise FormatError(f"an entry written in form {str(value['casstore'])[:20]!r}; upgrade casstore")
    key, labels = parse_key(value.get("key")), value.get("labels")
    if not isinstance(labels, dict):
        raise FormatError("an entry without labels")
    content = _content_of(value)
    if digest_of(content) != parse_digest(value.get("object")):
        raise IntegrityError(f"the answer to {key} is not the one that was written out")
    request = _request_of(value, key)
    refs = ((request,) if request is not None else ()) + _parts_of(value)
    return Line(key, content, _created_in(value), labels, refs, request is not None)


def _created_in(value: Mapping[str, Any]) -> int | None:
    created = value.get("created")
    if created is not None and (type(created) is not int or created < 0):
        raise FormatError(f"an entry of no time: {str(created)[:20]!r}")
    return created


def _content_of(value: Mapping[str, Any]) -> bytes:
    whole = _bytes(value, "content")
    if whole is not None:
        return whole
    head, body = value.get("head"), _bytes(value, "body")
    if not isinstance(head, dict):
        raise FormatError("an entry without its answer")
    if body is None:
        reply = value.get("reply")
        body = reply.encode("utf-8", "surrogatepass") if isinstance(reply, str) else to_json(reply)
    return to_json(head) + b"\n" + body


def _bytes(value: Mapping[str, Any], name: str) -> bytes | None:
    text, encoded = value.get(name), value.get(f"{name}_base64")
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    return _decoded(encoded) if encoded is not None else None


def _decoded(encoded: object) -> bytes:
    try:
        return binascii.a2b_base64(str(encoded), strict_mode=True)
    except ValueError as error:
        raise FormatError(f"an entry with what is no base64: {error}") from error


def _request_of(value: Mapping[str, Any], key: Key) -> bytes | None:
    request = value.get("request")
    spelled = _bytes(value, "request_text")
    if spelled is None:
        if request is None:
            return None
        spelled = canonical(request)
    if key_of(spelled) != key:
        raise IntegrityError(f"the request is not the one whose key is {key}")
    _refuse_credentials(spelled)
    return spelled


def _refuse_credentials(spelled: bytes) -> None:
    """Refuse a request with headers that casstore never stores: they may be credentials."""
    try:
        value = json.loads(spelled)
    except (ValueError, RecursionError):
        return
    headers = value.get("headers") if isinstance(value, dict) else None
    strange = set(headers) - HTTP_KEY_HEADERS if isinstance(headers, dict) else set()
    if strange:
        raise FormatError(f"a request with a header that is never stored: {min(strange)[:40]!r}")


def _parts_of(value: Mapping[str, Any]) -> tuple[bytes, ...]:
    parts = value.get("parts", {})
    if not isinstance(parts, dict):
        raise FormatError("an entry whose parts are no object")
    found: list[bytes] = []
    for digest, encoded in parts.items():
        content = _decoded(encoded)
        if digest_of(content) != digest:
            raise IntegrityError(f"a part of a request is not what its digest says: {digest[:12]}")
        found.append(content)
    return tuple(found)
