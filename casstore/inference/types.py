"""What a conversation with a model is made of, whoever the provider.  Floor: inference.

Frozen values and two protocols. This module knows neither keys nor stores; an adapter gives these values
from its provider's reply, and the cache gives the same values back later.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from casstore.digest import Key
from casstore.errors import CasstoreError
from casstore.values import quick_value

Message = Mapping[str, Any]
"""One turn, as the provider's SDK takes it: ``{"role": "user", "content": "..."}``."""

System = str | Sequence[Mapping[str, Any]]
"""A system prompt: text, or the provider's content blocks."""

Truncated = Literal["raise", "return"]
"""What a client does with an answer that the token limit cut off: raise `TruncatedError`, or return it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call.

    Attributes:
        input: All tokens read, those from the provider's prompt cache included.
        output: All tokens written, those of hidden reasoning included.
        cached: The part of `input` that came from the provider's prompt cache.
        reasoning: The part of `output` that was hidden reasoning.
        written: The part of `input` that was written into the provider's prompt cache.
        written_long: The part of `written` that was written for an hour, where the provider tells.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    written_long: int = 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Original:
    """What the first call took, told on a hit.

    Attributes:
        usage: Its tokens.
        cost: Its price in USD; None where the price was not known.
        seconds: How long the provider took.
        created: When the answer was stored, in milliseconds since the Unix epoch.
    """

    usage: Usage
    cost: float | None
    seconds: float
    created: int


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer.

    Attributes:
        text: The answer's text; of several candidates, the first one's.
        stop_reason: ``end``, ``length`` (the token limit), ``tool_use``, ``refused`` (by the model itself),
            ``filtered`` (the provider withheld it), or the provider's own word for anything else.
        usage: Tokens this call was billed for: none on a hit, unless the cache was asked for the original's.
        model: The model as the provider named it in its reply.
        reply: The provider's whole reply, as JSON bytes; empty where there was none to keep.
        hit: The answer came from the cache, or from an identical call under way.
        key: Where the answer is stored, or would be; None for a call that has no key.
        cost: Price of this call in USD: 0.0 on a hit, None where the price is not known.
        seconds: How long the provider took for this call; 0.0 on a hit.
        original: On a hit, what the first call took.
        list_price: False where the provider bills this call by another rate than its list price.
    """

    text: str
    stop_reason: str
    usage: Usage = NO_USAGE
    model: str = ""
    reply: bytes = field(default=b"", repr=False)
    hit: bool = False
    key: Key | None = None
    cost: float | None = None
    seconds: float = 0.0
    original: Original | None = None
    list_price: bool = field(default=True, repr=False)

    @property
    def raw(self) -> Any:
        """The provider's whole reply, parsed anew at each access, so nobody's change reaches another."""
        return json.loads(self.reply) if self.reply else None

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut the answer off."""
        return self.stop_reason == "length"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of a stream.

    Attributes:
        text: The text this event adds; often empty.
        raw: The provider's event, as parsed JSON.
        response: On the last chunk of a complete stream alone: the whole answer.
    """

    text: str
    raw: Any = None
    response: Response | None = None


class TruncatedError(CasstoreError):
    """The token limit cut the answer off; `response` holds what there is of it."""

    def __init__(self, response: Response) -> None:
        super().__init__(
            f"{response.model or 'the model'} stopped at the token limit; raise it, or split the task"
        )
        self.response = response

    def __reduce__(self) -> tuple[object, ...]:
        return (TruncatedError, (self.response,))


@quick_value(frozen=True, slots=True)
class Request:
    """What a client will send: all that may change the answer.

    Attributes:
        provider: The wire format's name: ``openai``, ``anthropic``, ``bedrock``, or one of your own.
        host: Host and port that will answer.
        path: Path of the endpoint.
        model: The model asked for.
        body: The whole request body, as JSON.
        headers: Headers that choose a version of the service; never credentials.
        query: Query parameters.
    """

    provider: str
    host: str
    path: str
    model: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)


class Describes(Protocol):
    """What every client tells of itself and of a call."""

    @property
    def provider(self) -> str:
        """The wire format's name."""

    @property
    def host(self) -> str:
        """Host and port that answer."""

    @property
    def model(self) -> str:
        """The model asked for."""

    @property
    def truncated(self) -> Truncated:
        """What to do with an answer that the token limit cut off."""

    def request(
        self,
        messages: Sequence[Message],
        system: System | None,
        options: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Request:
        """Return what `converse`, or `stream`, would send for these arguments; needs no credentials."""


class Connects(Protocol):
    """A client that has something to do before its first call."""

    def connect(self) -> None:
        """Do it now; later calls of this do nothing."""


class Client(Describes, Protocol):
    """A model to talk to."""

    def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer.

        Args:
            messages: The turns so far.
            system: The system prompt.
            options: Parameters of the provider's request: all of them count for the key.

        Raises:
            TruncatedError: The token limit cut the answer off, and the client's `truncated` is ``raise``.
        """

    def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Iterator[Chunk]:
        """Yield the answer as it is written; the last chunk carries the whole, unless the stream was cut."""


class AsyncClient(Describes, Protocol):
    """A model to talk to, from asyncio."""

    async def converse(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> Response:
        """Return the model's answer, as `Client.converse` does."""

    def stream(
        self, messages: Sequence[Message], *, system: System | None = None, **options: Any
    ) -> AsyncIterator[Chunk]:
        """Yield the answer as it is written, as `Client.stream` does."""
