"""DSPy: in place of its own cache."""

import dspy
from _provider import QUESTION, asked

from casstore.dspy import CasstoreCache

with asked("OPENAI_API_KEY", "api_base") as where:
    dspy.cache = CasstoreCache(where.cache)
    model = dspy.LM("openai/gpt-4o-mini", **where.options)
    where.tell(*(model(QUESTION)[0] for _ in range(2)))
