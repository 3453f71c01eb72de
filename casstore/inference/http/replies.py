"""What a reply says: how it ended, what it used, whether it holds anything; pure.  Floor: inference.

The forms that casstore's own clients speak are read by their adapters; the others here. A reply that cannot
be read is a `FormatError`, and so is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from casstore.errors import FormatError, malformed
from casstore.inference.adapters import anthropic, openai
from casstore.inference.adapters.endpoint import count
from casstore.inference.http.endings import UNFINISHED, UNKNOWN, stop_of, worst
from casstore.inference.types import Response, Usage

JSON = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """A reply, read.

    Attributes:
        response: How it ended, what it used, who answered; its text is the first candidate's.
        content: It holds something besides text and tool calls: an image, vectors, a score.
        links: It holds links to content that the provider deletes.
    """

    response: Response
    content: bool = False
    links: bool = False


def read(wire: str, body: JSON) -> Reading:
    """Return what a reply's JSON says.

    Raises:
        FormatError: It is no reply of this form.
    """
    try:
        return READERS[wire](body)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"no reply of the form {wire!r}: {malformed(error)}") from error


def ended(response: Response) -> Response:
    """Return `response`, whose body is whole, with a stop that is known, `UNKNOWN` or `UNFINISHED`."""
    stop = stop_of(response.stop_reason) or "end"
    return response if stop == response.stop_reason else replace(response, stop_reason=stop, reply=b"")


def _chat(body: JSON) -> Reading:
    choices = [_with_reason(choice) for choice in body["choices"]]
    response = ended(openai.parse({**body, "choices": choices}))
    messages = [choice.get("message") or {} for choice in choices]
    words = worst([stop_of(choice["finish_reason"]) for choice in choices]) if choices else "end"
    if words in (UNFINISHED, UNKNOWN):
        response = replace(response, stop_reason=words, reply=b"")
    return Reading(response, any(map(_has_more, messages)))


def _with_reason(choice: JSON) -> JSON:
    if choice.get("finish_reason"):
        return choice
    details = choice.get("finish_details") or {}  # as early models with vision told it
    return {**choice, "finish_reason": details.get("type") or choice.get("stop_reason")}  # Bedrock's Mistral


def _has_more(message: JSON) -> bool:
    content, audio = message.get("content"), message.get("audio")
    sounds = isinstance(audio, dict) and any(audio.values())  # Snowflake sends one that is empty
    return bool(sounds or message.get("images") or (isinstance(content, list) and content))


def _completions(body: JSON) -> Reading:
    choices = body["choices"]
    stops = [stop_of(choice.get("finish_reason") or choice.get("stop_reason")) for choice in choices]
    usage = openai.parse({"choices": [], "usage": body.get("usage")}).usage
    texts = [str(choice.get("text") or "") for choice in choices]
    response = Response(texts[0], worst(stops), usage, str(body.get("model", "")))
    return Reading(response, any(text.strip() for text in texts))


def _messages(body: JSON) -> Reading:
    blocks = body["content"]
    return Reading(ended(anthropic.parse(body)), any(block.get("type") not in _SAYINGS for block in blocks))


_SAYINGS: Final = ("text", "thinking", "redacted_thinking")


def read_responses(body: JSON) -> Reading:
    """Return what a reply of OpenAI's responses says."""
    output = body["output"]
    parts = [part for item in output if item.get("type") == "message" for part in item.get("content") or ()]
    calls = any(_is_programs_call(item) for item in output)
    response = Response(
        text="".join(str(part.get("text", "")) for part in parts),
        stop_reason=_response_stop(body, calls=calls, refused=any("refusal" in part for part in parts)),
        usage=_responses_usage(body.get("usage")),
        model=str(body.get("model", "")),
        list_price=body.get("service_tier") in (None, "auto", "default"),
    )
    return Reading(response, any(item.get("type") not in ("message", "reasoning") for item in output))


def _is_programs_call(item: JSON) -> bool:
    """Tell whether an item is a call of a tool that the program runs."""
    kind = item.get("type")
    return kind in _PROGRAMS_CALLS or (kind == "tool_search_call" and item.get("execution") == "client")


_PROGRAMS_CALLS: Final = (
    "apply_patch_call",
    "computer_call",
    "custom_tool_call",
    "function_call",
    "local_shell_call",
    "shell_call",
)


def _response_stop(body: JSON, *, calls: bool, refused: bool) -> str:
    reason = (body.get("incomplete_details") or {}).get("reason")
    if body.get("status") == "incomplete":
        return {"max_output_tokens": "length", "content_filter": "filtered"}.get(str(reason), UNFINISHED)
    stop = stop_of(body.get("status")) or "end"  # a compaction has no status
    if stop != "end":
        return stop
    if refused:
        return "refused"
    return "tool_use" if calls else "end"


