"""Memoized functions: JSON in, JSON out, kept; everything else passes through."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from casstore.errors import ConfigError, OfflineMissError
from casstore.inference.cache import Cache


def counted(cache: Cache, **given: Any) -> tuple[Any, list[Any]]:
    """Return a memoized function that notes its arguments, and the notes."""
    calls: list[Any] = []

    @cache.memoize(name="count", **given)
    def function(x: Any, y: Any = 1, *rest: Any, z: Any = None, **more: Any) -> Any:
        calls.append((x, y, rest, z, more))
        return {"x": x, "n": len(calls)}

    return function, calls


def test_a_result_is_kept(folder: Path) -> None:
    """The second call, and another process' call, do not run the function."""
    for expected in (1, 0):
        with Cache(folder) as cache:
            function, calls = counted(cache)
            assert [function(1), function(1)] == [{"x": 1, "n": 1}] * 2
            assert len(calls) == expected


def test_arguments_are_bound_before_they_are_compared(cache: Cache) -> None:
    """By name or by position, default or spelled out: one call; anything else is another."""
    function, calls = counted(cache)
    same = [
        function(1),
        function(x=1),
        function(1, 1),
        function(y=1, x=1),
        function(1, z=None),
        function(1.0),
    ]
    assert same == [{"x": 1, "n": 1}] * 6
    for other in (function(2), function(1, 2), function(1, 1, 3), function(1, z=0), function(1, w=1)):
        assert other["n"] > 1
    assert len(calls) == 6


def test_version_and_name_are_in_the_key(cache: Cache) -> None:
    """A new version starts anew; the default name is the function's own."""
    function, _ = counted(cache)
    function(1)
    newer, calls = counted(cache, version="2")
    newer(1)
    assert len(calls) == 1

    @cache.memoize
    def plain(x: int) -> int:
        return x + 1

    assert [plain(1), plain(1)] == [2, 2]
    assert plain.__name__ == "plain"
    name = f"{__name__}.test_version_and_name_are_in_the_key.<locals>.plain"
    assert cache.stats_by_model()["function", name].hits == 1


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "é\ud800", [1, [2]], {"a": {"b": None}}, 10**40], ids=repr
)
@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_results_come_back_as_they_were(folder: Path, value: object, memory: int) -> None:
    """What JSON holds comes back equal and of the same type."""
    with Cache(folder, memory=memory) as cache:
        function = cache.memoize(name="constant")(lambda: value)
        results = [function(), function()]
        assert cache.stats().hits == 1
    assert results == [value, value]
    assert [type(result) for result in results] == [type(value)] * 2


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {1}, b"x", float("nan"), [1j], [(1,)]], ids=repr)
def test_a_result_that_json_would_change_is_not_kept(
    cache: Cache, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller always gets what the function returned, and one line says why it runs each time."""
    calls = []

    @cache.memoize
    def function() -> object:
        calls.append(1)
        return value

    assert all(function() is value for _ in range(3))
    assert len(calls) == 3
    assert len(caplog.records) == 1


@pytest.mark.parametrize("argument", [1j, {1: 2}, {1, 2}, b"x", float("nan")], ids=repr)
def test_an_argument_that_is_no_json_passes_through(
    cache: Cache, argument: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The function runs, nothing is kept, one line says so."""
    function, calls = counted(cache)
    for _ in range(3):
        function(argument)
    assert len(calls) == 3
    assert len(caplog.records) == 1


def test_results_are_nobodys_to_change(cache: Cache) -> None:
    """Who changes a result changes it for themselves."""
    function, _ = counted(cache)
    for _ in range(3):
        result = function(1)
        assert result == {"x": 1, "n": 1}
        result["x"] = "changed"


def test_an_exception_is_not_kept(cache: Cache) -> None:
    """It is raised, and the next call runs."""
    calls = []

    @cache.memoize
    def function() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError(str(len(calls)))
        return "fine"

    for text in "12":
        with pytest.raises(ValueError, match=text):
            function()
    assert function() == function() == "fine"
    assert len(calls) == 3


def test_wrong_arguments_are_the_functions_to_refuse(cache: Cache) -> None:
    """A missing argument is a TypeError, as without the cache."""
    function, _ = counted(cache)
    with pytest.raises(TypeError, match="x"):
        function()


def test_modes_hold_for_functions(folder: Path) -> None:
    """Refresh runs and replaces, bypass runs, offline refuses what is not kept."""
    with Cache(folder) as cache:
        function, calls = counted(cache)
        function(1)
        with cache.using(mode="refresh"):
            assert function(1)["n"] == 2
        assert function(1)["n"] == 2
        with cache.using(mode="bypass"):
            assert function(1)["n"] == 3
        with cache.using(sample=1):
            assert function(1)["n"] == 4
        with cache.using(mode="offline"):
            assert function(1)["n"] == 2
            with pytest.raises(OfflineMissError):
                function(2)
            with pytest.raises(OfflineMissError):
                function(object())
    assert len(calls) == 4


def test_coroutine_functions(cache: Cache) -> None:
    """A coroutine function stays one, and concurrent identical calls run it once."""
    calls = []

    @cache.memoize(version="1")
    async def function(x: int) -> list[int]:
        calls.append(x)
        await asyncio.sleep(0)
        return [x]

    async def main() -> list[list[int]]:
        results = await asyncio.gather(*(function(1) for _ in range(100)))
        results[0].append(0)
        return [*results[1:], await function(1)]

    assert asyncio.iscoroutinefunction(function)
    assert asyncio.run(main()) == [[1]] * 100
    assert calls == [1]


def test_concurrent_threads_run_a_function_once(cache: Cache) -> None:
    """Those who come while it runs get its result, each a copy of their own."""
    begun, go, calls = threading.Event(), threading.Event(), []

    @cache.memoize
    def function() -> list[int]:
        calls.append(1)
        begun.set()
        assert go.wait(30)
        return [1]

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(function) for _ in range(8)]
        assert begun.wait(30)
        go.set()
    results = [future.result() for future in futures]
    assert results == [[1]] * 8
    assert len({id(result) for result in results}) == 8
    assert len(calls) == 1


