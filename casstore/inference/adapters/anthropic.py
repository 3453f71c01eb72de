"""Anthropic's messages, over the official SDK.  Floor: inference.

Retries are the SDK's. Knows no cache.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from casstore.errors import ConfigError
from casstore.inference.adapters.endpoint import (
    Address,
    Shape,
    arguments_for,
    async_chunks,
    chunks,
    count,
    headers_in,
    load_sdk,
    plain_options,
    refuse_stream,
    split_url,
)
from casstore.inference.recorded import to_json
from casstore.inference.request import service_headers
from casstore.inference.types import Chunk, Message, Request, Response, System, Truncated, Usage

if TYPE_CHECKING:
    import anthropic

_BASE_URL = "https://api.anthropic.com"
_VERSION = "anthropic-version"

_STOPS = {
    "end_turn": "end",
    "stop_sequence": "end",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_use",
    "refusal": "filtered",
}


def own_version(url: str = _BASE_URL) -> str:
    """Return the API version that the SDK asks for of its own: it must be loaded to know.

    Raises:
        ConfigError: It is not installed.
    """
    with load_sdk("anthropic", "anthropic").Anthropic(api_key="any", base_url=url) as sdk:
        return str(sdk.default_headers[_VERSION])


class _Messages(Shape):
    provider: ClassVar[str] = "anthropic"

    def __init__(
        self,
        model: str,
        sdk: anthropic.Anthropic | anthropic.AsyncAnthropic | None,
        base_url: str | None,
        version: str | None,
        truncated: Truncated,
    ) -> None:
        super().__init__(model, truncated)
        self._url = base_url or os.environ.get("ANTHROPIC_BASE_URL") or _BASE_URL
        self._headers = service_headers(headers_in("ANTHROPIC_CUSTOM_HEADERS"))
        if version is not None:
            self._headers[_VERSION] = version
        told = sdk is not None or _VERSION in self._headers
        self._address = Address(sdk, self._url, self._headers) if told else None
        self.host = split_url(self._url)[0] if self._address is None else self._address.host

    def request(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return what would be sent for these arguments; needs no credentials."""
        body = {**self._fields(messages, system), **plain_options(options)}
        if stream:
            body["stream"] = True
        if self._address is None:
            self._headers[_VERSION] = own_version(self._url)
            self._address = Address(None, self._url, self._headers)
        return self._address.request(self.provider, "/v1/messages", body, options)

    def _arguments(
        self, messages: Sequence[Message], system: System | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        refuse_stream(options)
        if "max_tokens" not in options:
            raise ConfigError("Anthropic's messages need the option max_tokens")
        return {**self._fields(messages, system), **options}

    def _fields(self, messages: Sequence[Message], system: System | None) -> dict[str, Any]:
        fields: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        return {**fields, "system": system} if system else fields


class AnthropicClient(_Messages):
    """A model behind Anthropic's messages.

    Options are the fields of the request (``max_tokens``, which is required, ``tools`` ...), also those that
    the SDK has no parameter for, and the SDK's ``timeout``, ``extra_body``, ``extra_headers`` and
    ``extra_query``.

    Args:
        model: The model to ask.
        sdk: An SDK client of yours; by default one is made at the first call, from the environment.
        base_url: Where the server is, for the SDK client made here; by default ``ANTHROPIC_BASE_URL``.
        version: The API version to ask for, for the SDK client made here; by default the SDK's own. It is
            in the key, so where it is given, a run of hits need not load the SDK.
        truncated: Whether an answer cut off by the token limit is raised as `TruncatedError` or returned.
    """

    def __init__(
        self,
        model: str,
        *,
        sdk: anthropic.Anthropic | None = None,
        base_url: str | None = None,
        version: str | None = None,
        truncated: Truncated = "raise",
    ) -> None:
        super().__init__(model, sdk, base_url, version, truncated)
        self._sdk = sdk

    def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer; see `casstore.inference.types.Client`."""
        create = self._connected().messages.create
        message = create(**arguments_for(create, self._arguments(messages, system, options)))
        return self._deliver(parse(message.to_dict(mode="json")))

    def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Iterator[Chunk]:
        """Yield the answer as it is written; see `casstore.inference.types.Client`."""
        create = self._connected().messages.create
        arguments = arguments_for(create, self._arguments(messages, system, options))
        with create(**arguments, stream=True) as events:
            yield from chunks((event.to_dict(mode="json") for event in events), MessageAssembler())

    def _connected(self) -> anthropic.Anthropic:
        if self._sdk is None:
            make = load_sdk("anthropic", "anthropic").Anthropic
            sdk: anthropic.Anthropic = make(base_url=self._url, default_headers=self._headers)
            self._sdk = sdk
            self._made_sdk = True
        return self._sdk


class AsyncAnthropicClient(_Messages):
    """A model behind Anthropic's messages, from asyncio; arguments as of `AnthropicClient`."""

    def __init__(
        self,
        model: str,
        *,
        sdk: anthropic.AsyncAnthropic | None = None,
        base_url: str | None = None,
        version: str | None = None,
        truncated: Truncated = "raise",
    ) -> None:
        super().__init__(model, sdk, base_url, version, truncated)
        self._sdk = sdk

    async def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer; see `casstore.inference.types.Client`."""
        create = self._connected().messages.create
        message = await create(**arguments_for(create, self._arguments(messages, system, options)))
        return self._deliver(parse(message.to_dict(mode="json")))

    async def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> AsyncIterator[Chunk]:
        """Yield the answer as it is written; see `casstore.inference.types.Client`."""
        create = self._connected().messages.create
        arguments = arguments_for(create, self._arguments(messages, system, options))
        async with await create(**arguments, stream=True) as events:
            dicts = (event.to_dict(mode="json") async for event in events)
            async for chunk in async_chunks(dicts, MessageAssembler()):
                yield chunk

    def _connected(self) -> anthropic.AsyncAnthropic:
        if self._sdk is None:
            make = load_sdk("anthropic", "anthropic").AsyncAnthropic
            sdk: anthropic.AsyncAnthropic = make(base_url=self._url, default_headers=self._headers)
            self._sdk = sdk
            self._made_sdk = True
        return self._sdk


class MessageAssembler:
    """Makes a whole answer of the events of a message's stream."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._stop = ""
        self._complete = False

    def add(self, event: Mapping[str, Any]) -> str:
        """Take an event, and return the text it adds."""
        kind = event.get("type")
        added = ""
        if kind == "message_start":
            self._message = event.get("message") or {}
            self._take_usage(self._message.get("usage"))
        elif kind == "content_block_delta":
            delta = event.get("delta") or {}
            added = delta["text"] if delta.get("type") == "text_delta" else ""
        elif kind == "message_delta":
            self._stop = (event.get("delta") or {}).get("stop_reason") or self._stop
            self._take_usage(event.get("usage"))
        elif kind == "message_stop":
            self._complete = True
        self._text.append(added)
        return added

    def response(self) -> Response | None:
        """Return the whole answer; None if the stream was cut."""
        if not self._complete:
            return None
        return Response(
            text="".join(self._text),
            stop_reason=_STOPS.get(self._stop, self._stop),
            usage=_usage(self._usage),
            model=str(self._message.get("model", "")),
            list_price=_at_list_price(self._usage),
        )

    def _take_usage(self, usage: object) -> None:
        # Counts are cumulative: a later one stands for an earlier one.
        if isinstance(usage, Mapping):
            self._usage.update({name: value for name, value in usage.items() if value is not None})


def parse(reply: Mapping[str, Any]) -> Response:
    """Return the answer in a message."""
    blocks = reply.get("content") or []
    reason = str(reply.get("stop_reason") or "")
    usage = reply.get("usage")
    return Response(
        text="".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text"),
        stop_reason=_STOPS.get(reason, reason),
        usage=_usage(usage),
        model=str(reply.get("model", "")),
        reply=to_json(reply),
        list_price=_at_list_price(usage),
    )


def _usage(usage: object) -> Usage:
    if not isinstance(usage, Mapping):
        return Usage()
    cached, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    return Usage(
        input=count(usage, "input_tokens") + cached + written,
        output=count(usage, "output_tokens"),
        cached=cached,
        reasoning=count(usage.get("output_tokens_details"), "thinking_tokens"),
        written=written,
        written_long=count(usage.get("cache_creation"), "ephemeral_1h_input_tokens"),
    )


def _at_list_price(usage: object) -> bool:
    """Return whether a call costs what the price list says: no other tier, speed, region or paid tool."""
    if not isinstance(usage, Mapping):
        return True
    tools = usage.get("server_tool_use")
    return (
        usage.get("service_tier") in (None, "standard")
        and usage.get("speed") in (None, "standard")
        and usage.get("inference_geo") in (None, "global", "not_available")
        and not (isinstance(tools, Mapping) and any(tools.values()))
    )
