"""Switches: one name for one idea at every place that takes it, listed in one table, and none ignored."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import casstore
from casstore.config.settings import REMOTE_SETTINGS, SETTINGS
from casstore.errors import ConfigError
from casstore.inference.cache import Cache
from casstore.inference.http.controls import PREFIX, overrides_in
from casstore.inference.http.doors import DSPY, HTTP, LANGCHAIN, LITELLM, Door, http_cache
from casstore.inference.http.material import Rules
from casstore.inference.settings import CALL_SETTINGS
from casstore.repo.repository import Repository
from tests.inference.fakes import HELLO, DictStore, FakeClient
from tests.inference.http.clients import asking
from tests.inference.http.loopback import Loopback
from tests.inference.http.replies import CHAT, CHAT_PATH, canned, chat, chat_events, sse, stream

ROOT = Path(__file__).parents[3]
PLACES = ("Cache", "wrap", "using", "SDKs", "install", "memoize", "litellm", "Repository.open")
CODE = re.compile(r"`([^`]+)`")


def rows() -> Iterator[list[str]]:
    """Yield the cells of the table's rows."""
    section = (ROOT / "designs/inference.md").read_text().split("## Switches\n")[1].split("\n## ")[0]
    table = next(part for part in section.split("\n\n") if part.startswith("| switch |"))
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.split("|")[1:-1]]


def told(place: str) -> set[str]:
    """Return the switches that the table says a place takes."""
    found: set[str] = set()
    for switch, places, *_ in rows():
        if place in [each.strip("` ") for each in places.split(",")]:
            found.update(CODE.findall(switch))
    return found


def column(number: int) -> set[str]:
    """Return what stands in a column of the table."""
    return {name for row in rows() for name in CODE.findall(row[number])}


def keywords(function: Callable[..., Any], *positional: str) -> set[str]:
    """Return the names that a function takes by keyword, without those that are no switch."""
    kinds = inspect.Parameter
    return {
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        and each.name not in ("self", *positional)
    }


def adapter_keywords(name: str) -> set[str]:
    """Return what a framework's `CasstoreCache` takes besides the cache; its framework need not be there."""
    tree = ast.parse((ROOT / f"casstore/inference/adapters/{name}.py").read_text())
    made = next(
        each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and each.name == "__init__"
    )
    return {each.arg for each in (*made.args.args, *made.args.kwonlyargs)} - {"self", "cache"}


def taken() -> dict[str, set[str]]:
    """Return what each place takes, by its signature."""
    return {
        "Cache": keywords(Cache),
        "wrap": keywords(Cache.wrap, "client") | set(CALL_SETTINGS),
        "using": keywords(Cache.using) | set(CALL_SETTINGS),
        "SDKs": {each.name for each in fields(Rules)} | set(CALL_SETTINGS) | {"record_streams"},
        "install": keywords(casstore.install, "cache"),
        "memoize": keywords(Cache.memoize, "function"),
        "litellm": adapter_keywords("litellm"),
        "Repository.open": keywords(Repository.open, "path", "create", "on_event"),
    }


@pytest.mark.parametrize("place", PLACES)
def test_the_table_lists_what_each_place_takes(place: str) -> None:
    """A switch without a row, or a row without its switch, fails here."""
    assert told(place) == taken()[place]


def test_the_table_names_no_other_place() -> None:
    """A row whose place is misspelled would be read by no test."""
    named = {each.strip("` ") for _, places, *_ in rows() for each in places.split(",")}
    assert named - {""} == set(PLACES)


def test_other_ways_in_take_no_switch_of_their_own() -> None:
    """What they take besides the cache are rules, which are checked by name."""
    assert keywords(casstore.cached, "client", "cache") == set()
    assert keywords(casstore.transport, "inner", "cache") == set()
    assert keywords(casstore.installed, "cache") == keywords(casstore.install, "cache")
    assert keywords(Cache.http) == set()
    assert [adapter_keywords(each) for each in ("langchain", "dspy")] == [set(), set()]


