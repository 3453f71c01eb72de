"""OpenAI's chat completions, over the official SDK.  Floor: inference.

Also for the many servers that speak the same format (`base_url`). Retries are the SDK's. Knows no cache.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

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
)
from casstore.inference.recorded import to_json
from casstore.inference.types import Chunk, Message, Request, Response, System, Truncated, Usage

if TYPE_CHECKING:
    import openai

_BASE_URL = "https://api.openai.com/v1"
_STOPS = {
    "stop": "end",
    "length": "length",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "filtered",
}
_LIST_PRICE_TIERS = (None, "auto", "default", "standard")


class _Chat(Shape):
    provider: ClassVar[str] = "openai"

    def __init__(
        self,
        model: str,
        sdk: openai.OpenAI | openai.AsyncOpenAI | None,
        base_url: str | None,
        truncated: Truncated,
    ) -> None:
        super().__init__(model, truncated)
        url = base_url or os.environ.get("OPENAI_BASE_URL") or _BASE_URL
        self._address = Address(sdk, url, headers_in("OPENAI_CUSTOM_HEADERS"))
        self.host = self._address.host

    def request(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return what would be sent for these arguments; needs no credentials."""
        fields = {"model": self.model, "messages": _turns(messages, system), **plain_options(options)}
        body = _streamed(fields) if stream else fields
        return self._address.request(self.provider, "/chat/completions", body, options)

    def _arguments(
        self, messages: Sequence[Message], system: System | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        refuse_stream(options)
        return {"model": self.model, "messages": _turns(messages, system), **options}


class OpenAIClient(_Chat):
    """A model behind OpenAI's chat completions.

    Options are the fields of the request (``temperature``, ``max_completion_tokens`` or ``max_tokens``,
    ``tools`` ...), also those that the SDK has no parameter for, and the SDK's ``timeout``, ``extra_body``,
    ``extra_headers`` and ``extra_query``.

    Args:
        model: The model to ask.
        sdk: An SDK client of yours; by default one is made at the first call, from the environment.
        base_url: Where the server is, for the SDK client made here; by default ``OPENAI_BASE_URL``.
        truncated: Whether an answer cut off by the token limit is raised as `TruncatedError` or returned.
    """

    def __init__(
        self,
        model: str,
        *,
        sdk: openai.OpenAI | None = None,
        base_url: str | None = None,
        truncated: Truncated = "raise",
    ) -> None:
        super().__init__(model, sdk, base_url, truncated)
        self._sdk = sdk

    def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer; see `casstore.inference.types.Client`."""
        arguments = self._arguments(messages, system, options)
        create = self._connected().chat.completions.create
        completion = create(**arguments_for(create, arguments))
        return self._deliver(parse(completion.to_dict(mode="json")))

    def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Iterator[Chunk]:
        """Yield the answer as it is written; see `casstore.inference.types.Client`."""
        arguments = _streamed(self._arguments(messages, system, options))
        create = self._connected().chat.completions.create
        with create(**arguments_for(create, arguments)) as events:
            yield from chunks((event.to_dict(mode="json") for event in events), ChatAssembler())

    def _connected(self) -> openai.OpenAI:
        if self._sdk is None:
            sdk: openai.OpenAI = load_sdk("openai", "openai").OpenAI(base_url=self._address.url)
            self._sdk = sdk
            self._made_sdk = True
        return self._sdk


class AsyncOpenAIClient(_Chat):
    """A model behind OpenAI's chat completions, from asyncio; arguments as of `OpenAIClient`."""

    def __init__(
        self,
        model: str,
        *,
        sdk: openai.AsyncOpenAI | None = None,
        base_url: str | None = None,
        truncated: Truncated = "raise",
    ) -> None:
        super().__init__(model, sdk, base_url, truncated)
        self._sdk = sdk

    async def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer; see `casstore.inference.types.Client`."""
        arguments = self._arguments(messages, system, options)
        create = self._connected().chat.completions.create
        completion = await create(**arguments_for(create, arguments))
        return self._deliver(parse(completion.to_dict(mode="json")))

    async def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> AsyncIterator[Chunk]:
        """Yield the answer as it is written; see `casstore.inference.types.Client`."""
        arguments = _streamed(self._arguments(messages, system, options))
        create = self._connected().chat.completions.create
        async with await create(**arguments_for(create, arguments)) as events:
            dicts = (event.to_dict(mode="json") async for event in events)
            async for chunk in async_chunks(dicts, ChatAssembler()):
                yield chunk

    def _connected(self) -> openai.AsyncOpenAI:
        if self._sdk is None:
            sdk: openai.AsyncOpenAI = load_sdk("openai", "openai").AsyncOpenAI(base_url=self._address.url)
            self._sdk = sdk
            self._made_sdk = True
        return self._sdk


class ChatAssembler:
    """Makes a whole answer of the events of a chat completion's stream."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._stops: dict[int, str] = {}
        self._tools = False
        self._refused = False
        self._last: dict[str, Any] = {}
        self._usage: object = None

    def add(self, event: Mapping[str, Any]) -> str:
        """Take an event, and return the text it adds to the first candidate."""
        self._last = dict(event)
        # Groq tells it in a field of its own.
        self._usage = event.get("usage") or (event.get("x_groq") or {}).get("usage") or self._usage
        added = ""
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            self._tools |= _calls(delta)
            self._refused |= bool(delta.get("refusal"))
            if choice.get("finish_reason"):
                self._stops[choice["index"]] = choice["finish_reason"]
            if choice.get("index") == 0 and isinstance(delta.get("content"), str):
                added += delta["content"]
        self._text.append(added)
        return added

    def response(self, *, whole: bool = False) -> Response | None:
        """Return the whole answer; None if no candidate was finished.

        Args:
            whole: The stream is known to have come to its end, though some servers send no finish reason.
        """
        if not self._stops and not (whole and self._last):
            return None
        return Response(
            text="".join(self._text),
            stop_reason=_stop(list(self._stops.values()), tools=self._tools, refused=self._refused),
            usage=_usage(self._usage),
            model=str(self._last.get("model", "")),
            list_price=self._last.get("service_tier") in _LIST_PRICE_TIERS,
        )


_CACHED = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
"""Where DeepSeek, Moonshot and Mistral tell what came from their prompt caches."""


def parse(reply: Mapping[str, Any]) -> Response:
    """Return the answer in a chat completion's reply."""
    choices = reply.get("choices") or []
    messages = [choice.get("message") or {} for choice in choices]
    first = messages[0].get("content") if messages else None
    return Response(
        text=first if isinstance(first, str) else "",
        stop_reason=_stop(
            [choice.get("finish_reason") or "" for choice in choices],
            tools=any(map(_calls, messages)),
            refused=any(each.get("refusal") for each in messages),
        ),
        usage=_usage(reply.get("usage")),
        model=str(reply.get("model", "")),
        reply=to_json(reply),
        list_price=reply.get("service_tier") in _LIST_PRICE_TIERS,
    )


def _calls(message: Mapping[str, Any]) -> bool:
    """Return whether a message, or a delta of one, calls a tool; some servers send a call without a name."""
    function = message.get("function_call")
    named = isinstance(function, Mapping) and any(function.values())
    return named or bool(message.get("tool_calls"))


def _stop(reasons: list[str], *, tools: bool, refused: bool) -> str:
    """Return how an answer ended; of several candidates, the one that ended worst tells."""
    stops = [_STOPS.get(reason, reason) for reason in reasons]
    if "filtered" in stops:
        return "filtered"
    if "length" in stops:
        return "length"
    if refused:
        return "refused"
    if tools:  # a forced call ends with "stop"
        return "tool_use"
    return stops[0] if stops else "empty"


def _usage(usage: object) -> Usage:
    if not isinstance(usage, Mapping):
        return Usage()
    read, written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    reasoning = count(written, "reasoning_tokens") or count(usage, "reasoning_tokens")
    asked, answered = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    # xAI does not count reasoning among what was written; the total tells.
    apart = reasoning and count(usage, "total_tokens") == asked + answered + reasoning
    return Usage(
        input=asked,
        output=answered + reasoning if apart else answered,
        cached=count(read, "cached_tokens")
        or next(filter(None, (count(usage, name) for name in _CACHED)), 0),
        reasoning=reasoning,
        written=count(read, "cache_write_tokens"),
    )


def _streamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a streaming request; without usage, nothing could be told of its price."""
    return {"stream_options": {"include_usage": True}, **fields, "stream": True}


def _turns(messages: Sequence[Message], system: System | None) -> list[Message]:
    return [*([{"role": "system", "content": system}] if system else []), *messages]
