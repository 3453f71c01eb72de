"""LangChain: a cache for every model, whatever its provider."""

from _provider import QUESTION, asked
from langchain_core.globals import set_llm_cache
from langchain_openai import ChatOpenAI

from casstore.langchain import CasstoreCache

with asked("OPENAI_API_KEY") as where:
    set_llm_cache(CasstoreCache(where.cache))
    model = ChatOpenAI(model="gpt-4o-mini", **where.options)
    where.tell(*(model.invoke(QUESTION).content for _ in range(2)))
