"""casstore: a content-addressed object store with sync, and a shared cache for LLM calls on top of it.

Names are loaded when they are first used, so that ``import casstore`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casstore.errors import (
        BackendError,
        CasstoreError,
        ConfigError,
        FormatError,
        IntegrityError,
        NotEnoughCopiesError,
        NotFoundError,
        OfflineMissError,
    )
    from casstore.repo.repository import Repository

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "CasstoreError",
    "ConfigError",
    "FormatError",
    "IntegrityError",
    "NotEnoughCopiesError",
    "NotFoundError",
    "OfflineMissError",
    "Repository",
]

_HOMES = {name: "casstore.errors" for name in __all__ if name.endswith("Error")} | {
    "Repository": "casstore.repo.repository",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
