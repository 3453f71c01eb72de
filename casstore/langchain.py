"""casstore for LangChain: ``set_llm_cache(CasstoreCache())``."""

from casstore.inference.adapters.langchain import CasstoreCache

__all__ = ["CasstoreCache"]
