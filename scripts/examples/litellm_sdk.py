"""litellm: a cache whose key has everything that is sent."""

import litellm
from _provider import QUESTION, asked

from casstore.litellm import CasstoreCache

with asked("OPENAI_API_KEY", "api_base") as where:
    litellm.cache = CasstoreCache(where.cache)
    ask = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": QUESTION}]}
    replies = [litellm.completion(**ask, **where.options) for _ in range(2)]
    where.tell(*(reply.choices[0].message.content for reply in replies))
