"""The demo's pipeline: what a team might run again and again over its documents.

A program of its own, so that every run of it is a fresh process: ``python -m scripts._demo.pipeline --help``.
Three observations of each document, then a decision that rests on them; several documents at a time. All
that casstore adds is `Cache` and `wrap`. It prints a line of JSON an answer, and a last one with the ledger.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from casstore import AnthropicClient, BedrockClient, Cache, Client, OpenAIClient
from scripts._demo.documents import Document, documents
from scripts._demo.provider import PRICES

STRATEGIES = {
    "summary": "Summarise the document in four sentences.",
    "claims": "List the four most important claims the document makes about what it describes.",
    "risks": "Name the risks that the document warns of, or that a reader should know of.",
}
DECISION = "From these notes, decide in a few sentences what a reader must know before using it."
CALLS = len(STRATEGIES) + 1
"""Calls a document."""

WORKERS = 4
_CLIENTS = {"openai": OpenAIClient, "anthropic": AnthropicClient, "bedrock": BedrockClient}
_TOKENS = 400
_SIMULATED_HOST = "provider.demo"


class Pipeline:
    """Observes documents with a model.

    Args:
        client: The model.
        limit: The option that limits an answer's tokens, which each provider calls differently.
    """

    def __init__(self, client: Client, limit: Mapping[str, int]) -> None:
        self._client = client
        self._limit = limit

    def report(self, document: Document) -> dict[str, str]:
        """Return all observations of a document."""
        notes = {name: self._ask(task, document.text) for name, task in STRATEGIES.items()}
        joined = "\n\n".join(f"{name}:\n{note}" for name, note in notes.items())
        return {**notes, "decision": self._ask(DECISION, joined)}

    def _ask(self, task: str, text: str) -> str:
        answer = self._client.converse([{"role": "user", "content": text}], system=task, **self._limit)
        tell(done=1)
        return answer.text


def tell(**fields: object) -> None:
    """Print a line for the program that started this one; in one piece, as several threads do."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def client_of(provider: str, model: str) -> tuple[Client, dict[str, int]]:
    """Return a client of the provider, and its option that limits the tokens of an answer."""
    limit = "max_completion_tokens" if provider == "openai" else "max_tokens"
    return _CLIENTS[provider](model, truncated="return"), {limit: _TOKENS}


def main() -> None:
    """Run the pipeline once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--documents", type=int, required=True)
    parser.add_argument("--provider", choices=sorted(_CLIENTS), required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--simulated", metavar="HOST", help="a simulated provider, whose port means nothing")
    parser.add_argument("--skip-cache", action="store_true")
    options = parser.parse_args()

    client, limit = client_of(options.provider, options.model)
    with Cache(
        options.store,
        mode="bypass" if options.skip_cache else "normal",
        prices=PRICES,
        aliases={options.simulated: _SIMULATED_HOST} if options.simulated else None,
    ) as cache:
        pipeline = Pipeline(cache.wrap(client), limit)
        read = documents(options.documents)
        with ThreadPoolExecutor(WORKERS) as pool:
            reports = dict(zip((each.name for each in read), pool.map(pipeline.report, read), strict=True))
        spent = cache.stats()
    options.out.write_text(json.dumps(reports, indent=2), "utf-8")
    tell(
        calls=spent.calls,
        hits=spent.hits,
        money=None if spent.unpriced_calls else spent.money_spent,
    )


if __name__ == "__main__":
    main()
