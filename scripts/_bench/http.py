"""A hit through the OpenAI SDK against the SDK's own time: with a transport that answers from memory.

Both make the same call of the same client class and get the same bytes. All subjects take turns in one
process, and the best round of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai

import casstore
from casstore.inference.cache import Cache
from scripts._bench.rounds import Action, best

BUDGET = 1.3
"""How many times the SDK's own time a hit may take."""

MESSAGES: Any = [
    {"role": "system", "content": "Answer in a few sentences. " * 10},
    {"role": "user", "content": "Why do we call it a cache, and who had the word first? " * 30},
]

REPLY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Because it hides things. " * 60,
                    "refusal": None,
                },
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 300, "completion_tokens": 300, "total_tokens": 600},
    }
).encode()


class Stub(httpx2.BaseTransport):
    """Answers from memory."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the one reply."""
        del request
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=REPLY)


class AsyncStub(httpx2.AsyncBaseTransport):
    """Answers from memory."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the one reply."""
        del request
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=REPLY)


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench http", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, no figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="casstore-bench-") as name:
        seconds = measure(Path(name), *((3, 20) if options.quick else (80, 25)))
    rows = [
        (kind, where, seconds[f"{kind}, {where}"], seconds[f"{kind}, {where}"] / seconds[f"{kind}, stub"])
        for kind in ("sync", "async")
        for where in ("memory", "store")
    ]
    if options.json:
        print(
            json.dumps({"seconds": seconds, "ratios": {f"{kind}, {where}": r for kind, where, _, r in rows}})
        )
        return 0
    for kind in ("sync", "async"):
        print(f"{kind:6} the SDK and a stub {seconds[f'{kind}, stub'] * 1e6:8.0f} us")
    for kind, where, took, ratio in rows:
        over = " !" if ratio > BUDGET else ""
        print(f"{kind:6} a hit from {where:8} {took * 1e6:8.0f} us  {ratio:5.2f}x of {BUDGET}x{over}")
    return 0


def measure(folder: Path, rounds: int, calls: int) -> dict[str, float]:
    """Return the seconds that one call takes, by subject."""
    store = folder / "store"
    with Cache(store) as held, Cache(store, memory=0) as stored, asyncio.Runner() as runner:
        subjects: dict[str, Action] = {
            "sync, stub": _sync(_client(None), calls),
            "sync, memory": _sync(_client(held), calls),
            "sync, store": _sync(_client(stored), calls),
            "async, stub": _async(_async_client(None), calls, runner),
            "async, memory": _async(_async_client(held), calls, runner),
            "async, store": _async(_async_client(stored), calls, runner),
        }
        for subject in subjects.values():
            subject(0)
        return best(subjects, rounds)


def _client(cache: Cache | None) -> openai.OpenAI:
    client = openai.OpenAI(api_key="none", http_client=openai.DefaultHttpxClient(transport=Stub()))
    return client if cache is None else casstore.cached(client, cache)


def _async_client(cache: Cache | None) -> openai.AsyncOpenAI:
    client = openai.AsyncOpenAI(
        api_key="none", http_client=openai.DefaultAsyncHttpxClient(transport=AsyncStub())
    )
    return client if cache is None else casstore.cached(client, cache)


def _sync(client: openai.OpenAI, calls: int) -> Action:
    def run(_number: int) -> int:
        for _ in range(calls):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        return calls

    return run


def _async(client: openai.AsyncOpenAI, calls: int, runner: asyncio.Runner) -> Callable[[int], int]:
    async def ask() -> None:
        for _ in range(calls):
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    def run(_number: int) -> int:
        runner.run(ask())
        return calls

    return run


if __name__ == "__main__":
    sys.exit(main())
