"""Hit, miss and put on one machine."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from scripts._bench.results import Row
from scripts._bench.rounds import Action, best
from scripts._bench.subjects import Subject, client, on_diskcache, on_files, pack, store
from scripts._bench.workload import Pair, pairs

DISKCACHE = "diskcache"
FILES = "files, zstd + JSON"
INDEXED = "files + SQLite insert"

_MEMORY = 1 << 30
_HIT, _PACKED, _HELD = "hit, loose object", "hit, packed object", "hit, memory tier"
_STORE, _STORE_PACKED = "hit, store alone, loose", "hit, store alone, packed"
_FIRST = "first call, all of it"


class Local:
    """All subjects, each in a folder of its own, filled with the same entries.

    Args:
        folder: An empty folder.
        entries: How many entries they hold.
        rounds: How often each thing is measured.
    """

    def __init__(self, folder: Path, entries: int, rounds: int) -> None:
        self._rounds = rounds
        self._held = pairs(entries, "held")
        self._loose = client(folder / "client", memory=0)
        self._memory = client(folder / "memory", memory=_MEMORY)
        self._store = store(folder / "store")
        self._diskcache = on_diskcache(folder / "diskcache")
        self._files = on_files(folder / "files")
        self._indexed = on_files(folder / "indexed", index=True)
        self._all = (
            self._loose,
            self._memory,
            self._store,
            self._diskcache,
            self._files,
            self._indexed,
        )
        for subject in self._all:
            self._fill(subject)
        self._packed = self._filled_and_packed(folder / "packed", partial(client, memory=0))
        self._store_packed = self._filled_and_packed(folder / "store, packed", store)

    def _filled_and_packed(self, folder: Path, opened: Callable[[Path], Subject]) -> Subject:
        subject = opened(folder)
        self._fill(subject)
        subject.close()
        pack(folder)
        return opened(folder)

    def _fill(self, subject: Subject) -> None:
        for pair in self._held:
            subject.put(pair)
            assert subject.get(pair.request) == pair.response.text

    def hits(self) -> list[Row]:
        """Return what an answer costs that is there."""
        mine = {
            _HELD: self._memory,
            _HIT: self._loose,
            _PACKED: self._packed,
            _STORE: self._store,
            _STORE_PACKED: self._store_packed,
        }
        peers = {DISKCACHE: self._diskcache, FILES: self._files}
        found = best({name: self._reads(each) for name, each in {**mine, **peers}.items()}, self._rounds)
        budgets = {(_HELD, DISKCACHE): 0.4, (_HIT, DISKCACHE): 1.5, (_PACKED, DISKCACHE): 1.2}
        return _rows(found, mine, peers, budgets)

    def misses(self) -> list[Row]:
        """Return what it costs to learn that an answer is not there."""
        absent = [pair.request for pair in pairs(len(self._held), "absent")]
        mine = {"miss, store alone": self._store}
        peers = {DISKCACHE: self._diskcache, FILES: self._files}

        def looks(subject: Subject) -> Action:
            def look(_: int) -> int:
                for request in absent:
                    assert subject.get(request) is None
                return len(absent)

            return look

        found = best({name: looks(each) for name, each in {**mine, **peers}.items()}, self._rounds)
        return _rows(found, mine, peers, {("miss, store alone", DISKCACHE): 1.0})

    def puts(self) -> list[Row]:
        """Return what it costs to keep an answer; a first call looks it up, prices and counts it, too."""
        new = [pairs(len(self._held), f"round {number}") for number in range(self._rounds)]
        mine = {"put, store alone": self._store, _FIRST: self._loose}
        peers = {DISKCACHE: self._diskcache, FILES: self._files, INDEXED: self._indexed}
        found = best({name: _writes(each, new) for name, each in {**mine, **peers}.items()}, self._rounds)
        budgets = {("put, store alone", DISKCACHE): 1.3, ("put, store alone", INDEXED): 1.5}
        return _rows(found, mine, peers, budgets)

    def opened_by_misses(self) -> int:
        """Return how many files a thousand misses open."""
        opened = 0
        counting = True

        def hook(event: str, _: object) -> None:
            nonlocal opened
            opened += counting and event == "open"

        absent = [pair.request for pair in pairs(1000, "unopened")]
        sys.addaudithook(hook)
        for request in absent:
            self._store.get(request)
        counting = False  # a hook cannot be taken away
        return opened

    def close(self) -> None:
        """Close all subjects."""
        for subject in (*self._all, self._packed, self._store_packed):
            subject.close()

    def _reads(self, subject: Subject) -> Action:
        requests = [pair.request for pair in self._held]

        def read(number: int) -> int:
            random.Random(number).shuffle(requests)
            for request in requests:
                assert subject.get(request) is not None
            return len(requests)

        return read


def _writes(subject: Subject, new: Sequence[Sequence[Pair]]) -> Action:
    def write(number: int) -> int:
        for pair in new[number]:
            subject.put(pair)
        return len(new[number])

    return write


def _rows(
    found: Mapping[str, float],
    mine: Mapping[str, Subject],
    peers: Mapping[str, Subject],
    budgets: Mapping[tuple[str, str], float],
) -> list[Row]:
    return [
        Row(name, found[name], peer, found[peer], budgets.get((name, peer)))
        for name in mine
        for peer in peers
    ]
