"""instructor, over a client with the cache before it."""

import instructor
from _provider import QUESTION, asked
from openai import OpenAI

from casstore import cached

with asked("OPENAI_API_KEY") as where:
    client = instructor.from_openai(cached(OpenAI(**where.options), where.cache))
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": QUESTION}]}
    where.tell(
        *(client.chat.completions.create(**ask, response_model=None).choices[0].message.content for _ in "ab")
    )
