"""What makes two HTTP requests one: the material of a key, or why there is none; pure.  Floor: inference.

The whole body counts, minus a short list of volatile fields, as in `casstore.inference.request`; of headers
and query only what chooses a version of the service. This module decides what is asked, and knows nothing of
replies, stores, or modes other than `bypass`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

from casstore.digest import Key, digest_of
from casstore.errors import ConfigError, FormatError
from casstore.inference.canonical import CanonicalError, canonical
from casstore.inference.http.endpoints import (
    Endpoint,
    alias_of,
    endpoint_at,
    endpoints_of,
    model_of,
    provider_of,
    streaming,
    volatile_family,
)
from casstore.inference.http.exchange import HttpRequest, media_type
from casstore.inference.http.holes import without_parts
from casstore.inference.http.state import leans_on
from casstore.inference.http.survey import Survey, survey
from casstore.inference.policy import Settings
from casstore.inference.reasons import keep_of
from casstore.inference.request import KEY_HEADERS, SCHEMA, VOLATILE, key_of, open_query
from casstore.inference.settings import Streams, streams_of
from casstore.inference.types import Request
from casstore.values import quick_value

KIND: Final = "http"
"""The kind of this material, and of what is stored under its key."""

KeyHook = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""Takes the material of a key, and returns what shall be it instead; None for a request not to be cached."""

HTTP_KEY_HEADERS: Final = KEY_HEADERS | {
    "x-amzn-bedrock-guardrailidentifier",
    "x-amzn-bedrock-guardrailversion",
    "x-amzn-bedrock-performanceconfig-latency",
    "x-amzn-bedrock-service-tier",
    "x-amzn-bedrock-trace",
}
"""The only headers in a key. All others may hold credentials, or tell who asks, with what, and when."""

_SIGNED: Final = ("x-amz-", "x-goog-", "x-ms-")
"""Beginnings of query parameters that sign a URL."""

_NO_BODY: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a program may set for requests that go through HTTP.

    Attributes:
        streams: Store streams and replay them (``record``), or let them pass (``pass``).
        ignore_fields: Fields of JSON bodies that are not in the key: ``user_id``, ``metadata.run``.
        key_hook: Changes the material of keys.
        endpoints: More ends of paths, each with the known one, or the form of bodies, that it is like:
            ``{"/my/chat": "chat/completions", "/ask": "messages"}``.
        paced: Replay recorded streams with their pauses.
        processes: Let processes on this machine wait for each other's identical calls.
        split_embeddings: Look up each input of an embedding request by itself, and ask for those that miss.
        keep_requests: Store requests beside their replies, so that they can be shown, explained and exported.
        keep: Reasons for not storing that are overruled; see `casstore.inference.reasons`.
    """

    streams: Streams = "pass"
    ignore_fields: frozenset[str] = frozenset()
    key_hook: KeyHook | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    paced: bool = False
    processes: bool = False
    split_embeddings: bool = False
    keep_requests: bool = True
    keep: frozenset[str] = frozenset()


PLAIN_RULES: Final = Rules()


def rules_of(given: Mapping[str, Any]) -> Rules:
    """Return the rules that a program set.

    Raises:
        ConfigError: There is no such rule, or it has a wrong value.
    """
    unknown = set(given) - {each.name for each in fields(Rules)}
    if unknown:
        raise ConfigError(f"no such rule: {', '.join(sorted(unknown))}")
    streams = streams_of(given.get("streams"))
    if given.get("paced") and streams != "record":
        raise ConfigError('paced=True replays recorded streams with their pauses: set streams="record", too')
    endpoints = endpoints_of(given.get("endpoints", {}))
    ignored = given.get("ignore_fields", ())
    if isinstance(ignored, str):
        raise ConfigError("ignore_fields is a collection of names")
    checked = {
        "ignore_fields": frozenset(ignored),
        "endpoints": endpoints,
        "keep": keep_of(given.get("keep", ())),
    }
    return Rules(**{**given, **checked})


@quick_value(frozen=True, slots=True)
class Subject:
    """What a request is about.

    Attributes:
        endpoint: The endpoint.
        request: Who is asked for which model, for prices and labels.
        streams: Whether it asks for a stream.
    """

    endpoint: Endpoint
    request: Request
    streams: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that passes by the cache.

    Attributes:
        reason: One word, for the ledger: ``bypass``, ``endpoint``, ``stream``, ``encoded``, ``json``,
            ``hook``, or a word of `casstore.inference.reasons.KEEP` where it leans on the provider's state.
        detail: The same for a person.
        subject: What it is about; None at an unknown endpoint.
        overruled: Whether a setting may overrule the reason, if the reason has one.
    """

    reason: str
    detail: str
    subject: Subject | None = None
    overruled: bool = True


