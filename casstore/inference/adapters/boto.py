"""The cache before boto3's clients of Bedrock, through botocore's events.  Floor: inference.

``before-call`` comes once a request is complete and before it is signed. So a hit needs no credentials, and a
miss is sent from within the event: whoever waits for an identical call is freed however that ends. A reply,
stored or new, goes through botocore's own parser. This module knows botocore, and no keys or stores.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from io import BytesIO
from typing import Any, Final

from casstore.backends.traffic import is_ours, ours
from casstore.errors import ConfigError, FormatError
from casstore.inference.http.controls import PREFIX, marked
from casstore.inference.http.core import Ask, HttpCache, Opaque, Opened
from casstore.inference.http.exchange import HttpReply, HttpRequest, decoded, lower
from casstore.inference.http.material import Passed
from casstore.inference.http.native import pieces
from casstore.inference.http.stored import StoredReply
from casstore.inference.http.tap import Tap

SERVICE: Final = "bedrock-runtime"
_ID: Final = "casstore"
_ERRORS: Final = 300
"""The status from which botocore takes a reply for an error."""


def attach(http: HttpCache, target: Any) -> None:
    """Put a cache before a client of Bedrock, or before all that a session will make.

    Args:
        http: The cache; one that was put there before gives way to it.
        target: A client ``bedrock-runtime`` of boto3, or a `boto3.Session`.

    Raises:
        ConfigError: It is neither.
    """
    if hasattr(target, "meta"):
        _attach_client(http, target)
    elif hasattr(target, "events") and hasattr(target, "client"):
        _attach_session(http, target)
    else:
        raise ConfigError(f"neither a client nor a session of boto3: {type(target).__name__}")


def _attach_client(http: HttpCache, client: Any) -> None:
    service = client.meta.service_model.service_name
    if service != SERVICE or inspect.iscoroutinefunction(client._make_request):  # noqa: SLF001 — see `_send`
        raise ConfigError(f"not a client of boto3 for {SERVICE}: {type(client).__name__} for {service}")
    event = f"before-call.{SERVICE}"
    client.meta.events.unregister(event, unique_id=_ID)
    # What botocore does next by itself; there is no public name for it.
    bedrock = Bedrock(http, client._make_request)  # noqa: SLF001
    client.meta.events.register_last(event, bedrock.before_call, unique_id=_ID)


def _attach_session(http: HttpCache, session: Any) -> None:
    class CachedBedrock:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            _attach_client(http, self)

    def add_base(base_classes: list[type[Any]], **_: Any) -> None:
        base_classes.insert(0, CachedBedrock)

    event = f"creating-client-class.{SERVICE}"
    session.events.unregister(event, unique_id=_ID)
    session.events.register_last(event, add_base, unique_id=_ID)


def answering(
    original: Callable[..., Any], cache_for: Callable[[str], HttpCache | None]
) -> Callable[..., Any]:
    """Return `BaseClient._make_request` with a cache before it: what is called once ``before-call`` is over.

    Args:
        original: The function, which takes the client first.
        cache_for: Returns the cache for a URL; None to let a request pass.
    """

    @wraps(original)
    def make_request(client: Any, model: Any, params: dict[str, Any], context: Any) -> Any:
        found = None
        if not is_ours() and _ID not in context and client.meta.service_model.service_name == SERVICE:
            http = cache_for(params["url"])
            if http is not None:
                found = Bedrock(http, partial(original, client)).before_call(model, params, context)
        if found is not None:
            return found
        if _ID not in context:
            return original(client, model, params, context)
        with ours():  # a cache saw it, and lets it pass
            return original(client, model, params, context)

    return make_request


class Bedrock:
    """Answers the calls of one client.

    Args:
        http: The cache.
        send: Sends a request, as botocore does next by itself.
    """

    def __init__(self, http: HttpCache, send: Callable[..., tuple[Any, Any]]) -> None:
        self._http = http
        self._sends = send

    def before_call(self, model: Any, params: dict[str, Any], context: Any, **_: Any) -> Any:
        """Return the reply to a call, as botocore has it; None to let botocore ask by itself."""
        http = self._http
        context[_ID] = True
        found = http.guard.attempt("read a request", self._opened, params)
        if found is None or (isinstance(found, Passed) and found.reason == "bypass"):
            return None
        if isinstance(found, HttpReply):
            return answered(model, found)
        if isinstance(found, Opened) and not found.subject.streams:
            return self._whole(found, model, params, context)
        given = http.replayed(found) if isinstance(found, Opened) else None
        if given is not None:
            return _replayed(model, given, paced=http.rules.paced)
        return self._watched(found, model, params, context)

    def _opened(self, params: dict[str, Any]) -> Opened | Passed | HttpReply:
        body = params["body"]
        if hasattr(body, "read"):
            body = params["body"] = body.read()
        content = body.encode() if isinstance(body, str) else bytes(body or b"")
        headers = lower((name, str(value)) for name, value in params["headers"].items())
        for name in [name for name in params["headers"] if name.lower().startswith(PREFIX)]:
            del params["headers"][name]
        return self._http.open(HttpRequest.of(params["method"], params["url"], headers, content))

    def _send(self, model: Any, params: dict[str, Any], context: Any) -> tuple[Any, Any]:
        with ours():
            return self._sends(model, params, context)

    def _whole(self, opened: Opened, model: Any, params: dict[str, Any], context: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        sent: list[tuple[Any, Any]] = []

        def send(_: Ask) -> HttpReply | Opaque:
            response, parsed = self._send(model, params, context)
            sent.append((response, parsed))
            headers = lower(response.headers.items())
            try:
                plain, body = decoded(headers, response.content)
            except FormatError:
                return Opaque(_rebuilt(model, response, parsed, response.content))
            return HttpReply(response.status_code, plain, body)

        reply = self._http.run(opened, send, (BotoCoreError, ClientError))
        if isinstance(reply, Opaque):
            return reply.native
        if sent and reply.status >= _ERRORS:  # with all that botocore knows of this error
            return sent[-1]
        return answered(model, reply, retries=_retries(sent[-1][1]) if sent else 0)

    def _watched(self, about: Opened | Passed, model: Any, params: dict[str, Any], context: Any) -> Any:
        if about.subject is None:
            self._http.count_passed(about)
            return None
        started = time.perf_counter()
        response, parsed = self._send(model, params, context)
        tap = self._http.guard.attempt("follow a reply", _tap, self._http, about, response, started)
        if tap is None:
            return response, parsed
        if isinstance(about, Opened):
            response.headers.update(marked({}, "miss", about.material.key))
        if response.status_code >= _ERRORS or not model.has_event_stream_output:
            content = response.content
            tap.feed(content)
            tap.end()
            tap.close()
            return _rebuilt(model, response, parsed, content)
        response.raw = _Tapped(response.raw, tap)
        return response, _parsed(model, response, _retries(parsed))


def _tap(http: HttpCache, about: Opened | Passed, response: Any, started: float) -> Tap:
    return Tap(http, about, response.status_code, lower(response.headers.items()), started)


def _replayed(model: Any, given: StoredReply | HttpReply, *, paced: bool) -> Any:
    if isinstance(given, HttpReply):
        return answered(model, given)
    raw = _Paced(given) if paced and given.pace else None
    return answered(model, given.reply, raw=raw)


def answered(model: Any, reply: HttpReply, *, retries: int = 0, raw: Any = None) -> tuple[Any, Any]:
    """Return a reply as botocore's response and what its parser makes of it.

    Args:
        model: botocore's model of the operation.
        reply: The reply.
        retries: How often it was asked for in vain.
        raw: What gives the body, where that is not simply `reply.body`.
    """
    from botocore.awsrequest import AWSResponse
    from urllib3 import HTTPResponse

    headers = {**reply.headers, "content-length": str(len(reply.body))}
    raw = raw or HTTPResponse(
        BytesIO(reply.body), headers=headers, status=reply.status, preload_content=False
    )
    response = AWSResponse("", reply.status, headers, raw)
    return response, _parsed(model, response, retries)


def _parsed(model: Any, response: Any, retries: int) -> Any:
    from botocore.endpoint import convert_to_response_dict
    from botocore.parsers import create_parser

    protocol = getattr(model.service_model, "resolved_protocol", None) or model.metadata["protocol"]
    parsed = create_parser(protocol).parse(convert_to_response_dict(response, model), model.output_shape)
    parsed["ResponseMetadata"]["RetryAttempts"] = retries
    return parsed


def _rebuilt(model: Any, response: Any, parsed: Any, content: bytes) -> tuple[Any, Any]:
    """Return a response whose body was read, with a body that can be read again."""
    if not model.has_streaming_output or response.status_code >= _ERRORS:
        return response, parsed
    reply = HttpReply(response.status_code, lower(response.headers.items()), content)
    return answered(model, reply, retries=_retries(parsed))


def _retries(parsed: Mapping[str, Any]) -> int:
    return int(parsed.get("ResponseMetadata", {}).get("RetryAttempts", 0))


class _Tapped:
    """The body of a stream, watched."""

    def __init__(self, raw: Any, tap: Tap) -> None:
        self._raw = raw
        self._tap = tap

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        return self._tap.watched(self._raw.stream(*args, **kwargs))

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            self._tap.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class _Paced:
    """The body of a stored stream, with its pauses."""

    def __init__(self, stored: StoredReply, sleep: Callable[[float], None] = time.sleep) -> None:
        self._stored = stored
        self._sleep = sleep

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        for seconds, piece in pieces(self._stored):
            self._sleep(seconds)
            yield piece

    def close(self) -> None:
        """Nothing is open."""