def test_the_table_lists_headers_variables_and_settings() -> None:
    """Each header of a call, each variable of the environment and each setting of a store has its row."""
    for header in column(2):
        overrides_in({header: "normal" if header.endswith("mode") else "1"})
    assert column(2) == {PREFIX + each.replace("_", "-") for each in CALL_SETTINGS}
    source = "".join(each.read_text() for each in (ROOT / "casstore").rglob("*.py"))
    assert column(3) == set(re.findall(r'"(CASSTORE_[A-Z_]+)"', source)) - {"CASSTORE_COMPLETE"}
    remote = {name.rpartition(".")[2] for name in column(4) if "." in name}
    assert {name for name in column(4) if "." not in name} == set(SETTINGS)
    assert remote == set(REMOTE_SETTINGS)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"designs/{each}.md" for each in ("http", "inference", "adapters"))]
)
def test_pages_name_switches_that_exist(page: str) -> None:
    """What a page shows in a call is what that call takes."""
    takes = taken()
    sdks = takes["SDKs"] | {"cache"}
    places = {
        "Cache": takes["Cache"],
        "wrap": takes["wrap"],
        "using": takes["using"],
        "cached": sdks,
        "http": sdks,
        "install": sdks | takes["install"],
        "installed": sdks | takes["install"],
        "memoize": takes["memoize"],
        "CasstoreCache": takes["litellm"],
    }
    calls = re.findall(rf"\b({'|'.join(places)})\(((?:[^()]|\([^()]*\))*)\)", (ROOT / page).read_text())
    assert calls
    for place, arguments in calls:
        for name in re.findall(r"(?:^|[,(`\s])(\w+)=", re.sub(r"\([^()]*\)", "", arguments)):
            assert name in places[place], f"{place}({name}=...)"


# What `Cache` sets holds for everything made from it.


def test_streams_of_a_cache_are_recorded_for_sdks(folder: Path, loopback: Loopback) -> None:
    """The switch of the cache is enough; a client's own switch comes first."""
    loopback.reply = stream(sse(*chat_events("hi")))
    with Cache(folder, streams="record") as cache:
        cases: list[tuple[dict[str, str], int]] = [({}, 1), ({"streams": "pass"}, 3)]
        for streams, calls in cases:
            with asking("httpx", cache, **streams) as asker:
                for _ in range(2):
                    asker.pieces(loopback.url + CHAT_PATH, json={**CHAT, "stream": True})
            assert loopback.calls == calls


def test_requests_are_stored_as_the_cache_says(folder: Path, loopback: Loopback) -> None:
    """One word of the cache holds for its own clients and for SDKs; without it they differ."""
    loopback.reply = canned(chat())
    stored: dict[bool | None, list[int]] = {}
    for keep_requests in (None, True, False):
        with Cache(folder / str(keep_requests), keep_requests=keep_requests) as cache:
            cache.wrap(FakeClient()).converse(HELLO)
            with asking("httpx", cache) as asker:
                asker.post(loopback.url + CHAT_PATH, json=CHAT)
            assert isinstance(cache.repository, Repository)
            entries = sorted(cache.repository.entries(), key=lambda each: str(each.labels["kind"]))
            stored[keep_requests] = [len(each.refs) for each in entries]
    assert stored == {None: [1, 0], True: [1, 1], False: [0, 0]}


def test_a_client_that_stores_no_requests_stores_none(folder: Path, loopback: Loopback) -> None:
    """What an SDK's client is told comes before the cache's word, also where it is no."""
    loopback.reply = canned(chat())
    with Cache(folder, keep_requests=True) as cache, asking("httpx", cache, keep_requests=False) as asker:
        asker.post(loopback.url + CHAT_PATH, json=CHAT)
        assert isinstance(cache.repository, Repository)
        assert [entry.refs for entry in cache.repository.entries()] == [()]


