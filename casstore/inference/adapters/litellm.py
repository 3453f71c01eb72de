"""A cache for litellm: ``litellm.cache = CasstoreCache()``.  Floor: inference.

litellm's own key leaves out the address and the extra body, hangs on the order of arguments, and is not made
for long conversations. Here the key is all arguments but a named few. Replies are litellm's, as the JSON it
writes itself; they are judged as OpenAI's are, whose form they have.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm.caching.caching import Cache as LitellmCache
from litellm.caching.caching_handler import CachingHandlerResponse

from casstore.errors import ConfigError
from casstore.inference.adapters.bases import address_of, host_of, plain, provider_in
from casstore.inference.adapters.lookups import Asked, Lookups, spelled
from casstore.inference.http.core import Opened
from casstore.inference.http.doors import LITELLM
from casstore.inference.http.judge import Verdict
from casstore.inference.request import KEY_HEADERS, VOLATILE, open_query
from casstore.inference.settings import Streams
from casstore.inference.types import Request, Response, Usage

if TYPE_CHECKING:
    from casstore.inference.cache import Cache

JSON = dict[str, Any]

CALLS: Final = ("completion", "acompletion", "text_completion", "atext_completion", "embedding", "aembedding")
"""The calls whose replies are stored. Their arguments tell them apart."""

_BOOKKEEPING: Final = frozenset(
    {
        "_context_compaction_state", "acompletion", "aembedding", "allow_client_keepalive_override",
        "allowed_fails", "async_call", "atext_completion", "attempted_targets", "cache", "cache_key",
        "caching", "client", "completion_call_id", "context_window_fallback_dict", "cooldown_time",
        "dynamic_cache_object", "fallback_depth", "fallbacks", "force_timeout", "id", "keepalive_seconds",
        "litellm_call_id", "litellm_logging_obj", "litellm_metadata",
        "litellm_params", "litellm_parent_otel_span", "litellm_request_debug", "litellm_session_id",
        "litellm_trace_id", "logger_fn", "max_budget", "max_fallbacks", "max_parallel_requests",
        "max_retries", "metadata", "model_info", "model_list", "no-log", "num_retries", "original_function",
        "parent_otel_span", "preset_cache_key", "proxy_server_request", "request_timeout", "retry_policy",
        "retry_strategy", "rpm", "secret_fields", "shared_session", "specific_deployment", "ssl_verify",
        "stream_timeout", "tags", "timeout", "tpm", "ttl", "turn_off_message_logging", "use_client",
        "use_in_pass_through", "use_xai_oauth", "user_api_key_dict", "verbose",
        "weight",
    }
)  # fmt: skip
"""Arguments that change nothing in the answer. Any other is in the key, whatever a later litellm calls it."""

_CREDENTIALS: Final = frozenset(
    {
        "api_key", "aws_access_key_id", "aws_bedrock_runtime_endpoint_key", "aws_profile_name",
        "aws_role_name", "aws_secret_access_key", "aws_session_name", "aws_session_token",
        "aws_sts_endpoint", "aws_web_identity_token", "azure_ad_token", "azure_ad_token_provider",
        "azure_password", "azure_username", "client_id", "client_secret", "organization", "tenant_id",
        "vertex_credentials",
    }
)  # fmt: skip
"""Arguments that say who asks."""

_OVERRIDES: Final[Mapping[str, str]] = {
    "s-maxage": "max_age",
    "s-max-age": "max_age",
    "namespace": "namespace",
}
"""What litellm lets a call say of the cache, and the setting that it is here."""


_LOADED_ON_A_HIT: Final = (
    "litellm.llms.anthropic.messages.native.response_cache",
    "litellm.llms.anthropic.pass_through.messages.response_cache",
)
"""What litellm loads on a hit: its names in versions since about 1.106, the newest first."""

_MOST: Final = 10_000
"""Inputs of embeddings that are remembered between two questions of litellm's."""


