"""Where answers are looked for and kept: memory, then the store.  Floor: inference.

The store is a repository, which itself looks in the local store and then in remotes whose manifest it knows.
Everything here may block on a disk or a network and is called from threads; nothing here raises because the
store does. It knows neither providers nor policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from casstore.catalog.records import Entry
from casstore.digest import Key, digest_of
from casstore.errors import NotFoundError
from casstore.inference.guard import Guard
from casstore.inference.memory import Held, Memory
from casstore.inference.policy import Mode, Settings
from casstore.values import quick_value

if TYPE_CHECKING:
    from casstore.inference.savings import Counted

Peek = Callable[[Key], tuple[Entry, bytes] | None]
"""Returns an entry and its object, if both are to be had without waiting: a store may have `peek_entry`."""

Kept = object
"""What memory holds: a model's answer, the JSON of a memoized function's result, a reply over HTTP."""

LONG = 0.1
"""Seconds from which a look at the store was a long one; a busy machine may keep it waiting for 20 ms."""

PAUSE = 1.0
"""Seconds after a long look in which callers are not kept waiting for another."""


class EntryStore(Protocol):
    """What the inference layer uses of a repository."""

    def read_entry(self, key: Key) -> tuple[Entry, bytes]:
        """Return the entry for `key` and its object; raise NotFoundError where there is none."""

    def put_entry(
        self,
        key: Key,
        content: bytes,
        *,
        labels: Mapping[str, Any] | None = None,
        refs: Sequence[bytes] = (),
        replace: bool = False,
    ) -> Entry:
        """Store an answer and return the entry that holds from now on, which may be an earlier one."""

    def forget(self, key: Key) -> None:
        """End the entry for `key`."""

    def tally(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add to the ledger."""

    def tallies(self) -> Iterable[Counted]:
        """Return the ledger."""

    def push(self, remote: str | None = None) -> object:
        """Send what is new to a remote."""

    def flush(self) -> None:
        """Write what is batched."""

    def close(self) -> None:
        """Flush, and release everything."""


@quick_value(frozen=True, slots=True)
class Call:
    """One call, as the tiers see it.

    Attributes:
        settings: What holds for it.
        key: Where its answer is; None for a call that is not cached.
        canonical: The bytes whose digest the key is.
        refs: Objects to be stored beside the answer, whatever the cache does with other calls' requests; None
            leaves it to the cache.
        why: Why it has no key, in one word.
    """

    settings: Settings
    key: Key | None
    canonical: bytes = b""
    refs: tuple[bytes, ...] | None = None
    why: str = ""

    @property
    def flight(self) -> tuple[Key | None, bool, float | None]:
        """What must be equal for two calls at one moment to accept one answer."""
        return self.key, self.settings.mode is Mode.REFRESH, self.settings.max_age


class Tiers:
    """Memory and a store, behind one guard.

    Args:
        store: The store; None where it could not be opened.
        guard: What makes its faults harmless.
        memory: Bytes of answers to hold in memory.
        keep_requests: Store the canonical request beside each answer.
        on_stored: Called after each new entry.
    """

    def __init__(
        self,
        store: EntryStore | None,
        guard: Guard,
        *,
        memory: int,
        keep_requests: bool,
        on_stored: Callable[[], None],
    ) -> None:
        self._store = store
        self._guard = guard
        self._memory: Memory[Kept] = Memory(memory)
        self._keep_requests = keep_requests
        self._on_stored = on_stored
        self._unread: set[Key] = set()
        self._peek: Peek | None = getattr(store, "peek_entry", None)
        self._hurried_until = 0.0

    def held(self, call: Call) -> Kept | None:
        """Return the answer to `call` if memory holds one young enough."""
        if call.key is None or call.settings.mode is Mode.REFRESH:
            return None
        held = self._memory.get(call.key)
        if held is None or not _young(held.created, call.settings.max_age):
            return None
        return held.answer

    def at_hand(self, call: Call, decode: Callable[[Entry, bytes], Kept]) -> Kept | None:
        """Return the answer to `call` if memory has it, or the store without waiting: event loops may ask.

        None says nothing: `find` looks again, and tells of what is wrong.
        """
        held = self.held(call)
        if held is not None or self._peek is None or call.key is None or call.settings.mode is Mode.REFRESH:
            return held
        started = time.monotonic()
        if started < self._hurried_until or self._guard.rests:
            return None
        try:
            found = self._peek(call.key)
            if found is None:
                return None
            entry, content = found
            return self._remembered(call, Held(decode(entry, content), entry.created, len(content)))
        except Exception:  # noqa: BLE001 — whatever it is, `find` meets it again
            return None
        finally:
            ended = time.monotonic()
            if ended - started > LONG:  # a disk that sleeps, or a network's
                self._hurried_until = ended + PAUSE

    def find(self, call: Call, decode: Callable[[Entry, bytes], Kept]) -> Kept | None:
        """Return the answer to `call` from memory or the store; None where there is none young enough."""
        held = self.held(call)
        if held is not None or call.key is None or self._store is None or call.settings.mode is Mode.REFRESH:
            return held
        found = self._guard.attempt("read", self._read, self._store, call.key, decode)
        return None if found is None else self._remembered(call, found)

    def keep(self, call: Call, kept: Kept, content: bytes, labels: Mapping[str, Any]) -> None:
        """Keep an answer in memory and in the store, unless another process' answer came first there."""
        if call.key is None:
            return
        created = time.time_ns() // 1_000_000
        if self._store is not None:
            entry = self._guard.attempt("store an answer", self._write, self._store, call, content, labels)
            if entry is not None:
                if entry.object != digest_of(content):
                    self._memory.discard(call.key)
                    return
                created = entry.created
        self._memory.add(call.key, Held(kept, created, len(content)))

    def forget(self, key: Key) -> None:
        """End the entry for `key`, here and, with the next push, for everyone."""
        self._memory.discard(key)
        if self._store is not None:
            self._guard.attempt("forget an answer", self._store.forget, key)

    def tally(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add to the store's ledger."""
        if self._store is not None:
            self._guard.attempt("count", self._store.tally, provider, model, counts)

    def _remembered(self, call: Call, found: Held[Kept]) -> Kept | None:
        """Hold in memory what the store had, and return it if it is young enough."""
        if call.key is not None:
            self._memory.add(call.key, found)
        return found.answer if _young(found.created, call.settings.max_age) else None

    def _read(self, store: EntryStore, key: Key, decode: Callable[[Entry, bytes], Kept]) -> Held[Kept]:
        try:
            entry, content = store.read_entry(key)
            return Held(decode(entry, content), entry.created, len(content))
        except NotFoundError:
            raise
        except Exception:
            self._unread.add(key)
            raise

    def _write(
        self, store: EntryStore, call: Call, content: bytes, labels: Mapping[str, Any]
    ) -> Entry | None:
        if call.key is None:
            return None
        # An age limit that found nothing young enough asks for a new answer, as a refresh does. So does
        # an answer that cannot be read, as when a remote is out of reach: else each call would be paid.
        unread = call.key in self._unread
        self._unread.discard(call.key)
        replace = call.settings.mode is Mode.REFRESH or call.settings.max_age is not None or unread
        refs = call.refs
        if refs is None:
            refs = (call.canonical,) if self._keep_requests else ()
        entry = store.put_entry(call.key, content, labels=labels, refs=refs, replace=replace)
        self._on_stored()
        return entry


def _young(created: int, max_age: float | None) -> bool:
    return max_age is None or created >= (time.time() - max_age) * 1000
