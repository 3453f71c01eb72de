"""Bytes by name: one class over any fsspec filesystem, a fast lane for local folders, and wrappers.

Floor: backends. It knows URLs, requests and retries; nothing of digests, compression or records. Names load
on first use, so that a local store imports neither fsspec nor s3fs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casstore.backends.base import Backend, Info
    from casstore.backends.local import LocalBackend
    from casstore.backends.open import open_backend
    from casstore.backends.retry import RetryingBackend

__all__ = ["Backend", "Info", "LocalBackend", "RetryingBackend", "open_backend"]

_HOMES = {
    "Backend": "base",
    "Info": "base",
    "LocalBackend": "local",
    "RetryingBackend": "retry",
    "open_backend": "open",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
