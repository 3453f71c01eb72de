"""pydantic-ai: a model with the cache before its client."""

from _provider import QUESTION, asked
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from casstore import cached

with asked("OPENAI_API_KEY") as where:
    model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(**where.options))
    agent = Agent(cached(model, where.cache))
    where.tell(*(agent.run_sync(QUESTION).output for _ in range(2)))