def test_a_result_that_is_no_json_is_not_shared_either(cache: Cache) -> None:
    """Concurrent callers of a function whose result cannot be kept each run it."""
    calls = []

    @cache.memoize
    async def function() -> tuple[int, ...]:
        calls.append(1)
        await asyncio.sleep(0)
        return (1,)

    async def main() -> list[tuple[int, ...]]:
        return await asyncio.gather(*(function() for _ in range(3)))

    assert asyncio.run(main()) == [(1,)] * 3
    assert len(calls) == 3


def test_methods_and_functions_of_one_name_in_two_places_differ(cache: Cache) -> None:
    """The qualified name keeps two functions called alike apart."""

    def first() -> Any:
        @cache.memoize
        def function() -> int:
            return 1

        return function

    def second() -> Any:
        @cache.memoize
        def function() -> int:
            return 2

        return function

    assert (first()(), second()()) == (1, 2)


SCRIPT = """
import sys
from casstore.inference.cache import Cache

with Cache(sys.argv[1]) as cache:
    @cache.memoize()
    def tags(title):
        print("ran", end=" ")
        return [title, "{0}"]
    print(tags("x")[1])
"""


def test_functions_of_two_scripts_never_share_a_result(folder: Path) -> None:
    """Both are `__main__.tags`; their sources tell them apart, and the same source is the same function."""
    folder.mkdir(exist_ok=True)
    for name, expected in (("a", "ran a"), ("b", "ran b"), ("a", "a")):
        script = folder / f"{name}.py"
        script.write_text(SCRIPT.replace("{0}", name))
        told = subprocess.run(
            [sys.executable, script, folder / "store"], capture_output=True, text=True, check=True
        )
        assert told.stdout.strip() == expected


def test_a_function_without_a_source_needs_a_name(cache: Cache) -> None:
    """As one typed at a prompt: nothing tells it from others."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("def tags(title): return title", scope)
    with pytest.raises(ConfigError, match="give memoize a name"):
        cache.memoize()(scope["tags"])
    assert cache.memoize(name="tags")(scope["tags"])("x") == "x"
