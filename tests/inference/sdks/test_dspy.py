"""DSPy's cache, with the server's address in the key, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casstore import Cache
from casstore.errors import FormatError, OfflineMissError
from tests.credentials import SECRET
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.http.replies import chat
from tests.inference.sdks.loading import QUIET, sdk

dspy = sdk("dspy")

from casstore.dspy import CasstoreCache  # noqa: E402 — only where it is installed
from casstore.inference.adapters.dspy import loaded  # noqa: E402

pytestmark = QUIET


@pytest.fixture(autouse=True)
def _kept(cache: Cache, loopback: Loopback) -> Iterator[None]:
    """Have DSPy keep its answers in the cache; leave it as it was."""
    before = dspy.cache
    dspy.cache = CasstoreCache(cache)
    loopback.reply = Canned(
        body=json.dumps(chat("[[ ## answer ## ]]\nblue\n\n[[ ## completed ## ]]")).encode()
    )
    yield
    dspy.cache = before


def model(loopback: Loopback, path: str = "/v1", **more: Any) -> Any:
    """Return a model that the loopback server answers for."""
    given = {"api_base": loopback.url + path, "api_key": SECRET, "num_retries": 0, **more}
    return dspy.LM("openai/gpt-4o", **given)


def test_a_program_runs_again_without_a_call(loopback: Loopback, cache: Cache) -> None:
    """A second run of a predictor, and an async one, are hits with the same answer."""
    with dspy.context(lm=model(loopback)):
        predict = dspy.Predict("question -> answer")
        assert [predict(question="why").answer for _ in range(2)] == ["blue"] * 2
    assert loopback.calls == 1
    assert (cache.stats().calls, cache.stats().hits) == (1, 1)


def test_a_host_may_be_taken_for_another(folder: Path, loopback: Loopback) -> None:
    """Two names of one server share answers, where the cache is told so."""
    other = loopback.url.replace("127.0.0.1", "localhost")
    with Cache(folder, aliases={"127.0.0.1:*": "server", "localhost:*": "server"}) as cache:
        dspy.cache = CasstoreCache(cache)
        model(loopback)("why")
        model(loopback, api_base=f"{other}/v1")("why")
        assert loopback.calls == 1


def test_sync_and_async_calls_share_answers(loopback: Loopback) -> None:
    """What one stored, the other gets."""
    lm = model(loopback)
    assert lm("why") == asyncio.run(lm.acall("why"))
    assert loopback.calls == 1


def test_the_address_is_in_the_key(loopback: Loopback) -> None:
    """Two servers that serve one model name do not share answers."""
    model(loopback)("why")
    model(loopback, "/other/v1")("why")
    model(loopback, temperature=0.7)("why")
    assert loopback.calls == 3


def test_what_leans_on_the_provider_passes(loopback: Loopback, cache: Cache) -> None:
    """A search may find something else tomorrow; each call is counted once."""
    for _ in range(2):
        model(loopback, extra_body={"web_search_options": {}})("why")
    assert loopback.calls == 2
    assert cache.reasons() == {"uncached_search": 2}


def test_answers_that_a_limit_cut_are_stored(loopback: Loopback) -> None:
    """With the limit in the request or without one: asked again, they would be cut again."""
    loopback.reply = Canned(body=json.dumps(chat("par", "length")).encode())
    for lm, calls in ((model(loopback, max_tokens=None), 1), (model(loopback, max_tokens=5), 2)):
        lm("why")
        lm("why")
        assert loopback.calls == calls


def test_offline_a_miss_is_an_error(loopback: Loopback, cache: Cache) -> None:
    """Offline nothing is asked."""
    with cache.using(mode="offline"), pytest.raises(OfflineMissError):
        model(loopback)("why")
    assert loopback.calls == 0


def test_calls_that_do_not_tell_where_they_go_pass(cache: Cache) -> None:
    """A request of DSPy's own type is not stored: it names no server."""
    kept = CasstoreCache(cache)
    request = {"_fn_identifier": "dspy.clients.lm15.complete", "request": {"model": "openai/gpt-4o"}}
    kept.put(request, {"answer": 1}, ["api_key"])
    assert kept.get(request, ["api_key"]) is None
    assert kept.cache_key(request) == ""


def test_what_json_would_change_is_not_stored(cache: Cache) -> None:
    """A tuple would come back as a list, so it is not kept; plain results of DSPy's functions are."""
    kept = CasstoreCache(cache)
    kept.put({"_fn_identifier": "f", "url": "a"}, (1, 2))
    kept.put({"_fn_identifier": "f", "url": "b"}, [[0.1, 0.2]])
    assert kept.get({"_fn_identifier": "f", "url": "a"}) is None
    assert kept.get({"_fn_identifier": "f", "url": "b"}) == [[0.1, 0.2]]


@pytest.mark.parametrize("body", [b"x", b"[]", b'{"type": "Popen", "value": {}}'])
def test_only_known_classes_are_read(body: bytes) -> None:
    """Nothing stored chooses what is made of it."""
    with pytest.raises(FormatError):
        loaded(body)
