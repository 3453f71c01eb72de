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
from casstore.inference.http.endings import UNFINISHED, UNKNOWN, stop_of, worst
from casstore.inference.http.replies import (
    Reading,
    cohere_usage,
    ended,
    read,
    read_cohere_v1,
    read_complete,
    read_gemini,
    read_ollama,
    read_responses,
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

    def stop(self, *, blank: str = "end") -> str:
        """Return what counts for the whole; `blank` as of `worst`."""
        return worst(list(self._stops.values()), blank=blank)


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

    @property
    def over(self) -> bool:
        """Whether every candidate has a word for its ending."""
        return self._candidates.stop(blank=UNFINISHED) != UNFINISHED

    def reading(self) -> Reading:
        response = ended(self._assembler.response(whole=True) or NO_ANSWER)
        stop = self._candidates.stop()
        if stop in (UNFINISHED, UNKNOWN):
            response = replace(response, stop_reason=stop, reply=b"")
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
        stop = self._candidates.stop(blank=UNFINISHED)
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


class _CohereV1(_Texts):
    """Cohere's first chat: over with ``stream-end``, which has the whole reply."""

    def add(self, event: JSON) -> str:
        if event.get("event_type") == "text-generation":
            self._texts.append(str(event.get("text") or ""))
        if event.get("event_type") != "stream-end":
            return RUNNING
        whole = {"text": "", **(event.get("response") or {}), "finish_reason": event.get("finish_reason")}
        found = read_cohere_v1(whole)
        self._last, self._more = found.response, found.content
        return FINAL


class _ChatV1:
    """``v1/chat``: Cohere's events, or Writer's in the form of OpenAI's chat.

    Writer sends no ``[DONE]``: a stream whose candidates all ended is whole if the body then ends.
    """

    def __init__(self) -> None:
        self._cohere, self._chat = _CohereV1(), _Chat()
        self._is_cohere = False

    def add(self, event: JSON) -> str:
        if "event_type" in event:
            self._is_cohere = True
            return self._cohere.add(event)
        self._chat.add(event)
        return ENDED if self._chat.over else RUNNING

    def reading(self) -> Reading:
        return self._cohere.reading() if self._is_cohere else self._chat.reading()


class _Complete(_Texts):
    """Anthropic's text completions: over with the event that has a reason."""

    def add(self, event: JSON) -> str:
        if event.get("type") != "completion":
            return RUNNING
        self._texts.append(str(event.get("completion") or ""))
        if not event.get("stop_reason"):
            return RUNNING
        self._last = read_complete(event).response
        return FINAL


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
        if "type" in inner and "completion" not in inner:  # that is a text completion
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
        self._texts.append(str(next((inner[name] for name in _INNER_TEXTS if inner.get(name)), "")))
        self._texts += [
            str((each.get("delta") or {}).get("content") or each.get("text") or "") for each in choices
        ]
        words = [inner.get(name) for name in ("completionReason", "stop_reason", "finish_reason")]
        words += [each.get("finish_reason") or each.get("stop_reason") for each in choices]
        self._stop = next((stop_of(word) for word in words if word), self._stop)

    def reading(self) -> Reading:
        message = self._messages.response()
        if message is not None:
            return Reading(ended(message))
        nova = self._converse.reading()
        if nova.response is not NO_ANSWER:
            return Reading(replace(nova.response, usage=self._usage))
        return Reading(Response("".join(self._texts), self._stop, self._usage))


_INNER_TEXTS: Final = ("outputText", "generation", "text", "completion")
"""Where the models of Amazon, Meta, Cohere and Anthropic (its text completions) put an event's text."""

_CONVERSE: Final = frozenset({"messageStart", "contentBlockDelta", "messageStop", "metadata"})
"""Events of Amazon's own models, which say the same through invoke as through converse."""


FOLLOWERS: Final[Mapping[str, Callable[[], Follower]]] = {
    "chat": _Chat,
    "chat v1": _ChatV1,
    "complete": _Complete,
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
