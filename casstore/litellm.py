"""casstore for litellm: ``litellm.cache = CasstoreCache()``."""

from casstore.inference.adapters.litellm import CasstoreCache

__all__ = ["CasstoreCache"]
