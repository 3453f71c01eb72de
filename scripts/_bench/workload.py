"""What is cached: requests and answers as pipelines have them, cut from prose that ships with Python."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casstore.inference.recorded import to_json
from casstore.inference.types import Response, Usage
from scripts._demo.documents import documents

MODEL = "gpt-4o-mini"
_PROMPT, _ANSWER = 1500, 1500  # characters, on average


@dataclass(frozen=True, slots=True)
class Pair:
    """A request and its answer.

    Attributes:
        request: The body as a program has it.
        response: The answer as a client gives it.
        reply: The same answer as the provider's JSON, parsed.
    """

    request: dict[str, Any]
    response: Response
    reply: dict[str, Any]


def pairs(count: int, salt: str) -> list[Pair]:
    """Return `count` pairs; no two of them, nor any of another salt, have the same request."""
    return list(itertools.islice(_pairs(salt), count))


def _pairs(salt: str) -> Iterator[Pair]:
    text = "\n\n".join(document.text for document in documents(38))
    chance = random.Random(salt)

    def cut(average: int) -> str:
        length = chance.randrange(average // 2, average * 3 // 2)
        start = chance.randrange(len(text) - length)
        return text[start : start + length]

    for number in itertools.count():
        yield _pair(f"{salt} {number}: {cut(_PROMPT)}", cut(_ANSWER))


def _pair(prompt: str, answer: str) -> Pair:
    messages = [
        {"role": "system", "content": "List the claims the text makes."},
        {"role": "user", "content": prompt},
    ]
    usage = Usage(input=len(prompt) // 4, output=len(answer) // 4)
    reply = {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
        ],
        "usage": {"prompt_tokens": usage.input, "completion_tokens": usage.output},
    }
    request = {"model": MODEL, "messages": messages, "max_completion_tokens": 400}
    return Pair(request, Response(answer, "end", usage, MODEL, to_json(reply)), reply)
