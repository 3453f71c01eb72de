"""Ways in to a cache, over HTTP and from frameworks: what each takes from it, and what it cannot honour.

A setting of the cache holds for each of them; one that would be ignored is an error. The table is in
`designs/inference.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from casstore.errors import ConfigError
from casstore.inference.http.core import HttpCache
from casstore.inference.http.material import Rules, rules_of
from casstore.inference.reasons import keep_of
from casstore.inference.recorded import UsageOnHit
from casstore.inference.settings import CALL_SETTINGS, Streams, checked, streams_of

if TYPE_CHECKING:
    from casstore.inference.cache import Cache


@dataclass(frozen=True, slots=True)
class Door:
    """A way in to a cache, and which settings of the cache it cannot honour, each with the reason.

    Attributes:
        name: As messages call it.
        streams: Why no stream can be recorded; empty where streams can.
        aliases: Why hosts cannot be taken for each other; empty where they can.
        zero_usage: Why a hit cannot tell that it used nothing; empty where it can.
        original_usage: Why a hit cannot tell the usage of the first call; empty where it can.
    """

    name: str
    streams: str = ""
    aliases: str = ""
    zero_usage: str = ""
    original_usage: str = ""

    def check(self, streams: Streams, aliases: Mapping[str, str], usage_on_hit: UsageOnHit | None) -> None:
        """Refuse settings that would be ignored.

        Args:
            streams: What becomes of streams.
            aliases: The cache's aliases of hosts.
            usage_on_hit: What the program set; None where it set nothing.

        Raises:
            ConfigError: This way in cannot honour a setting.
        """
        self._refuse("streams='record'", self.streams if streams == "record" else "")
        self._refuse("aliases", self.aliases if aliases else "")
        usage = {"zero": self.zero_usage, "original": self.original_usage, None: ""}
        self._refuse(f"usage_on_hit={usage_on_hit!r}", usage[usage_on_hit])

    def _refuse(self, setting: str, why: str) -> None:
        if why:
            raise ConfigError(
                f"Cache({setting}) cannot hold for {self.name}: {why}; give {self.name} a Cache without it"
            )


_AS_IT_CAME: Final = "a stored reply comes back as it came, with the usage of the first call"

HTTP: Final = Door("the clients of SDKs", zero_usage=_AS_IT_CAME)
LITELLM: Final = Door("litellm", zero_usage=_AS_IT_CAME)
DSPY: Final = Door("DSPy", original_usage="DSPy itself tells no usage on a hit")
LANGCHAIN: Final = Door(
    "LangChain's cache",
    streams="LangChain does not ask its cache for streams (cached(model) records them)",
    aliases="LangChain does not tell its cache the host",
    zero_usage=_AS_IT_CAME,
)
ANY: Final = Door("any client")
"""For a question that concerns no way in."""


def http_cache(cache: Cache, door: Door, given: Mapping[str, Any]) -> HttpCache:
    """Return a cache for requests that come through a door.

    Args:
        cache: Where replies are kept; what it sets holds, unless `given` says otherwise.
        door: The way in.
        given: Fields of `Rules`, and settings of a call.

    Raises:
        ConfigError: A rule is unknown or wrong, or the door cannot honour a setting of the cache.
    """
    settings = checked(**{name: given[name] for name in CALL_SETTINGS if name in given})
    others = {name: value for name, value in given.items() if name not in CALL_SETTINGS}
    streams = streams_of(others.pop("streams", None), others.pop("record_streams", None)) or cache.streams
    door.check(streams, cache.aliases, cache.told_usage_on_hit)
    others["keep"] = cache.keep | keep_of(others.get("keep", ()))
    others["endpoints"] = {**cache.endpoints, **others.get("endpoints", {})}
    inherited = {"streams": streams, "keep_requests": cache.keep_requests is not False}
    rules = rules_of({**inherited, **others})
    _check_processes(cache, rules)
    return HttpCache(cache, rules, settings)


def _check_processes(cache: Cache, rules: Rules) -> None:
    store = cache.repository
    if rules.processes and store is not None and not isinstance(getattr(store, "path", None), Path):
        raise ConfigError("processes=True needs a store in a local folder, where processes can lock files")
