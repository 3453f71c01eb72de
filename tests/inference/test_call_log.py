"""One line a call: ``CASSTORE_LOG=hits``."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from casstore.errors import ConfigError, OfflineMissError
from casstore.inference.cache import Cache
from casstore.inference.call_log import line
from casstore.inference.http.exchange import HttpReply
from casstore.inference.http.material import Passed
from tests.inference.fakes import HELLO, FakeClient, answered
from tests.inference.http.replies import chat
from tests.inference.reading.asking import answered as through_http
from tests.inference.reading.asking import asking

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def logging(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a cache that prints a line a call; prices are known."""
    monkeypatch.setenv("CASSTORE_LOG", "hits")
    prices = {name: {"input": 1.0, "output": 2.0, "cached": 1.0} for name in ("gpt-4o", "fake-1")}
    with Cache(folder, prices=prices, memory=0) as cache:
        yield cache


def told(capsys: Captured) -> list[str]:
    """Return the lines, without what took how long."""
    text = capsys.readouterr().err
    assert text.endswith("\n") or not text
    return [each.partition(", ")[0].removesuffix(" s") for each in text.splitlines()]


def test_a_wrapped_client_tells_hits_and_misses(logging: Cache, capsys: Captured) -> None:
    """With the beginning of the key, and what was spent or saved."""
    client = logging.wrap(FakeClient())
    key = client.converse(HELLO).key
    client.converse(HELLO)
    assert key is not None
    assert told(capsys) == [
        f"casstore: miss    openai/fake-1 {key[:12]} spent $0.0001",
        f"casstore: hit     openai/fake-1 {key[:12]} saved $0.0001",
    ]


def test_http_tells_hits_and_misses(logging: Cache, capsys: Captured) -> None:
    """The same line for both layers."""
    key = through_http(logging, asking())
    through_http(logging, asking())
    assert told(capsys) == [
        f"casstore: miss    openai/gpt-4o {key[:12]} spent $0.0000",
        f"casstore: hit     openai/gpt-4o {key[:12]} saved $0.0000",
    ]


def test_what_is_not_stored_says_why(logging: Cache, capsys: Captured) -> None:
    """Over HTTP, and from a client of casstore's own."""
    key = through_http(logging, asking(), chat(stop="content_filter"))
    logging.wrap(FakeClient(answer=lambda _body, _n: answered("", stop="filtered"))).converse(HELLO)
    over_http, wrapped = told(capsys)
    assert over_http == f"casstore: miss    openai/gpt-4o {key[:12]} not stored: filtered; spent $0.0000"
    assert "not stored: filtered; spent" in wrapped


def test_what_passes_by_says_why(logging: Cache, capsys: Captured) -> None:
    """It has no key."""
    for request in (asking(stream=True), asking(headers={"x-casstore-mode": "bypass"})):
        http = logging.http()
        passed = http.open(request)
        assert isinstance(passed, Passed)
        http.count_passed(passed)
    client = logging.wrap(FakeClient())
    list(client.stream(HELLO))
    client.converse(HELLO, odd=object())
    with logging.using(mode="bypass"):
        client.converse(HELLO)
    assert [each.split(" spent")[0] for each in told(capsys) if "cannot" not in each] == [
        "casstore: passed  openai/gpt-4o ------------ stream",
        "casstore: passed  http ------------ bypass",
        "casstore: passed  openai/fake-1 ------------ stream;",
        "casstore: passed  openai/fake-1 ------------ json;",
        "casstore: passed  openai/fake-1 ------------ bypass;",
    ]


def test_what_may_not_be_asked_says_so(logging: Cache, capsys: Captured) -> None:
    """A miss in the mode offline, in either layer."""
    with logging.using(mode="offline"):
        with pytest.raises(OfflineMissError):
            logging.wrap(FakeClient()).converse(HELLO)
        key = through_http(logging, asking())
    first, second = told(capsys)
    assert first.startswith("casstore: refused openai/fake-1 ")
    assert second == f"casstore: refused openai/gpt-4o {key[:12]} absent"


def test_functions_tell_too(logging: Cache, capsys: Captured) -> None:
    """By their name."""
    function = logging.memoize(name="double")(lambda number: number * 2)
    function(1)
    function(1)
    assert [each.split()[1:3] for each in told(capsys)] == [
        ["miss", "function/double"],
        ["hit", "function/double"],
    ]


def test_without_the_variable_nothing_is_printed(folder: Path, capsys: Captured) -> None:
    """Nor is anything else."""
    with Cache(folder) as cache:
        through_http(cache, asking())
    assert told(capsys) == []


def test_a_wrong_word_is_told_where_the_cache_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a wrong mode."""
    monkeypatch.setenv("CASSTORE_LOG", "everything")
    with pytest.raises(ConfigError, match="CASSTORE_LOG=hits prints a line a call"):
        Cache(folder)


class _Closed(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stderr", [None, _Closed()])
def test_a_line_that_cannot_be_printed_is_no_trouble_of_the_call(
    logging: Cache, monkeypatch: pytest.MonkeyPatch, stderr: object
) -> None:
    """As under a service manager that closes standard error."""
    monkeypatch.setattr(sys, "stderr", stderr)
    assert logging.wrap(FakeClient()).converse(HELLO).text == "answer 1"


def test_no_model_s_name_steers_the_terminal() -> None:
    """Control characters are escapes, and a line is one line."""
    assert line("p", "m\x1b[2J\nx", {"hits": 1}, None) == "casstore: hit     p/m\\x1b[2J\\nx ------------\n"


def test_the_reply_is_the_providers_whatever_is_printed(logging: Cache) -> None:
    """The line does not touch it."""
    http = logging.http()
    opened = http.open(asking())
    assert not isinstance(opened, (HttpReply, Passed))
    reply = http.run(
        opened, lambda _: HttpReply(200, {"content-type": "application/json"}, b'{"choices": []}')
    )
    assert isinstance(reply, HttpReply)
    assert reply.body == b'{"choices": []}'