@quick_value(frozen=True, slots=True)
class Material:
    """What a key is made of.

    Attributes:
        key: The digest of `canonical`.
        canonical: The canonical JSON of the material; stored, it is the request for a person to read.
        subject: What it is about.
        objects: Large parts of the request, taken out of `canonical`, which names their digests.
    """

    key: Key
    canonical: bytes = field(repr=False)
    subject: Subject
    objects: tuple[bytes, ...] = field(default=(), repr=False)


@quick_value(frozen=True, slots=True)
class _Body:
    """A body in the material: under which names it stands there, and what can be known of it."""

    fields: Mapping[str, Any]
    known: Mapping[str, Any] = field(default_factory=dict)
    objects: tuple[bytes, ...] = ()


def material(
    request: HttpRequest,
    rules: Rules = PLAIN_RULES,
    settings: Settings = Settings(),  # noqa: B008 — frozen
    aliases: Mapping[str, str] = _NO_BODY,
) -> Material | Passed:
    """Return what the key of `request` is made of, or why it has none.

    Args:
        request: The request; its headers and query may hold credentials, which reach nothing here.
        rules: What the program set.
        settings: Namespace, sample and tag are in the key.
        aliases: Hosts, or patterns of hosts, to be taken for another host.
    """
    endpoint = endpoint_at(request.path, rules.endpoints)
    if endpoint is None or request.method != "POST":
        return Passed("endpoint", f"{request.method} {request.path} is no endpoint whose replies are stored")
    if request.headers.get("content-encoding"):
        return Passed("encoded", "the request's body is encoded")
    known = _known(request)
    subject = _subject(request, endpoint, known, aliases)
    seen = survey(known)
    passed = _why_passed(subject, known, seen, rules)
    if passed is not None:
        return passed
    body = _body(request, subject, known, seen, rules)
    value = _value(request, subject, body, settings)
    return _keyed(value, subject, body, rules, exact=not seen.floats)


