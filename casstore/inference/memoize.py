"""Functions whose results are kept: `Cache.memoize`.  Floor: inference.

The key is the function's name and version and its bound arguments, as canonical JSON; the result is JSON too.
What is no JSON, argument or result, passes through and is not kept. Knows no provider.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from casstore.digest import digest_of
from casstore.errors import ConfigError, FormatError, OfflineMissError
from casstore.inference.canonical import CanonicalError
from casstore.inference.ledger import FUNCTION
from casstore.inference.policy import Mode
from casstore.inference.recorded import FORMAT, settings_labels, to_json
from casstore.inference.request import canonical_call, key_of
from casstore.inference.tiers import Call

if TYPE_CHECKING:
    from casstore.catalog.records import Entry
    from casstore.inference.cache import Cache

P = ParamSpec("P")
T = TypeVar("T")

_HEAD = to_json({"casstore": FORMAT, "kind": "call"}) + b"\n"


@dataclass(frozen=True, slots=True)
class Returned(Generic[T]):
    """What a call of a memoized function came to.

    Attributes:
        content: The result as JSON; empty where it is no JSON.
        value: The result itself, if the function ran.
        ran: The function ran.
    """

    content: bytes
    value: T | None = None
    ran: bool = False


class Memo:
    """What happens to one call of a memoized function, without a word on threads or event loops.

    Args:
        cache: Where results are kept.
        function: The function.
        name: Its name in keys.
        version: To be changed when the function's meaning does.

    Raises:
        ConfigError: The function has no name of its own, and none was given.
    """

    def __init__(self, cache: Cache, function: Callable[..., Any], name: str | None, version: str) -> None:
        self._cache = cache
        self._signature = inspect.signature(function)
        self.name = name or _name_of(function)
        self._version = version

    def open(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call | None:
        """Return the call for these arguments; None where the function is simply to be called.

        Raises:
            OfflineMissError: The mode is offline, and these arguments have no key.
        """
        settings = self._cache.settings({})
        if settings.mode is Mode.BYPASS:
            return None
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return None  # the function itself says it best
        bound.apply_defaults()
        try:
            canonical = canonical_call(
                self.name,
                self._version,
                bound.arguments,
                namespace=settings.namespace,
                sample=settings.sample,
                tag=settings.tag,
            )
        except CanonicalError as error:
            if settings.mode is Mode.OFFLINE:
                raise OfflineMissError(
                    f"offline, and the arguments of {self.name} have no key: {error}"
                ) from error
            self._cache.guard.warn(self.name, "calls of %s are not cached (%s)", self.name, error)
            return None
        return Call(settings, key_of(canonical), canonical)

    def at_hand(self, call: Call) -> bytes | None:
        """Return the result if memory has it, or the store without waiting."""
        found = self._cache.tiers.at_hand(call, _decode)
        return found if isinstance(found, bytes) else None

    def find(self, call: Call) -> bytes | None:
        """Return the result from memory or the store; may block.

        Raises:
            OfflineMissError: The mode is offline and nothing is stored.
        """
        found = self._cache.tiers.find(call, _decode)
        if isinstance(found, bytes):
            return found
        if call.settings.mode is Mode.OFFLINE:
            self._cache.tell(FUNCTION, self.name, {"refused_absent": 1}, call.key)
            raise OfflineMissError(f"offline, and no result of {self.name} is stored for key {call.key}")
        return None

    def keep(self, call: Call, value: object, seconds: float) -> bytes:
        """Keep a result, and return it as JSON; empty if it is no JSON. May block."""
        why = "" if is_plain(value) else "unstored_json"
        counts = {"calls": 1, "seconds_spent": seconds}
        self._cache.count(FUNCTION, self.name, counts, key=call.key, why=why)
        if why:
            self._cache.guard.warn(
                self.name, "results of %s are not cached, as they are no plain JSON", self.name
            )
            return b""
        content = to_json(value)
        labels = {"kind": "call", "provider": FUNCTION, "model": self.name, "seconds": round(seconds, 6)}
        labels |= settings_labels(call.settings)
        self._cache.tiers.keep(call, content, _HEAD + content, labels)
        return content

    def give(self, call: Call, content: bytes) -> Any:
        """Return a kept result, parsed anew for each caller, and count it."""
        self._cache.count(FUNCTION, self.name, {"hits": 1}, key=call.key)
        return json.loads(content)


def memoized(function: Callable[P, T], cache: Cache, memo: Memo) -> Callable[P, T]:
    """Return `function` with its results kept."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        call = memo.open(args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        content = memo.at_hand(call)
        if content is None:

            def obtain() -> Returned[T]:
                found = memo.find(call)
                if found is not None:
                    return Returned(found)
                started = time.perf_counter()
                value = function(*args, **kwargs)
                return Returned(memo.keep(call, value, time.perf_counter() - started), value, ran=True)

            returned, own = cache.function_flights.run(call.flight, obtain)
            if own and returned.ran:
                return returned.value  # type: ignore[return-value]  # T itself may be None; `ran` says it is T
            content = returned.content
        # Callers never share one changeable object: a result that is no JSON is computed again for each.
        result: T = memo.give(call, content) if content else function(*args, **kwargs)
        return result

    return wrapper


def is_plain(value: object) -> bool:
    """Return whether `value` is JSON that comes back from JSON as the same value, of the same types."""
    if value is None or type(value) in (bool, int):
        return True
    if type(value) is str:
        return True
    if type(value) is float:
        return isfinite(value)
    try:
        if type(value) is list:
            return all(map(is_plain, value))
        if type(value) is dict:
            return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    except RecursionError:
        pass
    return False


def _name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function in keys where the program gives none.

    Every script is the module ``__main__``, so a function of one goes by its source as well: two scripts that
    share a store must not take each other's results.
    """
    if function.__module__ != "__main__":
        return f"{function.__module__}.{function.__qualname__}"
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError) as error:
        raise ConfigError(
            f"{function.__qualname__} is in no module and no file: give memoize a name for it"
        ) from error
    return f"{function.__qualname__}.{digest_of(source.encode())}"


def _decode(entry: Entry, content: bytes) -> bytes:
    if not content.startswith(_HEAD):
        raise FormatError(f"what is stored for key {entry.key} is no result of a function")
    return content[len(_HEAD) :]
