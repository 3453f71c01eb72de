"""Classes of values that are made on the way of every hit.  Floor: errors.

Python sets each field of a frozen dataclass by a call, which takes four times as long as an assignment; a hit
over HTTP makes some hundred of such fields. So these classes are frozen to whoever checks types alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["quick_value"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as quick_value
else:

    def quick_value(*, frozen: bool, slots: bool) -> Callable[[type[T]], type[T]]:
        """Return what makes a class one of values, hashed and compared by its fields."""
        return dataclass(slots=slots, unsafe_hash=frozen)
