"""What the adapters share: addresses, lazy SDKs, and the shape of their clients.  Floor: inference.

Knows no provider's wire format.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from casstore.errors import ConfigError
from casstore.inference.request import open_query, service_headers
from casstore.inference.types import Chunk, Request, Response, Truncated, TruncatedError

TRANSPORT_OPTIONS = frozenset({"extra_body", "extra_headers", "extra_query", "timeout"})
"""Options that the SDKs take beside the body's fields."""


class Assembler(Protocol):
    """Makes a whole answer of a stream's events."""

    def add(self, event: Mapping[str, Any]) -> str:
        """Take an event, and return the text it adds."""

    def response(self) -> Response | None:
        """Return the whole answer; None if the stream's last event has not come."""


class Shape:
    """What the clients of every provider have in common.

    Args:
        model: The model to ask.
        truncated: Whether an answer cut off by the token limit is raised as `TruncatedError` or returned.
    """

    provider: ClassVar[str]

    def __init__(self, model: str, truncated: Truncated) -> None:
        if truncated not in ("raise", "return"):
            raise ConfigError(f"truncated is 'raise' or 'return', not {truncated!r}")
        self.model = model
        self.truncated: Truncated = truncated
        self._made_sdk = False

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without an SDK client made here, which holds locks and sockets: the copy makes another."""
        return {**self.__dict__, "_sdk": None, "_made_sdk": False} if self._made_sdk else self.__dict__

    def connect(self) -> None:
        """Load the SDK and make its client, as the first call would, so that a call's time is a call's."""
        self._connected()

    def _connected(self) -> object:
        raise NotImplementedError

    def _deliver(self, response: Response) -> Response:
        if response.truncated and self.truncated == "raise":
            raise TruncatedError(response)
        return response


class Address:
    """Where a client's requests go, and what of its SDK belongs in a key; worked out once.

    Args:
        sdk: The SDK client given by the user, which then tells.
        base_url: The base URL where none is given.
        headers: Headers the SDK would send.
    """

    def __init__(self, sdk: SDK | None, base_url: str, headers: Mapping[str, str]) -> None:
        self.url = base_url if sdk is None else str(sdk.base_url)
        self.host, self.path = split_url(self.url)
        self._headers = service_headers(headers if sdk is None else sdk.default_headers)
        self._query = {} if sdk is None else open_query(sdk.default_query)

    def request(
        self, provider: str, path: str, body: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Request:
        """Return the request that sends `body` to `path`."""
        headers, query = self._headers, self._query
        if options.get("extra_headers"):
            headers = {**headers, **service_headers(options["extra_headers"])}
        if options.get("extra_query"):
            query = {**query, **options["extra_query"]}
        return Request(provider, self.host, self.path + path, str(body["model"]), body, headers, query)


class SDK(Protocol):
    """What is asked of an SDK client to address its requests."""

    @property
    def base_url(self) -> object:
        """Where its requests go."""

    @property
    def default_headers(self) -> Mapping[str, Any]:
        """Headers of each request."""

    @property
    def default_query(self) -> Mapping[str, Any]:
        """Query parameters of each request."""


def headers_in(variable: str) -> dict[str, str]:
    """Return the headers that an environment variable adds to an SDK's requests: ``Name: value`` a line."""
    lines = (line.partition(":") for line in os.environ.get(variable, "").splitlines())
    return {name.strip(): value.strip() for name, colon, value in lines if colon}


def split_url(url: str) -> tuple[str, str]:
    """Return host (with port, without credentials) and path (without a last slash) of a base URL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return (f"{host}:{parts.port}" if parts.port else host), parts.path.rstrip("/")


def load_sdk(module: str, extra: str) -> ModuleType:
    """Import an SDK.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module} is not installed: pip install 'casstore[{extra}]'") from error


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are fields of the body, those of ``extra_body`` included."""
    refuse_stream(options)
    body = {name: value for name, value in options.items() if name not in TRANSPORT_OPTIONS}
    return {**body, **(options.get("extra_body") or {})}


def refuse_stream(options: Mapping[str, Any]) -> None:
    """Refuse the option that would make the SDK return a stream.

    Raises:
        ConfigError: ``stream`` is among the options: here that is a method.
    """
    if "stream" in options:
        raise ConfigError("to stream, call stream() and leave the option 'stream' out")


def arguments_for(create: Callable[..., Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `fields` as arguments of an SDK's method; those it has no parameter for go in ``extra_body``."""
    known = _parameters(create)
    extra = {name: value for name, value in fields.items() if name not in known}
    arguments = {name: value for name, value in fields.items() if name in known}
    if extra:
        arguments["extra_body"] = {**extra, **(arguments.get("extra_body") or {})}
    return arguments


@cache
def _names(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _parameters(method: Callable[..., Any]) -> frozenset[str]:
    return _names(getattr(method, "__func__", method))  # the function outlives its client


def chunks(events: Iterator[dict[str, Any]], assembler: Assembler) -> Iterator[Chunk]:
    """Yield a chunk for each event, and a last one with the whole answer if the stream was complete."""
    for event in events:
        yield Chunk(assembler.add(event), event)
    response = assembler.response()
    if response is not None:
        yield Chunk("", None, response)


async def async_chunks(events: AsyncIterator[dict[str, Any]], assembler: Assembler) -> AsyncIterator[Chunk]:
    """Yield a chunk for each event, and a last one with the whole answer if the stream was complete."""
    async for event in events:
        yield Chunk(assembler.add(event), event)
    response = assembler.response()
    if response is not None:
        yield Chunk("", None, response)


def count(source: object, name: str) -> int:
    """Return the whole number called `name` in a JSON object; 0 where there is none."""
    value = source.get(name) if isinstance(source, Mapping) else None
    return value if type(value) is int else 0
