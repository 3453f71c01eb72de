"""Dictionaries of one store: found by digest, loaded once, and judged.  Floor: store.

A dictionary is an object with a file of its own, like any other. Which packs use it is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from casstore.errors import IntegrityError
from casstore.store.codec import Codec, Dictionary, decompress, train, unseal
from casstore.store.layout import object_name

if TYPE_CHECKING:
    from casstore.backends.base import Backend
    from casstore.digest import Digest

T = TypeVar("T")

TRAINED_ON = 1000
"""Objects that a dictionary is trained on, and the least for which one is trained."""

JUDGED_ON = 250
"""Further objects by which dictionaries are compared: none of them was seen in training."""

CLEARLY = 0.05
"""The share of the stored bytes that a new dictionary must save over the old one to replace it.

Every member of a team fetches the new one, and packs of different dictionaries cannot be merged by copying.
"""


class Dictionaries:
    """The dictionaries of one store.

    Args:
        backend: Where its objects are.
        shards: Widths of the folder levels.
    """

    def __init__(self, backend: Backend, shards: tuple[int, int]) -> None:
        self._backend = backend
        self._shards = shards
        self._loaded: dict[Digest, Dictionary] = {}

    def __call__(self, digest: Digest) -> Dictionary:
        """Return a dictionary, verified.

        Raises:
            NotFoundError: It is not stored here.
            IntegrityError: Its file does not hold it.
        """
        try:
            return self._loaded[digest]
        except KeyError:
            return self._load(digest)

    def forget(self, digest: Digest) -> None:
        """Load a dictionary anew when it is next asked for."""
        self._loaded.pop(digest, None)

    def _load(self, digest: Digest) -> Dictionary:
        return self._loaded.setdefault(
            digest, read_dictionary(self._backend, object_name(digest, self._shards), digest)
        )


def read_dictionary(backend: Backend, name: str, digest: Digest) -> Dictionary:
    """Return the dictionary in the file `name` of a store, verified.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: The file does not hold it.
    """
    dictionary = Dictionary(decompress(unseal(backend.read(name))))
    if dictionary.digest != digest:
        raise IntegrityError(f"dictionary {digest} does not fit its digest")
    return dictionary


def choose(samples: Sequence[bytes], current: Dictionary | None, codec: Codec) -> Dictionary | None:
    """Return the dictionary to pack contents like `samples` with.

    A new one is trained on some of the samples. Compared on others, it takes the place of the current one if
    it saves clearly more: `CLEARLY` of the stored bytes. A current one that does as well stays, since others
    have it.

    Args:
        samples: Contents of small objects; with less than `TRAINED_ON` nothing is trained.
        current: The dictionary in use.
        codec: Compresses as the packs will be.
    """
    if len(samples) < TRAINED_ON:
        return current
    seen, unseen = parted(samples)
    trained = train(seen)
    if trained is None or stored(unseen, trained, codec) > (1 - CLEARLY) * stored(unseen, current, codec):
        return current
    return trained


def parted(samples: Sequence[T]) -> tuple[list[T], list[T]]:
    """Return which of the samples `choose` trains on, and which of them it judges by."""
    held = range(0, len(samples), max(2, len(samples) // JUDGED_ON))
    seen = [sample for number, sample in enumerate(samples) if number not in held]
    return seen, [samples[number] for number in held]


def stored(contents: Sequence[bytes], dictionary: Dictionary | None, codec: Codec) -> int:
    """Return the bytes that contents take with a dictionary."""
    return sum(len(codec.compress(content, dictionary)) for content in contents)
