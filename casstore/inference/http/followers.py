"""What the streams of each wire say, and when they are over; pure.  Floor: inference.

A follower takes the events of one stream, each as JSON, and puts together what was said.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from casstore.inference.adapters.anthropic import MessageAssembler
from casstore.inference.adapters.endpoint import count
from casstore.inference.adapters.openai import ChatAssembler
from casstore.inference.http.replies import (
    UNFINISHED,
    Reading,
    cohere_usage,
    ended,
    read,
    read_gemini,
    read_ollama,
    read_responses,
    stop_of,
    unfinished,
    worst,
)
from casstore.inference.types import Response, Usage

RUNNING: Final = "running"
ENDED: Final = "ended"
FINAL: Final = "final"

NO_ANSWER: Final = Response("", UNFINISHED)
"""What was said as long as nothing was."""

_METRICS: Final = "amazon-bedrock-invocationMetrics"

JSON = Mapping[str, Any]


class Follower(Protocol):
    """Follows the events of one wire."""

    def add(self, event: JSON) -> str:
        """Take an event, and return how far the stream is: `RUNNING`, `ENDED` or `FINAL`."""

    def reading(self) -> Reading:
        """Return what was said so far."""


class _Candidates:
    """How each of several candidates ended, by its index."""

    def __init__(self) -> None:
        self._stops: dict[int, str] = {}

    def add(self, candidates: list[JSON], reason: str) -> None:
        """Take the candidates of an event; `reason` is the field that tells of an end."""
        for each in candidates:
            index, word = each.get("index", 0), each.get(reason)
            if word or index not in self._stops:
                self._stops[index] = stop_of(word)

    def stop(self) -> str:
        """Return what counts for the whole."""
        return worst(list(self._stops.values()))


class _Chat:
    """Chat completions: over with ``[DONE]``."""

    def __init__(self) -> None:
        self._assembler = ChatAssembler()
        self._candidates = _Candidates()
        self._more = False

    def add(self, event: JSON) -> str:
        self._assembler.add(event)
        self._candidates.add(event.get("choices") or [], "finish_reason")
        deltas = (choice.get("delta") or {} for choice in event.get("choices") or ())
        self._more = self._more or any(
            delta.get("audio") or delta.get("images") or isinstance(delta.get("content"), list)
            for delta in deltas
        )
        return RUNNING

    def reading(self) -> Reading:
        response = ended(self._assembler.response() or NO_ANSWER)
        if self._candidates.stop() == UNFINISHED:
            response = unfinished(response)
        return Reading(response, self._more)


class _Completions:
    """Completions: over with ``[DONE]``."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._candidates = _Candidates()
        self._usage: object = None
        self._model = ""

    def add(self, event: JSON) -> str:
        self._usage = event.get("usage") or self._usage
        self._model = str(event.get("model") or self._model)
        choices = event.get("choices") or []
        self._candidates.add(choices, "finish_reason")
        self._texts += [str(choice.get("text") or "") for choice in choices]
        return RUNNING

    def reading(self) -> Reading:
        usage = read("chat", {"choices": [], "usage": self._usage}).response.usage
        return Reading(Response("".join(self._texts), self._candidates.stop(), usage, self._model))


class _Messages:
    """Anthropic's messages: over with ``message_stop``."""

    def __init__(self) -> None:
        self._assembler = MessageAssembler()

    def add(self, event: JSON) -> str:
        self._assembler.add(event)
        return FINAL if event.get("type") == "message_stop" else RUNNING

    def reading(self) -> Reading:
        return Reading(ended(self._assembler.response() or NO_ANSWER))


class _Whole:
    """Streams one of whose events holds the whole reply, or all that is to be known of it."""

    def __init__(self) -> None:
        self._reading = Reading(NO_ANSWER)

    def reading(self) -> Reading:
        return self._reading


class _Responses(_Whole):
    """OpenAI's responses: over with ``response.completed`` or ``response.incomplete``."""

    def add(self, event: JSON) -> str:
        if event.get("type") not in ("response.completed", "response.incomplete"):
            return RUNNING
        self._reading = read_responses(event["response"])
        return FINAL


class _Transcript(_Whole):
    """OpenAI's transcriptions: over with ``transcript.text.done``."""

    def add(self, event: JSON) -> str:
        if event.get("type") != "transcript.text.done":
            return RUNNING
        self._reading = read("transcript", event)
        return FINAL


class _Images(_Whole):
    """OpenAI's images: over with the one that is no part any more."""

    def add(self, event: JSON) -> str:
        if event.get("type") not in ("image_generation.completed", "image_edit.completed"):
            return RUNNING
        self._reading = read("images", {"data": [event], "usage": event.get("usage")})
        return FINAL