def _responses_usage(usage: object) -> Usage:
    if not isinstance(usage, Mapping):
        return Usage()
    return Usage(
        input=count(usage, "input_tokens"),
        output=count(usage, "output_tokens"),
        cached=count(usage.get("input_tokens_details"), "cached_tokens"),
        reasoning=count(usage.get("output_tokens_details"), "reasoning_tokens"),
    )


def read_gemini(body: JSON) -> Reading:
    """Return what a reply of Gemini's generateContent says; of a stream, what one event does."""
    candidates = body.get("candidates") or []
    parts = [part for each in candidates for part in (each.get("content") or {}).get("parts") or ()]
    stops = [stop_of(each.get("finishReason")) for each in candidates]
    if (body.get("promptFeedback") or {}).get("blockReason"):
        stops = ["filtered"]
    stop = worst(stops, blank=UNFINISHED)
    if stop == "end" and any("functionCall" in part for part in parts):
        stop = "tool_use"
    response = Response(
        text="".join(str(part.get("text", "")) for part in parts if not part.get("thought")),
        stop_reason=stop,
        usage=_gemini_usage(body.get("usageMetadata")),
        model=str(body.get("modelVersion", "")),
        list_price=(body.get("usageMetadata") or {}).get("serviceTier") in (None, "standard"),
    )
    return Reading(response, any("inlineData" in part or "functionCall" in part for part in parts))


def _gemini_usage(usage: object) -> Usage:
    thoughts = count(usage, "thoughtsTokenCount")
    return Usage(
        input=count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount"),
        output=count(usage, "candidatesTokenCount") + thoughts,
        cached=count(usage, "cachedContentTokenCount"),
        reasoning=thoughts,
    )


def _converse(body: JSON) -> Reading:
    from casstore.inference.adapters import bedrock  # it imports asyncio

    blocks = body["output"]["message"]["content"]
    return Reading(ended(bedrock.parse(body)), any("image" in block for block in blocks))


def read_cohere(body: JSON) -> Reading:
    """Return what a reply of Cohere's chat says."""
    message = body.get("message") or {}
    blocks = message.get("content") or ()
    stop = stop_of(body.get("finish_reason")) or "end"
    response = Response(
        text="".join(str(block.get("text", "")) for block in blocks),
        stop_reason="tool_use" if stop == "end" and message.get("tool_calls") else stop,
        usage=cohere_usage(body.get("usage")),
    )
    return Reading(response)


def cohere_usage(usage: object) -> Usage:
    """Return Cohere's usage; what is billed may be less than what is read."""
    tokens = usage.get("tokens") if isinstance(usage, Mapping) else None
    return Usage(
        count(tokens, "input_tokens"), count(tokens, "output_tokens"), cached=count(usage, "cached_tokens")
    )


def read_cohere_v1(body: JSON) -> Reading:
    """Return what a reply of Cohere's first chat says; of a stream, what its last event does."""
    stop = stop_of(body.get("finish_reason")) or "end"
    calls = body.get("tool_calls")
    meta = body.get("meta") or {}
    tokens = meta.get("tokens") or meta.get("billed_units")
    response = Response(
        text=str(body["text"] or ""),
        stop_reason="tool_use" if stop == "end" and calls else stop,
        usage=Usage(
            count(tokens, "input_tokens"), count(tokens, "output_tokens"), count(meta, "cached_tokens")
        ),
    )
    return Reading(response, bool(calls or body.get("search_queries")))


def _chat_v1(body: JSON) -> Reading:
    """Return what a reply of ``v1/chat`` says: Writer's has the form of OpenAI's chat."""
    return _chat(body) if "choices" in body else read_cohere_v1(body)


def read_complete(body: JSON) -> Reading:
    """Return what a reply of Anthropic's text completions says; of a stream, what its last event does."""
    stop = stop_of(body.get("stop_reason")) or "end"
    return Reading(Response(str(body["completion"] or ""), stop, model=str(body.get("model") or "")))


def read_ollama(body: JSON) -> Reading:
    """Return what a reply of Ollama says; of a stream, what its last event does."""
    message = body.get("message") or {}
    stop = (stop_of(body.get("done_reason")) or "end") if body.get("done") is True else UNFINISHED
    response = Response(
        text=str(message.get("content") or body.get("response") or ""),
        stop_reason="tool_use" if stop == "end" and message.get("tool_calls") else stop,
        usage=Usage(count(body, "prompt_eval_count"), count(body, "eval_count")),
        model=str(body.get("model", "")),
    )
    return Reading(response)


