"""What the caches that a framework asks and then tells have in common.  Floor: inference.

LangChain, litellm and DSPy look a request up, ask the provider themselves, and hand over what came back. What
is stored so is stored as a reply over HTTP is: same policy, ledger and form, under a key of its own kind. An
adapter brings a request and a reply as JSON. This module knows no SDK.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from casstore.digest import Key
from casstore.errors import FormatError, OfflineMissError
from casstore.inference.canonical import CanonicalError, canonical
from casstore.inference.http.core import HttpCache, Opened, Outcome
from casstore.inference.http.doors import Door, http_cache
from casstore.inference.http.endpoints import Endpoint
from casstore.inference.http.exchange import HttpReply, HttpRequest
from casstore.inference.http.holes import without_parts
from casstore.inference.http.judge import Verdict, judge
from casstore.inference.http.material import KIND, Material, Subject
from casstore.inference.http.state import leans_on
from casstore.inference.http.survey import survey
from casstore.inference.policy import Mode
from casstore.inference.recorded import to_json
from casstore.inference.request import SCHEMA, key_of
from casstore.inference.tiers import Call
from casstore.inference.types import Request

if TYPE_CHECKING:
    from casstore.inference.cache import Cache

_JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}
_MOST: Final = 10_000
"""Lookups of which it is remembered when they were made."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a framework asks.

    Attributes:
        request: Who is asked, and for what; its body is all that may change the answer.
        wire: The form of the reply, a name that `casstore.inference.http.replies` reads; or ``any``.
    """

    request: Request
    wire: str = "any"

    @property
    def subject(self) -> Subject:
        """The same, as replies over HTTP are judged by."""
        return Subject(Endpoint(self.wire), self.request, streams=False)


class Lookups:
    """The replies of one framework.

    Args:
        cache: Where they are kept; by default a cache over the user's own store.
        sdk: The framework's name; it is in the keys, as each keeps replies in a form of its own.
        door: What the framework cannot honour.
        rules: What the program set besides the cache.

    Raises:
        ConfigError: The cache has a setting that the framework cannot honour, or a rule is wrong.
    """

    def __init__(self, cache: Cache | None, sdk: str, door: Door, **rules: Any) -> None:
        from casstore.inference.http.sdks import default_cache

        self.cache = default_cache() if cache is None else cache
        self.sdk = sdk
        self.http: HttpCache = http_cache(self.cache, door, rules)
        self._started: dict[Key, float] = {}

    def open(
        self, asked: Asked, overrides: Mapping[str, Any] | None = None, *, again: bool = False
    ) -> Opened | None:
        """Return the call, with its key; None where it passes by the cache.

        Args:
            asked: What is asked.
            overrides: Settings of this call that differ from the cache's.
            again: The call was looked up before, and counted if it passed by then.

        Raises:
            OfflineMissError: The mode is offline, and what is asked has no key.
        """
        settings = self.http.settings(overrides or {})
        if settings.mode is Mode.BYPASS:
            return None
        try:
            to_json(asked.request.body)  # it may be no JSON, or hold itself: a walk would not end
            seen = survey(asked.request.body)
            keep = self.http.rules.keep
            leaning = leans_on(_said(asked.request.body), seen, asked.request.model, keep=keep)
            if leaning is not None:
                self.passed(asked.request, f"it leans on {leaning.what}", reason=leaning.reason, again=again)
                return None
            body, holes = without_parts(asked.request.body, seen)
            value = {
                "casstore": SCHEMA,
                "kind": KIND,
                "sdk": self.sdk,
                "provider": asked.request.provider,
                "host": asked.request.host,
                "path": asked.request.path,
                "body": body,
                "namespace": settings.namespace,
                "sample": settings.sample,
            }
            value |= {"holes": holes.listed()} if holes.found else {}
            value |= {"tag": settings.tag} if settings.tag else {}
            material = canonical(value)
        except (CanonicalError, FormatError) as error:
            self.passed(asked.request, f"it is no JSON: {error}", again=again)
            return None
        made = Material(key_of(material), material, asked.subject, tuple(holes.objects))
        refs = (material, *made.objects) if self.http.rules.keep_requests else ()
        described = HttpRequest("POST", asked.request.host, asked.request.path)
        return Opened(described, made, Call(settings, made.key, material, refs))

    def passed(self, request: Request, why: str, *, reason: str = "json", again: bool = False) -> None:
        """Count a call that passes by, and tell of one that has no key.

        Raises:
            OfflineMissError: The mode is offline.
        """
        if self.http.settings({}).mode is Mode.OFFLINE:
            raise OfflineMissError(f"casstore is offline, and a call of {self.sdk} is not stored: {why}")
        if reason == "json":
            self.cache.guard.warn(self.sdk, "a call of %s is not cached: %s", self.sdk, why)
        if not again:
            self.cache.count(request.provider, request.model, {f"uncached_{reason}": 1})

    def find(self, opened: Opened) -> bytes | None:
        """Return the reply that is stored, counted as a hit; None where there is none; may block.

        Raises:
            OfflineMissError: The mode is offline, and there is none.
        """
        stored = self.http.find(opened)
        key = opened.material.key
        if stored is None:
            if opened.call.settings.mode is Mode.OFFLINE:
                model = opened.subject.request.model
                raise OfflineMissError(f"casstore is offline, and no reply of {model} is stored (key {key})")
            if len(self._started) < _MOST:
                self._started[key] = time.perf_counter()
            return None
        self.http.count_hit(opened, Outcome(stored.reply, stored.reply, stored.original))
        return stored.reply.body

    def keep(self, opened: Opened, body: bytes, verdict: Verdict | None = None) -> None:
        """Keep a reply if it is to be stored, and count the call; may block.

        Args:
            opened: The call.
            body: The reply, as JSON.
            verdict: Whether it is to be stored; by default as for a reply over HTTP.
        """
        self.http.guard.attempt("keep a reply", self._keep, opened, body, verdict)

    def _keep(self, opened: Opened, body: bytes, verdict: Verdict | None) -> None:
        reply = HttpReply(200, _JSON, body)
        if verdict is None:
            verdict = judge(opened.subject, reply, self.http.rules.keep)
        now = time.perf_counter()
        seconds = now - self._started.pop(opened.material.key, now)
        self.http.store(opened, reply, verdict, seconds)

    def clear(self) -> None:
        """Forget what this framework stored in the namespace: here, and for all with the next push."""
        self.cache.guard.attempt("clear", self._clear)

    def _clear(self) -> None:
        entries = getattr(self.cache.repository, "entries", None)
        namespace = self.http.settings({}).namespace
        for entry in list(entries()) if entries is not None else ():
            labels = entry.labels
            if labels.get("path", "").startswith(f"/{self.sdk}") and labels.get("namespace", "") == namespace:
                self.cache.forget(entry.key)


def _said(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a call, those that a framework puts into others included."""
    more = (body.get(name) for name in ("arguments", "extra_body"))
    found = {name: value for each in more if isinstance(each, dict) for name, value in each.items()}
    return {**body, **found, **(found.get("extra_body") or {})}


def spelled(value: object) -> bytes:
    """Return `value` as JSON that gives it back as it is.

    Raises:
        FormatError: It is no JSON, or JSON would change it.
    """
    content = to_json(value)
    if json.loads(content) != value:
        raise FormatError("a reply that JSON would change")
    return content
