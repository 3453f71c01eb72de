"""casstore for DSPy: ``dspy.cache = CasstoreCache()``."""

from casstore.inference.adapters.dspy import CasstoreCache

__all__ = ["CasstoreCache"]