def _vectors(body: JSON) -> Reading:
    found = body.get("data") or body.get("embeddings") or body.get("embedding")
    billed = (body.get("meta") or {}).get("billed_units")
    told = ((body.get(outer), inner) for outer, inner in _VECTOR_COUNTS)
    counts = [*(count(source, name) for source, name in told), count(billed, "input_tokens")]
    counts += [count(body, name) for name in ("prompt_eval_count", "inputTextTokenCount")]
    usage = Usage(next(filter(None, counts), 0))
    return Reading(Response("", "end", usage, str(body.get("model", ""))), bool(found))


_VECTOR_COUNTS: Final = (
    ("usage", "prompt_tokens"),
    ("usage", "total_tokens"),
    ("usageMetadata", "promptTokenCount"),
)
"""Where the tokens of an embedding request are told: by most, by Voyage, by Gemini."""


def _images(body: JSON) -> Reading:
    data = body.get("data") or body.get("images") or body.get("artifacts") or []
    usage = body.get("usage")
    response = Response("", "end", Usage(count(usage, "input_tokens"), count(usage, "output_tokens")))
    return Reading(response, bool(data), any(isinstance(each, dict) and each.get("url") for each in data))


def _transcript(body: JSON) -> Reading:
    usage = body.get("usage")
    tokens = Usage(count(usage, "input_tokens"), count(usage, "output_tokens"))
    return Reading(Response(str(body["text"]), "end", tokens))


def _any(body: JSON) -> Reading:
    return Reading(Response("", "end", model=str(body.get("model", ""))), bool(body))


def _invoke(body: JSON) -> Reading:
    """Return what a model behind Bedrock's invoke says, in the form of its maker."""
    for mark, reader in _INVOKE_FORMS:
        if mark in body:
            return reader(body)
    raise FormatError("a model's reply in a form that is not known")


def _choices(body: JSON) -> Reading:
    texts = any("text" in choice for choice in body["choices"])
    return _completions(body) if texts else _chat(body)


def _titan(body: JSON) -> Reading:
    results = body["results"]
    if any("relevance_score" in each for each in results):  # Cohere's and Amazon's rerankers
        return _any(body)
    stops = [stop_of(each.get("completionReason")) for each in results]
    written = sum(count(each, "tokenCount") for each in results)
    usage = Usage(count(body, "inputTextTokenCount"), written)
    return Reading(Response(str(results[0].get("outputText", "")), worst(stops), usage))


def _llama(body: JSON) -> Reading:
    usage = Usage(count(body, "prompt_token_count"), count(body, "generation_token_count"))
    return Reading(Response(str(body["generation"]), stop_of(body.get("stop_reason")) or "end", usage))


def _jurassic(body: JSON) -> Reading:
    """Return what a reply of AI21's Jurassic says."""
    found = body["completions"]
    stops = [stop_of((each.get("finishReason") or {}).get("reason")) for each in found]
    return Reading(Response(str(found[0]["data"]["text"]), worst(stops)))


def _texts(field: str, reason: str) -> Callable[[JSON], Reading]:
    def reader(body: JSON) -> Reading:
        stops = [stop_of(each.get(reason)) for each in body[field]]
        return Reading(Response(str(body[field][0].get("text", "")), worst(stops)))

    return reader


_INVOKE_FORMS: Final[tuple[tuple[str, Callable[[JSON], Reading]], ...]] = (
    ("content", _messages),
    ("output", _converse),
    ("choices", _choices),
    ("completion", read_complete),
    ("completions", _jurassic),
    ("results", _titan),
    ("generation", _llama),
    ("generations", _texts("generations", "finish_reason")),
    ("outputs", _texts("outputs", "stop_reason")),
    ("embedding", _vectors),
    ("embeddings", _vectors),
    ("images", _images),
    ("artifacts", _images),
    ("text", read_cohere_v1),
)

READERS: Final[Mapping[str, Callable[[JSON], Reading]]] = {
    "any": _any,
    "chat": _chat,
    "chat v1": _chat_v1,
    "cohere": read_cohere,
    "complete": read_complete,
    "completions": _completions,
    "converse": _converse,
    "gemini": read_gemini,
    "images": _images,
    "invoke": _invoke,
    "messages": _messages,
    "ollama": read_ollama,
    "responses": read_responses,
    "transcript": _transcript,
    "vectors": _vectors,
}
"""By wire; ``speech``, which is no JSON, is not among them."""
