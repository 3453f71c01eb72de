"""One exchange from beginning to end, whatever HTTP library brings it.  Floor: inference.

`HttpCache` holds the steps: open, look, keep. `HttpCache.run` strings them together for threads,
`casstore.inference.http.asynchronous` for event loops, and the transports for streams. What decides stands in
the pure modules; this one knows the cache, and no HTTP library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from casstore.digest import Key
from casstore.errors import ConfigError
from casstore.inference.guard import Guard
from casstore.inference.http.controls import (
    BAD_REQUEST,
    GATEWAY_TIMEOUT,
    STATE_HEADER,
    marked,
    overrides_in,
    refusal,
)
from casstore.inference.http.endpoints import Endpoint, endpoint_at
from casstore.inference.http.exchange import HttpReply, HttpRequest
from casstore.inference.http.material import Material, Passed, Rules, Subject, material
from casstore.inference.http.stored import (
    Pace,
    StoredReply,
    decode,
    encode,
    kept_headers,
    labels_for,
)
from casstore.inference.ledger import counts_of_call, counts_of_hit
from casstore.inference.pickling import check_pickles
from casstore.inference.policy import Mode, Settings, effective
from casstore.inference.tiers import Call
from casstore.inference.types import Original, Response
from casstore.values import quick_value

if TYPE_CHECKING:
    from casstore.inference.cache import Cache
    from casstore.inference.flight import Errors
    from casstore.inference.http.judge import Verdict
    from casstore.inference.http.turns import Turn, Turns


@quick_value(frozen=True, slots=True)
class Opened:
    """A request that has a key.

    Attributes:
        request: The request, without the cache's own headers.
        material: What its key is made of.
        call: The same, for the tiers.
        parts: Of an embedding request that is split, the calls for its inputs.
    """

    request: HttpRequest
    material: Material
    call: Call
    parts: tuple[Opened, ...] = ()

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return self.material.subject


@quick_value(frozen=True, slots=True)
class Ask:
    """What is to be asked of the provider.

    Attributes:
        opened: For what.
        body: The body to send; None for the request's own.
        found: Of a split request, what is stored for each input, or None.
    """

    opened: Opened
    body: bytes | None = None
    found: tuple[StoredReply | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """A reply that is given on as it came, since it cannot be stored.

    Attributes:
        native: The HTTP library's reply.
    """

    native: object


@quick_value(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    Attributes:
        own: What its maker gets.
        shared: What those get who waited for it; None where each has to ask.
        original: What a hit saves; None where nothing was stored or shared.
    """

    own: HttpReply | Opaque
    shared: HttpReply | None = None
    original: Original | None = None


Send = Callable[[Ask], HttpReply | Opaque]

_NO_OVERRIDES: Final[Mapping[str, Any]] = {}

ASKERS_OWN: Final = frozenset({401, 402, 403, 404, 407})
"""Statuses that may be due to who asks: the same request with another key may be answered otherwise."""


