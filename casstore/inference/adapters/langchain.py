"""A cache for LangChain's `set_llm_cache`.  Floor: inference.

LangChain hands over a prompt and a description of the model, both as text, and gets generations back. They
are stored as JSON, and read back only as the few classes named here: nothing stored chooses what is made.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core import messages, outputs
from langchain_core.caches import BaseCache

from casstore.digest import digest_of
from casstore.errors import FormatError, malformed
from casstore.inference.adapters.endpoint import count
from casstore.inference.adapters.lookups import Asked, Lookups, spelled
from casstore.inference.http.core import Opened
from casstore.inference.http.doors import LANGCHAIN
from casstore.inference.http.endings import stop_of, worst
from casstore.inference.http.judge import Verdict, verdict_of
from casstore.inference.http.replies import Reading
from casstore.inference.http.state import Leaning, field_in, remote_in
from casstore.inference.types import Request, Response, Usage

if TYPE_CHECKING:
    from casstore.inference.cache import Cache

JSON = dict[str, Any]

_GENERATIONS: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for kind in (
        outputs.Generation,
        outputs.GenerationChunk,
        outputs.ChatGeneration,
        outputs.ChatGenerationChunk,
    )
}
_MESSAGES: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for kind in (
        messages.AIMessage,
        messages.AIMessageChunk,
        messages.ChatMessage,
        messages.ChatMessageChunk,
        messages.HumanMessage,
        messages.SystemMessage,
        messages.ToolMessage,
    )
}
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
"""How Python prints an object that says nothing of what is in it."""

_KIND: Final = re.compile(r"""['"]type['"]: ['"]([^'"]+)['"]""")
"""A tool's type, in the description of a model that has tools."""

_STOPS: Final = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_MODELS: Final = ("model_name", "model", "model_id")


class CasstoreCache(BaseCache):
    """Keeps the answers of LangChain's models: ``set_llm_cache(CasstoreCache())``.

    The key is all that LangChain tells: the prompt, and the model with its settings. It leaves out some of
    what a model takes from the environment, and the region of Bedrock: keep those apart with a namespace.
    Streams pass by it, as by each of LangChain's caches.

    Args:
        cache: Where answers are kept; by default a cache over the user's own store.

    Raises:
        ConfigError: The cache records streams or has aliases, which LangChain leaves no way to honour.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self._lookups = Lookups(cache, "langchain", LANGCHAIN)

    def lookup(self, prompt: str, llm_string: str) -> Any:
        """Return the generations stored for a prompt; None where there are none.

        Raises:
            OfflineMissError: The mode is offline, and there are none.
        """
        opened = self._open(prompt, llm_string)
        body = None if opened is None else self._lookups.find(opened)
        return None if body is None else self._lookups.cache.guard.attempt("read an answer", loaded, body)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Any]) -> None:
        """Store the generations for a prompt, if they are whole."""
        opened = self._open(prompt, llm_string, again=True)
        if opened is not None:
            self._lookups.cache.guard.attempt("store an answer", self._keep, opened, return_val)

    def clear(self, **_: Any) -> None:
        """Forget the answers that were stored so in this namespace: here, and for all with the next push."""
        self._lookups.clear()

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        """Return what `lookup` does."""
        return await asyncio.to_thread(self.lookup, prompt, llm_string)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Any]) -> None:
        """Do what `update` does."""
        await asyncio.to_thread(self.update, prompt, llm_string, return_val)

    async def aclear(self, **_: Any) -> None:
        """Do what `clear` does."""
        await asyncio.to_thread(self.clear)

    def _open(self, prompt: str, llm_string: str, *, again: bool = False) -> Opened | None:
        # The description may hold credentials (default headers, say): only its digest is kept.
        body = {"prompt": prompt, "llm": digest_of(llm_string.encode("utf-8", "surrogatepass"))}
        request = Request("langchain", "", "/langchain", _model_in(llm_string), body)
        if _ADDRESS.search(llm_string):
            why = "its settings hold an object that LangChain cannot describe"
            self._lookups.passed(request, why, again=again)
            return None
        leaning = _leaning(llm_string, self._lookups.http.rules.keep)
        if leaning is not None:
            why = f"it leans on {leaning.what}"
            self._lookups.passed(request, why, reason=leaning.reason, again=again)
            return None
        return self._lookups.open(Asked(request), again=again)

    def _keep(self, opened: Opened, generations: Sequence[Any]) -> None:
        body = spelled({"generations": [_told(each) for each in generations]})
        self._lookups.keep(opened, body, _verdict(generations, self._lookups))


def _leaning(llm_string: str, keep: Collection[str]) -> Leaning | None:
    """Return which part of a description leans on what the provider holds or does; None where none does."""
    tools = (each for kind in _KIND.findall(llm_string) for each in remote_in({"type": kind}))
    return field_in(llm_string, keep) or next((each for each in tools if each.reason not in keep), None)


def _model_in(llm_string: str) -> str:
    """Return the model that a description names; empty where it cannot be told."""
    try:
        described = json.loads(llm_string.partition("---")[0])
    except ValueError:
        found = re.search(r"'(?:model_name|model|model_id)', '([^']+)'", llm_string)
        return found[1] if found else ""
    settings = described.get("kwargs") if isinstance(described, dict) else None
    names = [settings.get(name) for name in _MODELS] if isinstance(settings, dict) else []
    return next((name for name in names if isinstance(name, str)), "")


def _told(generation: Any) -> JSON:
    """Return a generation as JSON.

    Raises:
        FormatError: It is of a class that is not known here.
    """
    kind = type(generation).__name__
    told: JSON = {"type": kind, "text": generation.text, "info": generation.generation_info}
    if _GENERATIONS.get(kind) is not type(generation):
        raise FormatError(f"a generation of the class {kind!r}")
    message = getattr(generation, "message", None)
    if message is None:
        return told
    if _MESSAGES.get(type(message).__name__) is not type(message):
        raise FormatError(f"a message of the class {type(message).__name__!r}")
    return told | {"message": {"type": type(message).__name__, "data": message.model_dump()}}


def loaded(body: bytes) -> list[Any]:
    """Return the generations stored as `body`.

    Raises:
        FormatError: It is none, or of a class that is not known here.
    """
    try:
        return [_loaded(each) for each in json.loads(body)["generations"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"no stored generations: {malformed(error)}") from error


def _loaded(told: JSON) -> Any:
    fields: JSON = {"text": told["text"], "generation_info": told["info"]}
    if "message" in told:
        message = told["message"]
        del fields["text"]  # a chat generation has its message's
        fields["message"] = _MESSAGES[message["type"]].model_validate(message["data"])
    return _GENERATIONS[told["type"]](**fields)


def _verdict(generations: Sequence[Any], lookups: Lookups) -> Verdict:
    read = [_read(each) for each in generations]
    if not read:
        return Verdict("empty", "there is no answer")
    first = read[0]
    stop = worst([each.stop_reason for each in read])
    response = Response(first.text, stop, first.usage, first.model)
    content = any(
        not isinstance(getattr(each, "message", each).__dict__.get("content", ""), str)
        for each in generations
    )
    return verdict_of(Reading(response, content), lookups.http.rules.keep)


def _read(generation: Any) -> Response:
    message = getattr(generation, "message", None)
    told: JSON = {**(generation.generation_info or {}), **getattr(message, "response_metadata", {})}
    word = next((told[name] for name in _STOPS if told.get(name)), None)
    stop = "end" if word is None else stop_of(word)  # a model that tells of no ending raised no error either
    if stop == "end" and getattr(message, "tool_calls", None):
        stop = "tool_use"
    model = next((str(told[name]) for name in _MODELS if told.get(name)), "")
    return Response(generation.text, stop, _usage(getattr(message, "usage_metadata", None)), model)


def _usage(told: object) -> Usage:
    if not isinstance(told, Mapping):
        return Usage()
    return Usage(
        input=count(told, "input_tokens"),
        output=count(told, "output_tokens"),
        cached=count(told.get("input_token_details"), "cache_read"),
        reasoning=count(told.get("output_token_details"), "reasoning"),
    )
