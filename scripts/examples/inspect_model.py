"""inspect: a model over a client with the cache before it."""

import asyncio

from _provider import QUESTION, asked
from inspect_ai.model import get_model

from casstore import cached


async def main() -> None:
    """Ask twice."""
    with asked("OPENAI_API_KEY") as where:
        model = get_model("openai/gpt-4o-mini", responses_api=False, **where.options)
        cached(model.api.client, where.cache)
        where.tell(*[(await model.generate(QUESTION)).completion for _ in range(2)])


asyncio.run(main())
