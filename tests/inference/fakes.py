"""Doubles of the inference layer: clients that count their calls, and stores that break in every way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from casstore.catalog.listed import Tally
from casstore.catalog.records import Entry
from casstore.digest import Key, digest_of
from casstore.errors import NotFoundError
from casstore.inference.recorded import to_json
from casstore.inference.types import (
    Chunk,
    Message,
    Request,
    Response,
    System,
    Truncated,
    TruncatedError,
    Usage,
)

USAGE = Usage(input=100, output=20, cached=40, reasoning=5)
HELLO: list[Message] = [{"role": "user", "content": "hello"}]


@dataclass
class Described:
    """What all fake clients tell of themselves, and the answer they give.

    Attributes:
        answer: Makes the answer to a body; by default its text names the call.
        calls: Bodies of the calls made.
    """

    provider: str = "openai"
    host: str = "api.example"
    model: str = "fake-1"
    truncated: Truncated = "raise"
    answer: Callable[[Mapping[str, Any], int], Response] | None = None
    calls: list[Mapping[str, Any]] = field(default_factory=list)

    def request(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return what is asked: all of it stands in the body."""
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), **options}
        if system:
            body["system"] = system
        if stream:
            body["stream"] = True
        return Request(self.provider, self.host, "/v1/chat/completions", self.model, body)

    def respond(self, body: Mapping[str, Any]) -> Response:
        """Count a call and answer it."""
        self.calls.append(body)
        number = len(self.calls)
        response = self.answer(body, number) if self.answer else answered(f"answer {number}", self.model)
        if response.truncated and self.truncated == "raise":
            raise TruncatedError(response)
        return response

    def events(self, body: Mapping[str, Any]) -> list[Chunk]:
        """Count a call and answer it as a stream."""
        self.calls.append(body)
        response = answered(f"streamed {len(self.calls)}", self.model)
        words = response.text.split()
        return [*(Chunk(word, {"delta": word}) for word in words), Chunk("", None, response)]


def answered(text: str, model: str = "fake-1", stop: str = "end", usage: Usage = USAGE) -> Response:
    """Return an answer as a provider would give it."""
    return Response(text, stop, usage, model, to_json({"text": text, "id": "reply-1"}))


class FakeClient(Described):
    """A client that answers at once."""

    def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Answer."""
        return self.respond(self.request(messages, system, options).body)

    def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Iterator[Chunk]:
        """Answer word by word."""
        yield from self.events(self.request(messages, system, options, stream=True).body)


class SlowClient(FakeClient):
    """A client whose answer waits for `release`; `asked` tells that it was called."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.asked = threading.Event()
        self.release = threading.Event()

    def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Answer when released."""
        self.asked.set()
        assert self.release.wait(30)
        return super().converse(messages, system=system, **options)


class AsyncFakeClient(Described):
    """An async client that answers after `pauses` turns of the event loop."""

    pauses = 3

    async def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Answer."""
        body = self.request(messages, system, options).body
        for _ in range(self.pauses):
            await asyncio.sleep(0)
        return self.respond(body)

    async def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> AsyncIterator[Chunk]:
        """Answer word by word."""
        for chunk in self.events(self.request(messages, system, options, stream=True).body):
            yield chunk


@dataclass
class DictStore:
    """A store in a dictionary, which keeps the rules of a repository: the first answer stands."""

    held: dict[Key, tuple[Entry, bytes]] = field(default_factory=dict)
    refs: dict[Key, tuple[bytes, ...]] = field(default_factory=dict)
    counted: dict[tuple[str, str, str], float] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)

    def read_entry(self, key: Key) -> tuple[Entry, bytes]:
        """Return what is held."""
        self.did.append("read")
        if key not in self.held:
            raise NotFoundError(f"no entry for {key}")
        return self.held[key]

    def put_entry(
        self,
        key: Key,
        content: bytes,
        *,
        labels: Mapping[str, Any] | None = None,
        refs: Sequence[bytes] = (),
        replace: bool = False,
    ) -> Entry:
        """Hold an answer, unless one is held and it is not to be replaced."""
        self.did.append("put")
        before = self.held.get(key)
        if before is not None and not replace:
            return before[0]
        generation = before[0].generation + 1 if before else 0
        digests = tuple(map(digest_of, refs))
        created = time.time_ns() // 1_000_000
        entry = Entry(key, digest_of(content), generation, created, dict(labels or {}), digests)
        self.held[key] = entry, content
        self.refs[key] = tuple(refs)
        return entry

    def forget(self, key: Key) -> None:
        """Hold nothing for `key`."""
        del self.held[key]

    def tally(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Count."""
        for name, value in counts.items():
            who = provider, model, name
            self.counted[who] = self.counted.get(who, 0) + value

    def tallies(self) -> list[Tally]:
        """Return what was counted, all on one day."""
        return [Tally("2026-01-01", *who, value) for who, value in self.counted.items()]

    def push(self, remote: str | None = None) -> object:
        """Note it."""
        self.did.append(f"push {remote}")
        return self.did

    def flush(self) -> None:
        """Note it."""
        self.did.append("flush")

    def close(self) -> None:
        """Note it."""
        self.did.append("close")


_OPERATIONS = frozenset({"read_entry", "put_entry", "forget", "tally", "tallies", "push", "flush", "close"})


class BrokenStore(DictStore):
    """A store that fails.

    Args:
        fault: What it raises.
        on: The operations that fail.
    """

    def __init__(self, fault: Exception, on: Sequence[str]) -> None:
        super().__init__()
        self.fault = fault
        self.on = on

    def __getattribute__(self, name: str) -> Any:
        if name in _OPERATIONS and name in self.on:
            return self._fail
        return super().__getattribute__(name)

    def _fail(self, *_args: object, **_more: object) -> Any:
        self.did.append("fault")
        raise self.fault