class CasstoreCache(LitellmCache):  # type: ignore[misc]  # Any where litellm is not installed
    """Keeps the replies of completions and embeddings that are asked for through litellm.

    A sync and an async completion share their replies; async embeddings are kept input by input, as litellm
    asks for them, and pass by with versions of it that mix up the inputs.

    Args:
        cache: Where replies are kept; by default a cache over the user's own store.
        streams: Store what streams come to, and have litellm replay it (``record``), or let them ``pass``;
            by default what the cache does.

    Raises:
        ConfigError: `streams` is neither; the cache has a setting that litellm leaves no way to honour; or
            litellm lacks a package that it needs to answer from a cache.
    """

    def __init__(self, cache: Cache | None = None, *, streams: Streams | None = None) -> None:
        _check_that_hits_work()
        super().__init__(type="local", supported_call_types=[each for each in CALLS if _is_safe(each)])
        self._lookups = Lookups(cache, "litellm", LITELLM, streams=streams)
        self._items: dict[str, tuple[Opened, str]] = {}
        self._missed: dict[str, set[str]] = {}

    def get_cache_key(self, *_: Any, **kwargs: Any) -> str:
        """Return the key of a call; empty where it has none."""
        opened = self._open(kwargs, item="input" in kwargs)
        if opened is None:
            return ""
        if "input" in kwargs:  # the next that litellm tells of this embedding is the key alone
            _make_room(self._items)
            self._items[opened.material.key] = opened, str(kwargs.get("litellm_call_id"))
        return opened.material.key

    def get_cache(self, **kwargs: Any) -> Any:
        """Return the reply that is stored, as JSON; None where there is none.

        Raises:
            OfflineMissError: The mode is offline, and there is none.
        """
        return self._found(self._open(kwargs))

    async def async_get_cache(self, **kwargs: Any) -> Any:
        """Return what `get_cache` does; given a key alone, the embedding that is stored under it."""
        if set(kwargs) <= {"cache_key", "dynamic_cache_object"}:
            return await asyncio.to_thread(self._item, str(kwargs.get("cache_key") or ""))
        return await asyncio.to_thread(self.get_cache, **kwargs)

    def add_cache(self, result: Any, *_: Any, **kwargs: Any) -> None:
        """Store a reply, if it is whole."""
        opened = self._open(kwargs, again=True) if kwargs.get("caching") is not False else None
        if opened is not None:
            self._lookups.cache.guard.attempt("store a reply", self._keep, opened, result)

    async def async_add_cache(self, result: Any, **kwargs: Any) -> None:
        """Do what `add_cache` does."""
        await asyncio.to_thread(self.add_cache, result, **kwargs)

    async def async_add_cache_pipeline(self, result: Any, **kwargs: Any) -> None:
        """Store the embeddings of a reply, each under the key of its input."""
        await asyncio.to_thread(self._add_items, result, kwargs)

    def _open(self, kwargs: Mapping[str, Any], *, item: bool = False, again: bool = False) -> Opened | None:
        if kwargs.get("stream") and self._lookups.http.rules.streams != "record":
            return None
        model = str(kwargs.get("model") or "")
        provider = provider_in(model, kwargs.get("custom_llm_provider"))
        default = {"base_url": litellm.api_base} if isinstance(litellm.api_base, str) else {}
        aliases = self._lookups.cache.aliases
        address = address_of(provider, {**default, **kwargs}, aliases)
        body = _body(kwargs) | ({"address": address} if address else {}) | ({"item": True} if item else {})
        plain = model.removeprefix(f"{provider}/")
        host = host_of(provider, address, aliases)
        request = Request(provider, host, "/litellm", plain, body)
        return self._lookups.open(Asked(request, _wire(kwargs)), _overrides(kwargs), again=again)

    def _found(self, opened: Opened | None) -> Any:
        body = None if opened is None else self._lookups.find(opened)
        return None if body is None else json.loads(body)

    def _keep(self, opened: Opened, result: Any) -> None:
        if hasattr(result, "model_dump_json"):
            result = result.model_dump_json()
        if isinstance(result, str):
            self._lookups.keep(opened, result.encode())

    def _item(self, key: str) -> Any:
        if key not in self._items:
            return None
        opened, call = self._items[key]
        found = self._found(opened)
        if found is None:
            _make_room(self._missed)
            self._missed.setdefault(call, set()).add(key)
        return found

    def _add_items(self, result: Any, kwargs: JSON) -> None:
        inputs = kwargs.get("input")
        inputs = inputs if isinstance(inputs, list) else [inputs]
        missed = self._missed.pop(str(kwargs.get("litellm_call_id")), set())
        if len(inputs) != len(result.data):  # some versions ask for what missed, and tell of all
            inputs = [one for one in inputs if self.get_cache_key(**{**kwargs, "input": one}) in missed]
        if kwargs.get("caching") is not False and len(inputs) == len(result.data):
            for index, one in enumerate(inputs):
                self._lookups.cache.guard.attempt(
                    "store an embedding", self._add_item, result, one, index, kwargs
                )

    def _add_item(self, result: Any, one: Any, index: int, kwargs: JSON) -> None:
        opened = self._open({**kwargs, "input": one}, item=True, again=True)
        if opened is None:
            return
        # litellm knows in which form it takes an embedding back; it changed between versions.
        _, told, _ = self.add_embedding_response_to_cache(result, one, dict(kwargs), index)
        usage = Usage(input=told["response"].get("prompt_tokens") or 0)
        response = Response("", "end", usage, str(result.model or ""))
        self._lookups.keep(opened, spelled(told["response"]), Verdict(None, response=response))


def _is_safe(call: str) -> bool:
    """Tell whether litellm gives right answers from a cache.

    Where some inputs of async embeddings were stored and others not, versions before it knew of this field
    asked for all, and took the first vectors for those of the inputs that missed.
    """
    return call != "aembedding" or "embedding_uncached_input" in CachingHandlerResponse.model_fields


def _make_room(remembered: dict[str, Any]) -> None:
    if len(remembered) >= _MOST:
        remembered.clear()


def _check_that_hits_work() -> None:
    """Refuse a litellm that raises on a hit of any cache: some load parts of their proxy to give one.

    Raises:
        ConfigError: Packages are missing for that.
    """
    for name in _LOADED_ON_A_HIT:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if not missing.startswith("litellm"):
                raise ConfigError(
                    f"this version of litellm needs {missing} to answer from any cache: install it, "
                    "or 'casstore[litellm]', or another version of litellm"
                ) from error
        else:
            return


def _wire(kwargs: Mapping[str, Any]) -> str:
    if "messages" in kwargs:
        return "chat"
    return "completions" if "prompt" in kwargs else "vectors"


def _overrides(kwargs: Mapping[str, Any]) -> JSON:
    told = kwargs.get("cache")
    if not isinstance(told, dict):
        return {}
    return {_OVERRIDES[name]: value for name, value in told.items() if name in _OVERRIDES}


def _body(kwargs: Mapping[str, Any]) -> JSON:
    left_out = _BOOKKEEPING | _CREDENTIALS | VOLATILE["openai"] | {"api_base", "base_url"}
    body = {
        name: plain(value) for name, value in kwargs.items() if name not in left_out and value is not None
    }
    for name in ("headers", "extra_headers"):
        found = body.pop(name, None)
        kept = {each.lower(): value for each, value in (found or {}).items() if each.lower() in KEY_HEADERS}
        body |= {"headers": kept} if kept else {}
    if isinstance(body.get("extra_query"), dict):
        body["extra_query"] = open_query(body["extra_query"])
    return body
