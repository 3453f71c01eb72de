"""A client whose answers are kept, itself a client.  Floor: inference.

`Steps` holds what happens to one call, for threads and for asyncio alike; `CachedClient` strings the steps
together for threads, and `casstore.inference.asynchronous` does for event loops. Knows no provider.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from casstore.errors import FormatError, OfflineMissError
from casstore.inference import recorded
from casstore.inference.canonical import CanonicalError
from casstore.inference.ledger import counts_of_call, counts_of_hit
from casstore.inference.policy import Mode, why_not_stored
from casstore.inference.recorded import Answer
from casstore.inference.request import canonical_request, key_of
from casstore.inference.tiers import Call
from casstore.inference.types import (
    Chunk,
    Client,
    Describes,
    Message,
    Request,
    Response,
    System,
    Truncated,
    TruncatedError,
)

if TYPE_CHECKING:
    from casstore.catalog.records import Entry
    from casstore.inference.cache import Cache
    from casstore.inference.reading.explain import Explanation

C = TypeVar("C", bound=Describes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended.

    Attributes:
        own: What its maker gets.
        shared: What those get who waited for it.
    """

    own: Response
    shared: Response


class Steps(Generic[C]):
    """What happens to one call of a wrapped client, without a word on threads or event loops.

    Args:
        cache: Where answers are kept.
        client: The client to ask on a miss.
        overrides: Settings of this client that differ from the cache's.
    """

    def __init__(self, cache: Cache, client: C, overrides: Mapping[str, Any]) -> None:
        self._cache = cache
        self._client = client
        self._overrides = overrides

    @property
    def provider(self) -> str:
        """The wrapped client's provider."""
        return self._client.provider

    @property
    def host(self) -> str:
        """The wrapped client's host."""
        return self._client.host

    @property
    def model(self) -> str:
        """The wrapped client's model."""
        return self._client.model

    @property
    def truncated(self) -> Truncated:
        """What the wrapped client does with an answer that the token limit cut off: hits do the same."""
        return self._client.truncated

    def request(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return what the wrapped client would send."""
        return self._client.request(messages, system, options, stream=stream)

    def explain(
        self,
        messages: Sequence[Message],
        *,
        system: System | None = None,
        stream: bool = False,
        **options: Any,
    ) -> Explanation:
        """Return whether `converse`, or `stream`, would hit or miss; see `Cache.explain`."""
        from casstore.inference.reading.explain import explain_call

        settings = self._cache.settings(self._overrides)
        request = self._client.request(messages, system, options, stream=stream)
        return explain_call(self._cache, request, settings, stream=stream)

    def _open(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> tuple[Request, Call]:
        """Return what will be asked, and its key where it has one."""
        cache = self._cache
        settings = cache.settings(self._overrides)
        request = self._client.request(messages, system, options, stream=stream)
        if settings.mode is Mode.BYPASS or (stream and cache.streams != "record"):
            return request, Call(settings, None, why="stream" if stream else "bypass")
        try:
            canonical = canonical_request(
                request,
                namespace=settings.namespace,
                sample=settings.sample,
                tag=settings.tag,
                aliases=cache.aliases,
            )
        except CanonicalError as error:
            cache.guard.warn("key", "a request is not cached, as it is no JSON (%s)", error)
            return request, Call(settings, None, why="json")
        return request, Call(settings, key_of(canonical), canonical)

    def _connect(self) -> None:
        """Before the clock starts: an SDK's first import takes longer than a call."""
        if hasattr(self._client, "connect"):  # it `Connects`: to ask for the protocol takes as long as a hit
            self._client.connect()

    def _at_hand(self, call: Call, kind: str = "response") -> Answer | None:
        """Return the answer if memory has it, or the store without waiting."""
        found = self._cache.tiers.at_hand(call, self._decoder(kind))
        return found if isinstance(found, Answer) else None

    def _find(self, call: Call, kind: str = "response") -> Answer | None:
        """Return the answer from memory or the store; may block.

        Raises:
            OfflineMissError: The mode is offline and nothing is stored.
        """
        found = self._cache.tiers.find(call, self._decoder(kind))
        if isinstance(found, Answer):
            return found
        if call.settings.mode is Mode.OFFLINE:
            self._cache.tell(self.provider, self.model, {"refused_absent": 1}, call.key)
            what = f"key {call.key}" if call.key else "a call that has no key"
            raise OfflineMissError(f"offline, and no answer is stored for {what} ({self.model})")
        return None

    def _decoder(self, kind: str) -> Callable[[Entry, bytes], Answer]:
        usage_on_hit = self._cache.usage_on_hit
        return lambda entry, content: recorded.decode(entry, content, kind, usage_on_hit)

    def _keep(
        self,
        request: Request,
        call: Call,
        response: Response,
        seconds: float,
        chunks: list[Chunk] | None = None,
    ) -> Outcome:
        """Price an answer, and keep it if the policy says so; may block."""
        cache = self._cache
        response = replace(response, key=call.key, seconds=seconds, cost=cache.cost(request, response))
        hit = recorded.as_hit(response, time.time_ns() // 1_000_000, cache.usage_on_hit)
        if call.key is not None and why_not_stored(response, cache.keep) is None:
            self._store(request, call, response, hit, chunks)
        return Outcome(response, hit)

    def _store(
        self, request: Request, call: Call, response: Response, hit: Response, chunks: list[Chunk] | None
    ) -> None:
        kind = "response" if chunks is None else "stream"
        try:
            content = recorded.encode(response, chunks)
        except FormatError as fault:  # a client of somebody's own gave what is no JSON
            self._cache.guard.fault("store an answer", fault)
            return
        labels = recorded.labels_of(request, call.settings, response, kind)
        self._cache.tiers.keep(call, Answer(hit, b"" if chunks is None else content), content, labels)

    def _give(self, request: Request, call: Call, response: Response) -> Response:
        """Count an answer, and return it as the wrapped client would have.

        Raises:
            TruncatedError: It was cut off, and the wrapped client raises then.
        """
        self._count(request, call, response)
        if response.truncated and self._client.truncated == "raise":
            raise TruncatedError(response)
        return response

    def _count(self, request: Request, call: Call, response: Response) -> None:
        counts = (
            counts_of_hit(response.original)
            if response.hit
            else counts_of_call(response, keyed=call.key is not None)
        )
        stored = call.settings.mode is not Mode.BYPASS
        why = self._why(call, response)
        self._cache.count(request.provider, request.model, counts, stored=stored, key=call.key, why=why)

    def _why(self, call: Call, response: Response) -> str:
        """Return, as a counter's name, why a call has no key or its answer is not kept; else nothing."""
        if call.key is None:
            return f"uncached_{call.why}"
        reason = None if response.hit else why_not_stored(response, self._cache.keep)
        return f"unstored_{reason}" if reason else ""


class CachedClient(Steps[Client]):
    """A client that asks the wrapped one only for what no tier holds; thread-safe if that one is."""

    def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer, stored or new.

        Args:
            messages: The turns so far.
            system: The system prompt.
            options: Parameters for the provider; none of them is the cache's.

        Raises:
            TruncatedError: The answer was cut off, and the wrapped client raises then.
            OfflineMissError: The mode is offline and nothing is stored.
        """
        request, call = self._open(messages, system, options)
        found = self._at_hand(call)
        if found is not None:
            return self._give(request, call, found.response)

        def obtain() -> Outcome:
            found = self._find(call)
            if found is not None:
                return Outcome(found.response, found.response)
            response, seconds = self._ask(messages, system, options)
            return self._keep(request, call, response, seconds)

        if call.key is None:
            return self._give(request, call, obtain().own)
        outcome, own = self._cache.flights.run(call.flight, obtain)
        return self._give(request, call, outcome.own if own else outcome.shared)

    def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Iterator[Chunk]:
        """Yield the answer as it is written, or, where the cache records streams, as it was written.

        A stream is stored once its last event was seen, and not when the caller stops before.

        Raises:
            OfflineMissError: The mode is offline and nothing is stored.
        """
        request, call = self._open(messages, system, options, stream=True)
        found = self._at_hand(call, "stream") or self._find(call, "stream")
        if found is not None:
            yield from recorded.chunks_of(found)
            self._count(request, call, found.response)
            return
        started = time.perf_counter()
        seen: list[Chunk] = []
        for chunk in self._client.stream(messages, system=system, **options):
            if chunk.response is None:
                seen.append(chunk)
                yield chunk
                continue
            response = self._keep(request, call, chunk.response, time.perf_counter() - started, seen).own
            self._count(request, call, response)
            yield replace(chunk, response=response)

    def _ask(
        self, messages: Sequence[Message], system: System | None, options: Mapping[str, Any]
    ) -> tuple[Response, float]:
        self._connect()
        started = time.perf_counter()
        try:
            response = self._client.converse(messages, system=system, **options)
        except TruncatedError as error:
            response = error.response
        return response, time.perf_counter() - started