def test_settings_of_a_call_may_be_given_to_an_sdk(cache: Cache, loopback: Loopback) -> None:
    """Namespace, sample, tag, mode and age are switches of a client as they are of `wrap`."""
    loopback.reply = canned(chat())
    url = loopback.url + CHAT_PATH
    cases: list[dict[str, Any]] = [{}, {"namespace": "a"}, {"sample": 1}, {"tag": "b"}]
    for number, settings in enumerate(cases, 1):
        for _ in range(2):
            with asking("httpx", cache, **settings) as asker:
                asker.post(url, json=CHAT)
        assert loopback.calls == number
    with asking("httpx", cache, mode="refresh") as asker, cache.using(mode="offline"):
        assert asker.post(url, json=CHAT).headers["x-casstore"] == "hit"  # the block comes first
    with asking("httpx", cache, max_age=0) as asker:
        asker.post(url, json=CHAT, headers={"x-casstore-max-age": "1000"})  # and the header before both
        assert loopback.calls == 4
        asker.post(url, json=CHAT)
        assert loopback.calls == 5


def test_a_cache_sets_sample_and_tag(folder: Path) -> None:
    """What `wrap` takes for its client, the cache takes for all."""
    client = FakeClient()
    cases: list[dict[str, Any]] = [{}, {"sample": 1}, {"tag": "x"}]
    for settings in cases:
        with Cache(folder, **settings) as cache:
            cache.wrap(client).converse(HELLO)
    assert len(client.calls) == 3


# What cannot be honoured is an error.


@pytest.mark.parametrize("door", [HTTP, LITELLM, LANGCHAIN, DSPY])
@pytest.mark.parametrize(
    ("settings", "refusing"),
    [
        ({"usage_on_hit": "zero"}, (HTTP, LITELLM, LANGCHAIN)),
        ({"usage_on_hit": "original"}, (DSPY,)),
        ({"streams": "record"}, (LANGCHAIN,)),
        ({"aliases": {"a": "b"}}, (LANGCHAIN,)),
        ({}, ()),
    ],
)
def test_a_door_refuses_what_it_cannot_honour(
    settings: dict[str, Any], refusing: tuple[Door, ...], door: Door
) -> None:
    """The message names the setting and the door, and says why."""
    cache = Cache(DictStore(), **settings)
    if door in refusing:
        with pytest.raises(ConfigError, match=f"{next(iter(settings))}.*cannot hold for {door.name}: "):
            http_cache(cache, door, {})
    else:
        http_cache(cache, door, {})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"stream": "record"}, "no such rule: stream"),
        ({"streams": True}, "streams is 'pass' or 'record', not True"),
        ({"streams": "pass", "record_streams": True}, "contradict"),
        ({"paced": True}, 'set streams="record"'),
        ({"processes": True}, "needs a store in a local folder"),
        ({"mode": "fast"}, "no such mode"),
        ({"sample": -1}, "counts from 0"),
    ],
)
def test_a_rule_that_would_be_ignored_is_an_error(rules: dict[str, Any], message: str) -> None:
    """A rule that does not exist, or that has no effect where it is given."""
    with pytest.raises(ConfigError, match=message):
        Cache(DictStore()).http(**rules)


def test_a_wrong_setting_of_a_cache_is_an_error() -> None:
    """The cache says so when it is made."""
    with pytest.raises(ConfigError, match="streams is 'pass' or 'record'"):
        Cache(DictStore(), streams="all")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stream_mode"):
        Cache(DictStore()).wrap(FakeClient(), stream_mode="record")  # type: ignore[call-overload]


# Older names.


def test_the_older_name_of_streams_works_and_warns() -> None:
    """`record_streams` means what it meant, for a cache and for an SDK, and says what to write."""
    with pytest.warns(DeprecationWarning, match="use streams='record'") as warned:
        cache = Cache(DictStore(), record_streams=True)
    assert warned[0].filename == __file__
    assert cache.http().rules.streams == "record"
    with pytest.warns(DeprecationWarning, match="use streams='pass'") as warned:
        http = cache.http(record_streams=False)
    assert (warned[0].filename, http.rules.streams) == (__file__, "pass")
    with pytest.warns(DeprecationWarning, match="use streams"):
        assert cache.record_streams
    with pytest.warns(DeprecationWarning, match="use streams"):
        cache.record_streams = False
    assert cache.streams == "pass"