class _Texts:
    """Streams of texts, whose last event tells the rest."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._more = False
        self._last = NO_ANSWER

    def reading(self) -> Reading:
        last = self._last
        text = "".join(self._texts)
        return Reading(Response(text, last.stop_reason, last.usage, last.model, b""), self._more)


class _Gemini(_Texts):
    """Gemini: a finish reason ends it, if the body then ends."""

    def __init__(self) -> None:
        super().__init__()
        self._candidates = _Candidates()
        self._called = False

    def add(self, event: JSON) -> str:
        found = read_gemini(event)
        self._texts.append(found.response.text)
        self._more = self._more or found.content
        candidates = event.get("candidates") or []
        self._candidates.add(candidates, "finishReason")
        parts = [part for each in candidates for part in _gemini_parts(each)]
        self._called = self._called or any("functionCall" in part for part in parts)
        finished = found.response.stop_reason != UNFINISHED
        if finished or self._last.stop_reason == UNFINISHED:
            self._last = found.response
        elif found.response.usage != Usage():  # told after the end
            self._last = replace(self._last, usage=found.response.usage)
        return ENDED if self._stop() != UNFINISHED else RUNNING

    def _stop(self) -> str:
        if self._last.stop_reason in ("filtered", UNFINISHED):  # a prompt that was blocked has no candidates
            return self._last.stop_reason
        stop = self._candidates.stop()
        return "tool_use" if self._called and stop == "end" else stop

    def reading(self) -> Reading:
        found = super().reading()
        return replace(found, response=replace(found.response, stop_reason=self._stop()))


def _gemini_parts(candidate: JSON) -> list[JSON]:
    return (candidate.get("content") or {}).get("parts") or []


class _Ollama(_Texts):
    """Ollama: over with ``"done": true``."""

    def add(self, event: JSON) -> str:
        found = read_ollama(event).response
        self._texts.append(found.text)
        self._more = self._more or bool((event.get("message") or {}).get("tool_calls"))
        self._last = found
        return FINAL if event.get("done") is True else RUNNING


class _Cohere(_Texts):
    """Cohere's chat: over with ``message-end``."""

    def add(self, event: JSON) -> str:
        delta = event.get("delta") or {}
        kind = event.get("type")
        if kind == "content-delta":
            self._texts.append(str(delta["message"]["content"].get("text") or ""))
        elif kind == "tool-call-start":
            self._more = True
        elif kind == "message-end":
            self._last = Response("", stop_of(delta.get("finish_reason")), cohere_usage(delta.get("usage")))
            return FINAL
        return RUNNING


class _Converse:
    """Bedrock's converse: ``messageStop`` ends it, ``metadata`` with the usage comes last."""

    def __init__(self) -> None:
        from casstore.inference.adapters.bedrock import ConverseAssembler

        self._assembler = ConverseAssembler()
        self._ended = False

    def add(self, event: JSON) -> str:
        self._assembler.add(event)
        if "metadata" in event:
            return FINAL
        self._ended = self._ended or "messageStop" in event
        return ENDED if self._ended else RUNNING

    def reading(self) -> Reading:
        return Reading(ended(self._assembler.response() or NO_ANSWER))


class _Invoke:
    """Bedrock's invoke: events in the form of the model's maker; the last one has Bedrock's own counts."""

    def __init__(self) -> None:
        self._messages = MessageAssembler()
        self._converse = _Converse()
        self._texts: list[str] = []
        self._stop = UNFINISHED
        self._usage = Usage()

    def add(self, event: JSON) -> str:
        inner = json.loads(b64decode(event["chunk"]["bytes"]))
        if "type" in inner:
            self._messages.add(inner)
        elif not _CONVERSE.isdisjoint(inner):
            self._converse.add(inner)
        else:
            self._other(inner)
        metrics = inner.get(_METRICS)
        if metrics is None:
            return RUNNING
        cached = count(metrics, "cacheReadInputTokenCount")
        written = count(metrics, "cacheWriteInputTokenCount")
        read_tokens = count(metrics, "inputTokenCount") + cached + written
        self._usage = Usage(read_tokens, count(metrics, "outputTokenCount"), cached, written=written)
        return FINAL

    def _other(self, inner: JSON) -> None:
        choices = inner.get("choices") or ()
        self._texts.append(str(inner.get("outputText") or inner.get("generation") or inner.get("text") or ""))
        self._texts += [str((each.get("delta") or {}).get("content") or "") for each in choices]
        words = [inner.get(name) for name in ("completionReason", "stop_reason", "finish_reason")]
        words += [each.get("finish_reason") for each in choices]
        self._stop = next((stop_of(word) for word in words if word), self._stop)

    def reading(self) -> Reading:
        message = self._messages.response()
        if message is not None:
            return Reading(ended(message))
        nova = self._converse.reading()
        if nova.response is not NO_ANSWER:
            return Reading(replace(nova.response, usage=self._usage))
        return Reading(Response("".join(self._texts), self._stop, self._usage))


_CONVERSE: Final = frozenset({"messageStart", "contentBlockDelta", "messageStop", "metadata"})
"""Events of Amazon's own models, which say the same through invoke as through converse."""


FOLLOWERS: Final[Mapping[str, Callable[[], Follower]]] = {
    "chat": _Chat,
    "cohere": _Cohere,
    "completions": _Completions,
    "converse": _Converse,
    "gemini": _Gemini,
    "images": _Images,
    "invoke": _Invoke,
    "messages": _Messages,
    "ollama": _Ollama,
    "responses": _Responses,
    "transcript": _Transcript,
}
"""By wire."""