def _known(request: HttpRequest) -> Mapping[str, Any] | None:
    """Return a body as a JSON object, or None; a multipart body's text parts are its fields."""
    if media_type(request.headers) == "multipart/form-data":
        return _form(request)
    try:
        value = _DECODER.decode(request.body.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _form(request: HttpRequest) -> Mapping[str, Any] | None:
    from casstore.inference.http.multipart import parts_of

    try:
        parts = parts_of(request.headers["content-type"], request.body)
    except FormatError:
        return None
    fields: dict[str, Any] = {part.name: part.text for part in parts if part.text is not None}
    return {**fields, "stream": fields.get("stream") == "true"}


def _refuse(constant: str) -> float:
    raise ValueError(f"JSON has no {constant}")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
"""Not orjson: that rounds integers of more than 64 bits, and two of them would share a key."""


def _subject(
    request: HttpRequest, endpoint: Endpoint, known: Mapping[str, Any] | None, aliases: Mapping[str, str]
) -> Subject:
    host = alias_of(request.host, aliases) if aliases else request.host
    headers = {name: request.headers[name] for name in HTTP_KEY_HEADERS.intersection(request.headers)}
    described = Request(
        provider=provider_of(host, endpoint.wire),
        host=host,
        path=request.path,
        model=model_of(request.path, known),
        body=known or _NO_BODY,
        headers=headers,
        query=_query(request.query) if request.query else _NO_BODY,
    )
    return Subject(endpoint, described, streaming(endpoint, known))


@lru_cache(maxsize=64)
def _query(query: str) -> Mapping[str, Any]:
    """Return the parameters of a query that are in a key; of one that repeats, the list of its values."""
    found: dict[str, list[str]] = {}
    # Bytes that are no UTF-8 become what has no canonical form, and not all the same character.
    for name, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        if not name.lower().startswith(_SIGNED) and "credential" not in name.lower():
            found.setdefault(name, []).append(value)
    return open_query({name: values[0] if len(values) == 1 else values for name, values in found.items()})


def _why_passed(
    subject: Subject, known: Mapping[str, Any] | None, seen: Survey, rules: Rules
) -> Passed | None:
    if subject.streams and rules.streams != "record":
        return Passed("stream", "streams are not recorded", subject)
    if not known:
        return None
    leaning = leans_on(known, seen, subject.request.model, keep=rules.keep, runs=subject.endpoint.runs)
    if leaning is None:
        return None
    detail = f"the answer hangs on what the provider holds or does: {leaning.what}"
    return Passed(leaning.reason, detail, subject, leaning.overruled)


def _body(
    request: HttpRequest, subject: Subject, known: Mapping[str, Any] | None, seen: Survey, rules: Rules
) -> _Body:
    if known is None:
        return _Body({"bytes": digest_of(request.body), "size": len(request.body)})
    if media_type(request.headers) == "multipart/form-data":
        return _parts(request)
    volatile = VOLATILE.get(volatile_family(subject.endpoint.wire, known))
    if volatile and not volatile.isdisjoint(known):
        known = {name: value for name, value in known.items() if name not in volatile}
    for ignored in rules.ignore_fields:
        known = _without(known, ignored.split("."))
    opened, holes = without_parts(known, seen)
    fields: dict[str, Any] = {"body": opened}
    if holes.found:
        fields["holes"] = holes.listed()
    return _Body(fields, known, tuple(holes.objects))


def _without(body: Mapping[str, Any], path: list[str]) -> Mapping[str, Any]:
    name, rest = path[0], path[1:]
    if name not in body:
        return body
    if not rest:
        return {each: value for each, value in body.items() if each != name}
    inner = body[name]
    return {**body, name: _without(inner, rest)} if isinstance(inner, dict) else body


def _parts(request: HttpRequest) -> _Body:
    from casstore.inference.http.multipart import parts_of

    told: list[dict[str, Any]] = []
    objects: list[bytes] = []
    holes: list[dict[str, Any]] = []
    for part in parts_of(request.headers["content-type"], request.body):
        row: dict[str, Any] = {"name": part.name, "type": part.content_type}
        if part.filename is not None:
            row["filename"] = part.filename
        if part.text is None:
            row |= {"object": digest_of(part.content), "size": len(part.content)}
            objects.append(part.content)
        else:
            field = {part.name: part.text}
            opened, hole = without_parts(field, survey(field))
            row["text"] = opened[part.name]
            holes += [{**each, "at": f"/{len(told)}/text"} for each in hole.found]
            objects += hole.objects
        told.append(row)
    return _Body({"parts": told} | ({"holes": holes} if holes else {}), objects=tuple(objects))


def _value(request: HttpRequest, subject: Subject, body: _Body, settings: Settings) -> dict[str, Any]:
    asked = subject.request
    value: dict[str, Any] = {
        "casstore": SCHEMA,
        "kind": KIND,
        "method": request.method,
        "provider": asked.provider,
        "host": asked.host,
        "path": asked.path,
        "query": asked.query,
        "headers": asked.headers,
        **body.fields,
        "namespace": settings.namespace,
        "sample": settings.sample,
    }
    if settings.tag:
        value["tag"] = settings.tag
    return value


def _keyed(
    value: dict[str, Any], subject: Subject, body: _Body, rules: Rules, *, exact: bool
) -> Material | Passed:
    try:
        if rules.key_hook is not None:
            changed = rules.key_hook(value)
            if changed is None:
                return Passed("hook", "the key hook says so", subject)
            value, exact = dict(changed), False
        spelled = canonical(value, exact=exact)
    except CanonicalError as error:
        return Passed("json", f"the request has no canonical form: {error}", subject)
    return Material(key_of(spelled), spelled, subject, body.objects)
