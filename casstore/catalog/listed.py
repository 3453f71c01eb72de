"""What the index tells of many things at once; a process that only hits loads none.  Floor: catalog."""

from __future__ import annotations

from dataclasses import dataclass

from casstore.digest import Digest


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object stored here.

    Attributes:
        digest: SHA-256 of its content.
        size: Bytes of content.
        stored: Bytes of its file, or of its frame in a pack.
        used: When it was last used, in milliseconds since the Unix epoch.
        kept: It was put by hand, and is never evicted.
        packed: It lies in a pack.
    """

    digest: Digest
    size: int
    stored: int
    used: int
    kept: bool
    packed: bool = False


@dataclass(frozen=True, slots=True)
class HeldObject:
    """An object stored here, with the reason for which it stays.

    Attributes:
        digest: SHA-256 of its content.
        size: Bytes of content.
        stored: Bytes of its file, or of its frame in a pack.
        used: When it was last used, in milliseconds since the Unix epoch.
        pack: The pack in which it lies; None where it has a file of its own.
        why: Of ``entry`` (the answer of one), ``put`` (by hand), ``dictionary`` (of a pack here) and ``ref``
            (of an entry, as its request is) those that hold; empty where nothing leads to it.
    """

    digest: Digest
    size: int
    stored: int
    used: int
    pack: Digest | None
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that may be evicted.

    Attributes:
        digest: SHA-256 of its content.
        stored: Bytes of its file, or of its frame in a pack.
        held: Whether a remote is believed to hold it.
        pack: The row of the pack in which it lies; None where it has a file of its own.
    """

    digest: Digest
    stored: int
    held: bool
    pack: int | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """One counter of the ledger: `name` of `model` at `provider` on `day` (UTC, ``YYYY-MM-DD``)."""

    day: str
    provider: str
    model: str
    name: str
    value: float
