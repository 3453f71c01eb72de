"""Recordings of vcrpy (cassettes) as exchanges; pure but for the YAML library.  Floor: inference.

YAML and JSON, as vcrpy's versions wrote them; vcrpy is not needed. Cassettes come from repositories and
strangers: nothing in them is run or believed, and how large, deep and often repeated they may be is bounded.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from casstore.errors import ConfigError, FormatError
from casstore.inference.http.exchange import ENCODING_HEADERS, HttpReply, HttpRequest, decoded, lower
from casstore.inference.recorded import to_json

LARGEST: Final = 128 * 1024 * 1024
"""Bytes of a cassette: the largest in public repositories have a fifth of that."""

DEEPEST: Final = 64
"""Levels of a cassette; vcrpy writes seven, and bodies are text."""

NODES: Final = 2_000_000
"""Values in a cassette, each counted as often as an alias repeats it: a recorded call has about a hundred."""

READ: Final = "casstore import reads what casstore export wrote, and cassettes of vcrpy in YAML or JSON"

_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded exchange.

    Attributes:
        request: The request, with the credentials that were recorded.
        reply: The reply, decoded.
    """

    request: HttpRequest
    reply: HttpReply


def read_cassette(content: bytes) -> list[Any]:
    """Return the interactions of a cassette, as they stand there.

    Raises:
        FormatError: It is no cassette, or too large, too deep, or too often repeated.
        ConfigError: It is YAML, and PyYAML is not installed.
    """
    if len(content) > LARGEST:
        raise FormatError(f"a cassette of {len(content):,} bytes; {LARGEST:,} are read at most")
    if not content.strip():
        raise FormatError(f"it is empty; {READ}")
    if b"\0" in content or not _is_text(content):
        raise FormatError(f"it is not text; {READ}")
    value = _json(content) if content.lstrip()[:1] == b"{" else _yaml(content)
    found = value.get("interactions") if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise FormatError(f"it has no interactions; {READ}")
    return found


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except RecursionError:
        raise FormatError("a cassette that is nested too deeply") from None
    except ValueError as error:
        with suppress(FormatError, ConfigError):
            return _yaml(content)  # which may begin with a brace as well
        raise FormatError(f"it is no JSON: {error}; {READ}") from error


def _yaml(content: bytes) -> Any:
    if b"interactions" not in content:  # a cassette is nowhere near, and no YAML need be blamed
        return None
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(
            "a cassette in YAML needs PyYAML to be read: pip install 'casstore[cassettes]'"
        ) from error
    base: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("Loader", (base,), {})
    loader.add_constructor("tag:yaml.org,2002:python/unicode", _text)  # what vcrpy on Python 2 wrote
    try:
        _check(yaml, base, content)
        return yaml.load(content, Loader=loader)  # noqa: S506 — a safe loader, and one for texts
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        told = " ".join(str(error).split())[:200]
        raise FormatError(f"no cassette that can be read safely: {told}") from error


def _text(loader: Any, node: Any) -> Any:
    return loader.construct_scalar(node)


def _check(yaml: Any, loader: type[Any], content: bytes) -> None:
    """Refuse YAML that would take too much, before anything is made of it.

    Events come one by one and are not nested, so going through them takes no memory or depth of its own.
    """
    sizes: dict[str, int] = {}
    begun: list[tuple[str | None, int]] = []
    nodes = 0
    for event in yaml.parse(content, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            nodes += 1
            begun.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before + 1
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in begun):
                raise FormatError("a cassette in which something holds itself")
            nodes += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
        if nodes > NODES:
            raise FormatError(f"a cassette with more than {NODES:,} values, its aliases written out")
        if len(begun) > DEEPEST:
            raise FormatError(f"a cassette nested more than {DEEPEST} levels deep")


def exchange_of(interaction: object) -> Recorded:
    """Return an interaction as an exchange.

    Raises:
        FormatError: It is none, or its reply is encoded in a way that is not undone here.
    """
    if not isinstance(interaction, Mapping):
        raise FormatError("an interaction that is no object")
    request, response = interaction.get("request"), interaction.get("response")
    if not isinstance(request, Mapping) or not isinstance(response, Mapping):
        raise FormatError("an interaction without its request or response")
    url = request.get("uri", request.get("url"))
    if not isinstance(url, str):
        raise FormatError("a request without its uri")
    body = _body(request.get("body"), request)
    try:
        asked = HttpRequest.of(str(request.get("method", "")), url, list(_headers(request)), body)
    except ValueError as error:
        raise FormatError(f"a request whose uri cannot be read: {error}") from error
    return Recorded(asked, _reply(response))


def _reply(response: Mapping[str, Any]) -> HttpReply:
    status = response.get("status", response.get("status_code"))
    code = status.get("code") if isinstance(status, Mapping) else status
    if type(code) is not int:
        raise FormatError("a response without its status")
    content = response.get("body", response.get("content"))
    reply = HttpReply(code, lower(_headers(response)), _body(content, response))
    return _undone(reply)


def _undone(reply: HttpReply) -> HttpReply:
    """Return a reply with its content encoding undone; most recorders undid it, and left the header."""
    try:
        headers, body = decoded(reply.headers, reply.body)
    except FormatError:
        if reply.body.startswith(_GZIP) or not _is_text(reply.body):
            raise
        headers = {name: value for name, value in reply.headers.items() if name not in ENCODING_HEADERS}
        body = reply.body
    return replace(reply, headers=headers, body=body)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _headers(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    headers = message.get("headers")
    if not isinstance(headers, Mapping):
        return
    for name, told in headers.items():
        for value in told if isinstance(told, list) else [told]:
            yield str(name), value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _body(body: object, message: Mapping[str, Any]) -> bytes:
    if isinstance(body, Mapping):
        return _body_in(body)
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if body is None:
        parsed = message.get("parsed_body")  # as a serializer of pydantic-ai's tests writes it
        return b"" if parsed is None else to_json(parsed)
    raise FormatError("a body that is neither text nor bytes")


def _body_in(body: Mapping[str, Any]) -> bytes:
    if "base64_string" in body:
        try:
            return binascii.a2b_base64(str(body["base64_string"]))
        except ValueError as error:
            raise FormatError(f"a body that is no base64: {error}") from error
    return _body(body.get("string", ""), body)
