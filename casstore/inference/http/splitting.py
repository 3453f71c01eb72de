"""Embedding requests whose inputs are looked up one by one.  Floor: inference.

`casstore.inference.http.embeddings` takes requests and replies apart and together; here stands what is looked
up, asked and stored. One call is made for all inputs that miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from casstore.errors import FormatError
from casstore.inference.http import embeddings
from casstore.inference.http.controls import marked
from casstore.inference.http.core import ASKERS_OWN, Ask, HttpCache, Opened, Outcome
from casstore.inference.http.exchange import HttpReply
from casstore.inference.http.judge import Verdict, judge
from casstore.inference.http.material import Material
from casstore.inference.http.stored import StoredReply
from casstore.inference.tiers import Call
from casstore.inference.types import Original, Usage


def with_parts(http: HttpCache, whole: Opened) -> Opened:
    """Return an embedding request with a call for each of its inputs; as it is, where it has but one."""
    if not whole.request.path.endswith("/embeddings"):
        return whole
    parts: list[Opened] = []
    for request in embeddings.split(whole.request):
        found = http.material_of(request, whole.call.settings)
        if not isinstance(found, Material):
            return whole
        refs = (found.canonical, *found.objects) if http.rules.keep_requests else ()
        parts.append(Opened(request, found, Call(whole.call.settings, found.key, found.canonical, refs)))
    return replace(whole, parts=tuple(parts))


def look_for_parts(http: HttpCache, opened: Opened) -> Outcome | Ask:
    """Return the reply put together from the store, or what is to be asked; may block."""
    found = tuple(http.find(part) for part in opened.parts)
    # An input that is there twice is asked once.
    first = {part.material.key: index for index, part in reversed([*enumerate(opened.parts)])}
    missing = sorted(index for index in first.values() if found[index] is None)
    if missing:
        return Ask(opened, embeddings.subset(opened.request, missing).body, found)
    return http.hit(_joined(opened, [stored for stored in found if stored is not None]))


def keep_parts(http: HttpCache, ask: Ask, reply: HttpReply, seconds: float) -> Outcome:
    """Keep a reply to the missing inputs, each by itself, and return the reply to all; may block."""
    opened = ask.opened
    parts = [*zip(opened.parts, ask.found, strict=True)]
    asked = list({part.material.key: part for part, found in parts if found is None}.values())
    verdict = judge(opened.subject, reply, http.rules.keep)
    pieces: list[bytes] = []
    if verdict.reason is None:
        try:
            pieces = embeddings.parts(reply.body, [embeddings.weight(part.request) for part in asked])
        except FormatError as error:
            verdict = Verdict("form", str(error), verdict.response)
    response = http.priced(opened.subject, verdict.response, seconds)
    http.count_call(opened, response, verdict)
    if not pieces:
        own = replace(reply, headers=marked(reply.headers, "miss", opened.material.key))
        # What was asked is not what was wanted: nobody else can use such a reply unless it is an error.
        shared = verdict.reason == "status" and reply.status not in ASKERS_OWN
        return Outcome(own, own if shared else None)
    each = seconds / len(asked)
    answered = [(part, replace(reply, body=piece)) for part, piece in zip(asked, pieces, strict=True)]
    fresh = {part.material.key: _kept(http, part, answer, each) for part, answer in answered}
    whole = _joined(opened, [found or fresh[part.material.key] for part, found in parts])
    own = HttpReply(reply.status, marked(reply.headers, "miss", opened.material.key), whole.reply.body)
    return Outcome(own, http.hit(whole).shared, whole.original)


def _kept(http: HttpCache, part: Opened, reply: HttpReply, seconds: float) -> StoredReply:
    verdict = judge(part.subject, reply, http.rules.keep)
    return http.put(part, reply, http.priced(part.subject, verdict.response, seconds))


def _joined(opened: Opened, stored: Sequence[StoredReply]) -> StoredReply:
    first = stored[0]
    reply = replace(first.reply, body=embeddings.joined([each.reply.body for each in stored]))
    original = _together([each.original for each in stored])
    return StoredReply(reply, opened.material.key, first.stop, first.model, original)


def _together(originals: Sequence[Original]) -> Original:
    """Return what the first calls took, all in all."""
    names = [each.name for each in fields(Usage)]
    sums = {name: sum(getattr(each.usage, name) for each in originals) for name in names}
    costs = [each.cost for each in originals if each.cost is not None]
    cost = sum(costs) if len(costs) == len(originals) else None
    created = min(each.created for each in originals)
    return Original(Usage(**sums), cost, sum(each.seconds for each in originals), created)
