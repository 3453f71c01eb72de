"""LlamaIndex: a model over a client with the cache before it."""

from _provider import QUESTION, asked
from llama_index.llms.openai import OpenAI
from openai import OpenAI as Client

from casstore import cached

with asked("OPENAI_API_KEY", "base_url") as where:
    model = OpenAI(model="gpt-4o-mini", openai_client=cached(Client(**where.options), where.cache))
    where.tell(*(str(model.complete(QUESTION)) for _ in range(2)))
