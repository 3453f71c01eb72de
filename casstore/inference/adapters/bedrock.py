"""Amazon Bedrock's converse, over boto3.  Floor: inference.

boto3 is synchronous, so the async client calls it in threads. Retries are the SDK's. Knows no cache.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from casstore.inference.adapters.endpoint import Shape, chunks, count, load_sdk, split_url
from casstore.inference.recorded import to_json
from casstore.inference.types import Chunk, Message, Request, Response, System, Truncated, Usage

_STOPS = {
    "end_turn": "end",
    "stop_sequence": "end",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_use",
    "content_filtered": "filtered",
    "guardrail_intervened": "filtered",
}
_INFERENCE = {
    "max_tokens": "maxTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "stop_sequences": "stopSequences",
}


class _Converse(Shape):
    provider: ClassVar[str] = "bedrock"

    def __init__(
        self,
        model: str,
        *,
        sdk: Any = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        truncated: Truncated = "raise",
    ) -> None:
        super().__init__(model, truncated)
        self._sdk = sdk
        self._region = region
        self._endpoint_url = endpoint_url
        self._host: str | None = None

    @property
    def host(self) -> str:
        """Host and port that answer, as boto3 works them out from region, profile and environment."""
        if self._host is None:
            self._host = split_url(self._connected().meta.endpoint_url)[0]
        return self._host

    def request(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return what would be sent for these arguments; needs no credentials, but a region."""
        arguments = self._arguments(messages, system, options)
        body = {name: _wire(value) for name, value in arguments.items() if name != "modelId"}
        model = arguments["modelId"]
        verb = "converse-stream" if stream else "converse"
        return Request(self.provider, self.host, f"/model/{quote(model, safe='')}/{verb}", model, body)

    def _arguments(
        self, messages: Sequence[Message], system: System | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        arguments: dict[str, Any] = {"modelId": self.model, "messages": [_turn(each) for each in messages]}
        if system:
            arguments["system"] = [{"text": system}] if isinstance(system, str) else list(system)
        inference = {_INFERENCE[name]: value for name, value in options.items() if name in _INFERENCE}
        arguments |= {name: value for name, value in options.items() if name not in _INFERENCE}
        if inference:
            arguments["inferenceConfig"] = {**inference, **arguments.get("inferenceConfig", {})}
        return arguments

    def _converse(
        self, messages: Sequence[Message], system: System | None, options: Mapping[str, Any]
    ) -> Response:
        reply = self._connected().converse(**self._arguments(messages, system, options))
        return self._deliver(parse(reply))

    def _stream(
        self, messages: Sequence[Message], system: System | None, options: Mapping[str, Any]
    ) -> Iterator[Chunk]:
        reply = self._connected().converse_stream(**self._arguments(messages, system, options))
        events = reply["stream"]
        try:
            yield from chunks((_wire(event) for event in events), ConverseAssembler())
        finally:
            events.close()

    def _connected(self) -> Any:
        if self._sdk is None:
            boto3 = load_sdk("boto3", "bedrock")
            self._sdk = boto3.client(
                "bedrock-runtime", region_name=self._region, endpoint_url=self._endpoint_url
            )
            self._made_sdk = True
        return self._sdk


class BedrockClient(_Converse):
    """A model behind Bedrock's converse.

    Options are the arguments of boto3's ``converse`` (``inferenceConfig``, ``toolConfig`` ...);
    ``max_tokens``, ``temperature``, ``top_p`` and ``stop_sequences`` go into ``inferenceConfig``. A message's
    content may be text.

    Args:
        model: The model's id, or an inference profile's.
        sdk: A boto3 client ``bedrock-runtime`` of yours; by default one is made when first needed.
        region: Region for the client made here; by default as boto3 finds it.
        endpoint_url: Endpoint for the client made here; by default as boto3 finds it.
        truncated: Whether an answer cut off by the token limit is raised as `TruncatedError` or returned.
    """

    def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer; see `casstore.inference.types.Client`."""
        return self._converse(messages, system, options)

    def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Iterator[Chunk]:
        """Yield the answer as it is written; see `casstore.inference.types.Client`."""
        return self._stream(messages, system, options)


class AsyncBedrockClient(_Converse):
    """A model behind Bedrock's converse, from asyncio, in threads; arguments as of `BedrockClient`."""

    async def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer; see `casstore.inference.types.Client`."""
        return await asyncio.to_thread(self._converse, messages, system, options)

    async def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> AsyncIterator[Chunk]:
        """Yield the answer as it is written; see `casstore.inference.types.Client`."""
        events = self._stream(messages, system, options)
        try:
            while (chunk := await asyncio.to_thread(next, events, None)) is not None:
                yield chunk
        finally:
            await asyncio.to_thread(_close, events)


class ConverseAssembler:
    """Makes a whole answer of the events of a converse stream."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._stop: str | None = None
        self._metadata: Mapping[str, Any] = {}

    def add(self, event: Mapping[str, Any]) -> str:
        """Take an event, and return the text it adds."""
        delta = event.get("contentBlockDelta", {}).get("delta", {})
        added = str(delta.get("text", ""))
        self._text.append(added)
        if "messageStop" in event:
            self._stop = event["messageStop"]["stopReason"]
        self._metadata = event.get("metadata", self._metadata)
        return added

    def response(self) -> Response | None:
        """Return the whole answer; None if the stream was cut."""
        if self._stop is None:
            return None
        return Response(
            text="".join(self._text),
            stop_reason=_STOPS.get(self._stop, self._stop),
            usage=_usage(self._metadata.get("usage")),
            list_price=_at_list_price(self._metadata),
        )


def parse(reply: Mapping[str, Any]) -> Response:
    """Return the answer in a reply of converse. Bedrock does not name the model in it."""
    reply = {name: _wire(value) for name, value in reply.items() if name != "ResponseMetadata"}
    blocks = reply.get("output", {}).get("message", {}).get("content", [])
    reason = str(reply.get("stopReason", ""))
    return Response(
        text="".join(str(block["text"]) for block in blocks if "text" in block),
        stop_reason=_STOPS.get(reason, reason),
        usage=_usage(reply.get("usage")),
        reply=to_json(reply),
        list_price=_at_list_price(reply),
    )


def _turn(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"text": content}]} if isinstance(content, str) else message


def _usage(usage: object) -> Usage:
    cached, written = count(usage, "cacheReadInputTokens"), count(usage, "cacheWriteInputTokens")
    return Usage(
        input=count(usage, "inputTokens") + cached + written,
        output=count(usage, "outputTokens"),
        cached=cached,
        written=written,
    )


def _at_list_price(reply: Mapping[str, Any]) -> bool:
    tier = reply.get("serviceTier") or {}
    latency = reply.get("performanceConfig") or {}
    return bool(tier.get("type", "default") == "default" and latency.get("latency", "standard") == "standard")


def _wire(value: Any) -> Any:
    """Return `value` as it is on the wire, where bytes are base64."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {name: _wire(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_wire(item) for item in value]
    return value


def _close(events: Iterator[Chunk]) -> None:
    close = getattr(events, "close", None)
    if close is not None:
        close()
