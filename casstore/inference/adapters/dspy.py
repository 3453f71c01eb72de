"""A cache for DSPy: ``dspy.cache = CasstoreCache()``.  Floor: inference.

DSPy's own key leaves out the address, and its disk holds pickles. Here the address is in the key, and what is
stored is JSON, read back only as the few classes named here. What has another form is not stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from casstore.errors import FormatError, malformed
from casstore.inference.adapters.bases import address_of, host_of, plain, provider_in
from casstore.inference.adapters.endpoint import count
from casstore.inference.adapters.lookups import Asked, Lookups, spelled
from casstore.inference.http.core import Opened
from casstore.inference.http.doors import DSPY
from casstore.inference.http.endings import stop_of, worst
from casstore.inference.http.exchange import HttpReply
from casstore.inference.http.judge import Verdict, judge, verdict_of
from casstore.inference.http.replies import Reading
from casstore.inference.request import VOLATILE
from casstore.inference.types import Request, Response, Usage

if TYPE_CHECKING:
    from casstore.inference.cache import Cache

JSON = dict[str, Any]

_WIRES: Final[Mapping[str, str]] = {
    "ModelResponse": "chat",
    "TextCompletionResponse": "completions",
    "EmbeddingResponse": "vectors",
    "ResponsesAPIResponse": "responses",
}
"""The classes of litellm that are stored, and the form of each."""

_LEFT_OUT: Final = frozenset({"api_key", "api_base", "base_url", "num_retries", "timeout", "caching"})


class CasstoreCache:
    """Takes the place of ``dspy.cache``.

    Sync and async calls share their answers. Calls that are made with a request of DSPy's own type pass by,
    as nothing tells where they go.

    Args:
        cache: Where answers are kept; by default a cache over the user's own store.

    Raises:
        ConfigError: The cache has a setting that DSPy leaves no way to honour.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self._lookups = Lookups(cache, "dspy", DSPY)

    def cache_key(
        self, request: Mapping[str, Any], ignored_args_for_cache_key: Sequence[str] | None = None
    ) -> str:
        """Return the key of a call; empty where it has none."""
        opened = self._open(request, ignored_args_for_cache_key)
        return "" if opened is None else opened.material.key

    def get(self, request: Mapping[str, Any], ignored_args_for_cache_key: Sequence[str] | None = None) -> Any:
        """Return the answer that is stored; None where there is none.

        Raises:
            OfflineMissError: The mode is offline, and there is none.
        """
        opened = self._open(request, ignored_args_for_cache_key)
        body = None if opened is None else self._lookups.find(opened)
        return None if body is None else self._lookups.cache.guard.attempt("read an answer", loaded, body)

    def put(
        self,
        request: Mapping[str, Any],
        value: Any,
        ignored_args_for_cache_key: Sequence[str] | None = None,
        *_: Any,
        **__: Any,
    ) -> None:
        """Store an answer, if it is whole."""
        opened = self._open(request, ignored_args_for_cache_key, again=True)
        if opened is not None:
            self._lookups.cache.guard.attempt("store an answer", self._keep, opened, value)

    def reset_memory_cache(self) -> None:
        """Do nothing: memory holds only what the store does."""

    def _open(
        self, request: Mapping[str, Any], ignored: Sequence[str] | None, *, again: bool = False
    ) -> Opened | None:
        left_out = (_LEFT_OUT | VOLATILE["openai"] | set(ignored or ())) - {"prompt_cache_key"}
        arguments = {name: plain(value) for name, value in request.items() if name not in left_out}
        model = str(request.get("model") or request.get("positional_arg_0") or "")
        function = str(arguments.pop("_fn_identifier", "")).replace(".alitellm_", ".litellm_")
        provider = provider_in(model, request.get("custom_llm_provider"))
        if isinstance(request.get("request"), Mapping):
            asked = Request("dspy", "", "/dspy", str(request["request"].get("model", "")), {})
            why = "a request of DSPy's own type does not tell where it goes"
            self._lookups.passed(asked, why, again=again)
            return None
        aliases = self._lookups.cache.aliases
        address = address_of(provider, request, aliases)
        body = {"function": function, "arguments": arguments, "address": address, **_limits(arguments)}
        plain_model = model.removeprefix(f"{provider}/")
        host = host_of(provider, address, aliases)
        asked = Request(provider, host, "/dspy", plain_model, body)
        return self._lookups.open(Asked(asked), again=again)

    def _keep(self, opened: Opened, value: Any) -> None:
        kind = type(value).__name__
        told = value
        if kind in _WIRES and type(value).__module__.startswith("litellm."):
            told = json.loads(value.model_dump_json())
            verdict = self._judged(opened, kind, told)
        else:
            kind = "json"
            verdict = _verdict(value, self._lookups)
        self._lookups.keep(opened, spelled({"type": kind, "value": told}), verdict)

    def _judged(self, opened: Opened, kind: str, told: JSON) -> Verdict:
        asked = Asked(opened.subject.request, _WIRES[kind])
        reply = HttpReply(200, {"content-type": "application/json"}, json.dumps(told).encode())
        return judge(asked.subject, reply, self._lookups.cache.keep)


def _limits(arguments: JSON) -> JSON:
    """Return the token limits of a call where the policy looks for them."""
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    return {name: arguments[name] for name in names if arguments.get(name) is not None}


def loaded(body: bytes) -> Any:
    """Return the answer stored as `body`, marked as a hit and without usage, as DSPy does.

    Raises:
        FormatError: It is none, or of a class that is not known here.
    """
    try:
        told = json.loads(body)
        kind, value = told["type"], told["value"]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"no stored answer: {malformed(error)}") from error
    if kind == "json":
        return value
    if kind not in _WIRES:
        raise FormatError(f"an answer of the class {str(kind)[:40]!r}")
    from litellm import types

    home = types.llms.openai if kind == "ResponsesAPIResponse" else types.utils
    answer = getattr(home, kind)(**value)
    answer.usage = {}
    object.__setattr__(answer, "cache_hit", True)
    return answer


def _verdict(value: Any, lookups: Lookups) -> Verdict:
    """Return whether what is plain JSON is stored: a record of DSPy's, or what one of its functions gave."""
    responses = value.get("responses") if isinstance(value, dict) and "_dspy_format" in value else None
    if not responses:
        empty = value in (None, "", [], {})
        return Verdict("empty" if empty else None, response=Response("", "end"))
    stops = [stop_of(each.get("finish_reason")) for each in responses]
    texts = [
        str(output.get("text") or "") if isinstance(output, dict) else str(output)
        for output in value["outputs"]
    ]
    usage = value.get("usage") or responses[0].get("usage")
    told = Usage(
        count(usage, "input_tokens") or count(usage, "prompt_tokens"),
        count(usage, "output_tokens") or count(usage, "completion_tokens"),
    )
    response = Response("".join(texts), worst(stops), told, str(value.get("response_model") or ""))
    return verdict_of(Reading(response), lookups.http.rules.keep)
