"""Keys: what two calls must share to share an answer, and what does not count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from casstore.digest import digest_of
from casstore.inference.canonical import CanonicalError
from casstore.inference.request import canonical_call, canonical_request, key_of
from casstore.inference.types import Request

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
REQUEST = Request("openai", "api.openai.com", "/v1/chat/completions", "m", BODY)


def key(request: Request = REQUEST, **more: Any) -> str:
    """Return the key of a request."""
    return key_of(canonical_request(request, **more))


def body(**more: Any) -> Request:
    """Return the request with more fields in its body."""
    return replace(REQUEST, body={**BODY, **more})


def test_key_is_the_digest_of_the_canonical_bytes() -> None:
    """So the canonical request, stored as an object, has the key as its digest."""
    assert key() == digest_of(canonical_request(REQUEST))


def test_key_material_is_stable() -> None:
    """The bytes behind a key never change within a schema version: stored answers depend on it."""
    assert canonical_request(REQUEST) == (
        b'{"body":{"messages":[{"content":"hi","role":"user"}],"model":"m","temperature":0.5},"casstore":1,'
        b'"headers":{},"host":"api.openai.com","kind":"request","model":"m","namespace":"",'
        b'"path":"/v1/chat/completions","provider":"openai","query":{},"sample":0}'
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, provider="other"),
        replace(REQUEST, host="localhost:8000"),
        replace(REQUEST, path="/v2/chat/completions"),
        replace(REQUEST, model="n"),
        replace(REQUEST, query={"api-version": "2"}),
        replace(REQUEST, headers={"OpenAI-Beta": "x"}),
        body(temperature=0.7),
        body(a_parameter_of_tomorrow=True),
        body(seed=1),
        body(stop=None),
    ],
    ids=repr,
)
def test_whatever_may_change_the_answer_changes_the_key(other: Request) -> None:
    """Provider, host, path, model, version headers, query and the whole body are in the key."""
    assert key(other) != key()


def test_namespace_and_sample_are_in_the_key() -> None:
    """Projects are kept apart, and the n-th answer is an answer of its own."""
    keys = [key(), key(namespace="a"), key(namespace="b"), key(sample=1), key(sample=2)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, headers={"Authorization": "Bearer sk-1", "User-Agent": "x", "X-Stainless-OS": "y"}),
        replace(REQUEST, headers={"traceparent": "00-1", "idempotency-key": "1", "openai-organization": "o"}),
        replace(REQUEST, query={"api_key": "sk-1", "sig": "s"}),
        body(user="alice"),
        body(metadata={"run": 7}, store=True, prompt_cache_key="k", safety_identifier="s"),
        body(temperature=0.50),
    ],
    ids=repr,
)
def test_what_does_not_change_the_answer_is_not_in_the_key(other: Request) -> None:
    """Credentials, tracing, and the fields named volatile do not count."""
    assert key(other) == key()


def test_volatile_fields_are_volatile_for_their_provider_alone() -> None:
    """A field called metadata may mean anything to a provider that is not in the list."""
    plain, tagged = replace(REQUEST, provider="mine"), replace(body(metadata={"a": 1}), provider="mine")
    assert key(plain) != key(tagged)


def test_volatile_names_inside_the_body_count() -> None:
    """Only top-level fields are volatile: a tool's parameter called user is part of the question."""
    assert key(body(tools=[{"user": "a"}])) != key(body(tools=[{"user": "b"}]))


def test_hosts_declared_equal_share_keys() -> None:
    """An alias makes a proxy's answers those of the host behind it."""
    proxy = replace(REQUEST, host="proxy.local")
    assert key(proxy) != key()
    assert key(proxy, aliases={"proxy.local": "api.openai.com"}) == key()


def test_order_of_fields_tuples_and_integral_floats_do_not_count() -> None:
    """What is one JSON value has one key."""
    turned: Mapping[str, Any] = dict(reversed({**BODY, "messages": tuple(BODY["messages"])}.items()))
    assert key(replace(REQUEST, body=turned)) == key()
    assert key(body(temperature=1)) == key(body(temperature=1.0))


@pytest.mark.parametrize("value", [float("nan"), 1j, b"bytes", {1: "int key"}, "\ud800"], ids=repr)
def test_a_request_that_is_no_json_has_no_key(value: object) -> None:
    """It is refused, so it can never share a key with another."""
    with pytest.raises(CanonicalError):
        key(body(extra=value))


def test_calls_of_functions_never_meet_requests() -> None:
    """Function, version and arguments are in the key, and a kind that no request has."""
    keys = [
        canonical_call("f", "", {"x": 1}),
        canonical_call("f", "2", {"x": 1}),
        canonical_call("g", "", {"x": 1}),
        canonical_call("f", "", {"x": 2}),
        canonical_call("f", "", {"y": 1}),
        canonical_request(REQUEST),
    ]
    assert len(set(keys)) == len(keys)
