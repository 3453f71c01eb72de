"""The OpenAI SDK: the client as always, and one line more."""

from _provider import QUESTION, asked
from openai import OpenAI

from casstore import cached

with asked("OPENAI_API_KEY") as where:
    client = cached(OpenAI(**where.options), where.cache)
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": QUESTION}]}
    replies = [client.chat.completions.create(**ask) for _ in range(2)]
    where.tell(*(reply.choices[0].message.content for reply in replies))