class HttpCache:
    """The cache of replies over HTTP; made by `Cache.http`.

    Args:
        cache: Where replies are kept.
        rules: What the program set.
        overrides: Settings of calls that differ from the cache's.

    Attributes:
        guard: What makes faults of this layer harmless; those of the store have the cache's own.
    """

    def __init__(self, cache: Cache, rules: Rules, overrides: Mapping[str, Any] = _NO_OVERRIDES) -> None:
        self.cache = cache
        self.rules = rules
        self._overrides = overrides
        self.guard = Guard()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the cache and the rules.

        Raises:
            pickle.PicklingError: A rule cannot be pickled, as a lambda cannot; the message names the rule.
        """
        check_pickles("http", {rule.name: getattr(self.rules, rule.name) for rule in fields(self.rules)})
        return type(self), (self.cache, self.rules, self._overrides)

    # The steps.

    def knows(self, request: HttpRequest) -> Endpoint | None:
        """Return the endpoint a request is for, without a look at its body; None where that is not needed."""
        return endpoint_at(request.path, self.rules.endpoints) if request.method == "POST" else None

    def open(self, request: HttpRequest) -> Opened | Passed | HttpReply:
        """Return what will be asked, and its key; or why it passes by the cache; or the cache's refusal.

        Args:
            request: The request, with the cache's own headers, if the program set any.
        """
        try:
            settings = self.settings(overrides_in(request.headers))
        except ConfigError as error:
            return refusal(BAD_REQUEST, f"casstore: {error}")
        if settings.mode is Mode.BYPASS:
            return Passed("bypass", "the mode is bypass")
        found = self.material_of(request, settings)
        if isinstance(found, Material):
            return self._opened(request, found, settings)
        return self.refuse(request, found) if settings.mode is Mode.OFFLINE else found

    def settings(self, overrides: Mapping[str, Any]) -> Settings:
        """Return what holds for a call now: first the environment, then its headers, a block, the client."""
        settings = self.cache.settings(self._overrides)
        return effective(replace(settings, **overrides)) if overrides else settings

    def material_of(self, request: HttpRequest, settings: Settings) -> Material | Passed:
        """Return what the key of a request is made of, or why it has none."""
        return material(request, self.rules, settings, self.cache.aliases)

    def _opened(self, request: HttpRequest, found: Material, settings: Settings) -> Opened:
        refs = (found.canonical, *found.objects) if self.rules.keep_requests else ()
        call = Call(settings, found.key, found.canonical, refs)
        opened = Opened(request, found, call)
        if not self.rules.split_embeddings or found.subject.endpoint.wire != "vectors":
            return opened
        from casstore.inference.http.splitting import with_parts

        return with_parts(self, opened)

    def at_hand(self, opened: Opened) -> StoredReply | None:
        """Return the reply if memory has it, or the store without waiting."""
        found = self.cache.tiers.at_hand(opened.call, decode)
        return found if isinstance(found, StoredReply) else None

    def look(self, opened: Opened) -> Outcome | Ask:
        """Return the reply from memory or the store, or what is to be asked; may block."""
        if opened.parts:
            from casstore.inference.http.splitting import look_for_parts

            return look_for_parts(self, opened)
        found = self.find(opened)
        return Ask(opened) if found is None else self.hit(found)

    def find(self, opened: Opened) -> StoredReply | None:
        """Return what memory or the store has; may block."""
        found = self.cache.tiers.find(opened.call, decode)
        return found if isinstance(found, StoredReply) else None

    def hit(self, stored: StoredReply) -> Outcome:
        """Return a stored reply as it is given."""
        reply = stored.as_hit()
        return Outcome(reply, reply, stored.original)

    def keep(self, ask: Ask, reply: HttpReply, seconds: float) -> Outcome:
        """Judge a reply, keep it if it is to be stored, and count it; may block.

        Args:
            ask: What was asked.
            reply: The provider's reply, decoded.
            seconds: How long it took.
        """
        if ask.found:
            from casstore.inference.http.splitting import keep_parts

            return keep_parts(self, ask, reply, seconds)
        from casstore.inference.http.judge import judge

        opened = ask.opened
        verdict = judge(opened.subject, reply, self.rules.keep)
        stored = self.store(opened, reply, verdict, seconds)
        own = HttpReply(reply.status, marked(reply.headers, "miss", opened.material.key), reply.body)
        if stored is None:
            return Outcome(own, None if reply.status in ASKERS_OWN else own)
        return Outcome(own, self.hit(stored).shared, stored.original)

    def store(
        self, opened: Opened, reply: HttpReply, verdict: Verdict, seconds: float, pace: Pace = ()
    ) -> StoredReply | None:
        """Store a reply that was judged, and count the call; return what was stored; may block."""
        response = self.priced(opened.subject, verdict.response, seconds)
        self.count_call(opened, response, verdict)
        return None if verdict.reason is not None else self.put(opened, reply, response, pace)

    def put(self, opened: Opened, reply: HttpReply, response: Response, pace: Pace = ()) -> StoredReply:
        """Store a reply that is to be stored; may block."""
        created = time.time_ns() // 1_000_000
        original = Original(response.usage, response.cost, response.seconds, created)
        stored = StoredReply(
            HttpReply(reply.status, kept_headers(reply.headers), reply.body),
            opened.material.key,
            response.stop_reason,
            response.model,
            original,
            pace,
        )
        labels = labels_for(opened.subject, opened.call.settings, response)
        self.cache.tiers.keep(opened.call, stored, encode(reply, response, pace), labels)
        return stored

    # Counting.

    def priced(self, subject: Subject, response: Response, seconds: float) -> Response:
        """Return what a reply says, with what the call took and cost."""
        response = replace(response, seconds=seconds)
        return replace(response, cost=self.cache.cost(subject.request, response))

    def count_call(self, opened: Opened, response: Response, verdict: Verdict) -> None:
        """Count a call of the provider, and why its reply is not stored where it is not."""
        counts = {} if verdict.reason == "status" else counts_of_call(response)
        if verdict.reason is not None:
            counts[f"unstored_{verdict.reason}"] = 1
        self._count(opened.subject, counts, opened.material.key)

    def count_passed(self, passed: Passed, verdict: Verdict | None = None, seconds: float = 0.0) -> None:
        """Count a request that passed by the cache, with the reason.

        Args:
            passed: What passed.
            verdict: What its reply said; None where that was not followed.
            seconds: How long it took.
        """
        counts = {f"uncached_{passed.reason}": 1.0}
        if passed.reason == "bypass":
            self.cache.tell("http", "", counts)
            return
        if passed.subject is None:
            self.cache.count("http", "", counts)
            return
        if verdict is not None and verdict.reason != "status":
            response = self.priced(passed.subject, verdict.response, seconds)
            counts |= counts_of_call(response, keyed=False)
        self._count(passed.subject, counts)

    def count_hit(self, opened: Opened, outcome: Outcome) -> None:
        """Count a reply that was given without a call."""
        if outcome.original is not None:
            self._count_hit(opened, outcome.original)

    def _count_hit(self, opened: Opened, original: Original) -> None:
        self._count(opened.subject, counts_of_hit(original), opened.material.key)

    def _count(self, subject: Subject, counts: Mapping[str, float], key: Key | None = None) -> None:
        self.cache.count(subject.request.provider, subject.request.model, counts, key=key)

    # What cannot be asked.

    def refused(self, ask: Ask) -> HttpReply | None:
        """Return the reply to what may not be asked; None where it may."""
        if ask.opened.call.settings.mode is not Mode.OFFLINE:
            return None
        return self.refuse(ask.opened.request, ask.opened)

    def refuse(self, request: HttpRequest, found: Opened | Passed) -> HttpReply:
        """Return the reply to a request that is not stored and may not be asked."""
        what = f"{request.method} {request.host}{request.path}"
        if isinstance(found, Passed):
            self.cache.tell("http", "", {f"refused_{found.reason}": 1})
            message = f"casstore is offline, and {what} is never stored: {found.detail}"
            return refusal(GATEWAY_TIMEOUT, message)
        key, asked = found.material.key, found.subject.request
        self.cache.tell(asked.provider, asked.model, {"refused_absent": 1}, key)
        message = f"casstore is offline, and no reply is stored for {what} (key {key})"
        return refusal(GATEWAY_TIMEOUT, message, key)

    # One exchange.

    def begin(self, opened: Opened) -> HttpReply | None:
        """Return the reply, counted, if memory has it, or the store without waiting."""
        found = None if opened.parts else self.at_hand(opened)
        if found is None:
            return None
        self._count_hit(opened, found.original)
        return found.as_hit()

    def replayed(self, opened: Opened) -> StoredReply | HttpReply | None:
        """Return a stored stream, counted; the refusal where it may not be asked for; None on a miss.

        It may block. Streams do not wait for identical ones: a program that reads two at once would stop.
        """
        found = self.find(opened)
        return self.refused(Ask(opened)) if found is None else self._replay(opened, found)

    def replayed_at_hand(self, opened: Opened) -> StoredReply | None:
        """Return a stored stream, counted, if memory has it, or the store without waiting."""
        found = self.at_hand(opened)
        return None if found is None else self._replay(opened, found)

    def _replay(self, opened: Opened, found: StoredReply) -> StoredReply:
        self._count_hit(opened, found.original)
        return replace(found, reply=found.as_hit())

    def run(self, opened: Opened, send: Send, errors: Errors = Exception) -> HttpReply | Opaque:
        """Return the reply to a request that is no stream, stored or new.

        Args:
            opened: What is asked.
            send: Asks the provider.
            errors: What the caller's library raises; it would not know those of another one.

        Raises:
            Exception: What `send` raises, here or, if it is one of `errors`, in an identical call under way.
        """
        held = self.begin(opened)
        return self.obtain(opened, send, errors) if held is None else held

    def obtain(self, opened: Opened, send: Send, errors: Errors = Exception) -> HttpReply | Opaque:
        """Return what `run` does, once `begin` gave nothing."""

        def lead() -> Outcome:
            with self._turn(opened):
                found = self.look(opened)
                return found if isinstance(found, Outcome) else self._ask(found, send)

        outcome, own = self.cache.http_flights.run(opened.call.flight, lead, errors)
        if not own and outcome.shared is None:
            outcome, own = lead(), True
        return self.given(opened, outcome, own=own)

    def _ask(self, ask: Ask, send: Send) -> Outcome:
        refused = self.refused(ask)
        if refused is not None:
            return Outcome(refused, refused)
        started = time.perf_counter()
        sent = send(ask)
        seconds = time.perf_counter() - started
        if isinstance(sent, Opaque):
            return self.opaque(ask, sent)
        kept = self.guard.attempt("keep a reply", self.keep, ask, sent, seconds)
        if kept is None and ask.body is not None:  # the reply is to a part of what was wanted
            return self._ask(Ask(ask.opened), send)
        return kept or Outcome(sent)

    def opaque(self, ask: Ask, sent: Opaque) -> Outcome:
        """Count a reply that is given on as it came."""
        self.count_passed(Passed("opaque", "the reply is in a form that is not stored", ask.opened.subject))
        return Outcome(sent)

    def given(self, opened: Opened, outcome: Outcome, *, own: bool) -> HttpReply | Opaque:
        """Return what a caller gets, and count it if it is a hit."""
        reply = outcome.own if own or outcome.shared is None else outcome.shared
        if isinstance(reply, HttpReply) and reply.headers.get(STATE_HEADER) == "hit":
            self.count_hit(opened, outcome)
        return reply

    @contextmanager
    def _turn(self, opened: Opened) -> Iterator[None]:
        turns = self.turns(opened)
        turn: Turn | None = None
        if turns is not None:
            turn = self.cache.guard.attempt("wait for its turn", turns.take, opened.material.key)
        try:
            yield
        finally:
            if turn is not None:
                self.cache.guard.attempt("end a turn", turn.end)

    def turns(self, opened: Opened) -> Turns | None:
        """Return the turns of processes; None where processes do not wait for each other."""
        folder = getattr(self.cache.repository, "path", None)
        offline = opened.call.settings.mode is Mode.OFFLINE
        if not self.rules.processes or offline or not isinstance(folder, Path):
            return None
        from casstore.inference.http.turns import Turns

        return Turns(folder)
