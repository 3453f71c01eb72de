"""Makes the golden store with packs: ``python -m tests.format.make_golden_packs FOLDER``.

The store under ``golden-packs/`` was made once and stays as it is, as the one that `make_golden` tells of. It
is what several pushes, a merge and the first step of a collection leave in a remote: a dictionary, packs with
and without it, large objects, a merged segment, one that it replaces and that is doomed, and one beside it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

from casstore.backends.local import LocalBackend
from casstore.catalog.records import Doomed, Entry, Kept, Location, Record, Tombstone
from casstore.catalog.segment import write_merged, write_segment
from casstore.digest import Digest, Key, digest_of
from casstore.store.codec import Codec, Dictionary, train
from casstore.store.dictionaries import Dictionaries
from casstore.store.layout import DEFAULT_SHARDS, pack_name, segment_name
from casstore.store.marker import ensure_marker
from casstore.store.objects import ObjectStore
from casstore.store.pack import Pack, PackWriter

GOLDEN = Path(__file__).parent / "golden-packs"

FIRST_MOMENT = 1_800_000_000_000
CODEC = Codec()


def key(name: str) -> Key:
    """Return the key that the golden store files a name under."""
    return Key(digest_of(name.encode()))


def answer(number: int) -> bytes:
    """Return one of many answers that have much in common."""
    return (
        b'{"choices":[{"finish_reason":"stop","index":0,"message":{"content":"The number %d, whose square is'
        b' %d, is no prime number but once in a while.","role":"assistant"}}],'
        b'"model":"m-1","usage":{"input":%d}}' % (number, number * number, number % 90 + 10)
    )


LARGE = b"".join(b"line %07d of a large object\n" % number for number in range(400)) * 100
PUT_BY_HAND = b"put by hand, and small\n"
REQUEST = b'{"messages":[{"content":"And the first?","role":"user"}],"model":"m-1"}'

FIRST = {key(f"first {number}"): answer(number) for number in range(30)}
SECOND = {key(f"second {number}"): answer(1000 + number) for number in range(30)}
THIRD = {key("refreshed"): answer(5001), key("large"): LARGE, key("empty"): b""}
ANSWERS: dict[Key, bytes] = {**FIRST, **SECOND, **THIRD}
"""What a reader of the whole store finds."""

FORGOTTEN = key("forgotten")
EARLIER = {key("refreshed"): answer(5000), FORGOTTEN: answer(5000)}
"""What was true before the merged segment, to who cannot read that one."""

DOOMED_AFTER = FIRST_MOMENT + 86_400_000


class _Maker:
    """Writes a store part by part."""

    def __init__(self, root: Path, spool: Path) -> None:
        self.backend = LocalBackend(root)
        self._spool = spool
        ensure_marker(self.backend)
        dictionaries = Dictionaries(self.backend, DEFAULT_SHARDS)
        self.objects = ObjectStore(self.backend, DEFAULT_SHARDS, CODEC, spool, dictionaries)

    def pack(self, contents: Sequence[bytes], dictionary: Dictionary | None = None) -> Pack:
        """Put objects in a pack."""
        file = BytesIO()
        writer = PackWriter(file, CODEC, dictionary)
        for content in contents:
            writer.add(digest_of(content), content)
        pack = writer.finish()
        self.backend.write(pack_name(pack.digest), file.getvalue())
        return pack

    def segment(self, records: Sequence[Record]) -> Digest:
        """Publish records."""
        path = self._spool / "segment"
        return self._publish(path, write_segment(records, path, CODEC).digest)

    def merged(self, replaces: Sequence[Digest], fresh: Sequence[Record], others: Sequence[Record]) -> Digest:
        """Publish a merged segment."""
        path = self._spool / "merged"
        return self._publish(path, write_merged(replaces, fresh, others, path, CODEC).digest)

    def _publish(self, path: Path, digest: Digest) -> Digest:
        self.backend.upload(path, segment_name(digest))
        return digest


def entries(answers: dict[Key, bytes], created: int, refs: Sequence[bytes] = ()) -> list[Record]:
    """Return the entries for answers, by key."""
    digests = tuple(map(digest_of, refs))
    return [
        Entry(each, digest_of(answers[each]), 0, FIRST_MOMENT + created, {"model": "m-1"}, digests)
        for each in sorted(answers)
    ]


def make(root: Path, spool: Path) -> None:
    """Make the golden store in a folder."""
    maker = _Maker(root, spool)
    with patch("casstore.store.codec.DICTIONARY_SIZE", 2048):
        dictionary = train([answer(number) for number in range(2000, 3200)])
    assert dictionary is not None
    gone = Entry(FORGOTTEN, digest_of(answer(5000)), 0, FIRST_MOMENT, {})
    stale = Entry(key("refreshed"), digest_of(answer(5000)), 0, FIRST_MOMENT, {"n": 1})
    young = maker.pack([*FIRST.values(), answer(5000)])
    first_records: list[Record] = [*entries(FIRST, 1), gone, stale, young]
    first = maker.segment(first_records)
    known = maker.objects.put(dictionary.content)
    second_pack = maker.pack([*SECOND.values(), REQUEST, PUT_BY_HAND], dictionary)
    second_records: list[Record] = [
        *entries(SECOND, 2, [REQUEST]),
        Location(known),
        second_pack,
        Kept(digest_of(PUT_BY_HAND)),
    ]
    second = maker.segment(second_records)
    refreshed = Entry(key("refreshed"), digest_of(answer(5001)), 1, FIRST_MOMENT + 3, {"n": 2})
    together = maker.pack([*FIRST.values(), answer(5001), b""], dictionary)
    fresh: list[Record] = [
        refreshed,
        Tombstone(FORGOTTEN, 0, FIRST_MOMENT + 3),
        *entries({key("empty"): b""}, 3),
        together,
        Doomed("pack", young.digest, DOOMED_AFTER),
        Doomed("segment", first, DOOMED_AFTER),
        Doomed("segment", second, DOOMED_AFTER),
    ]
    others: list[Record] = [*entries(FIRST, 1), *second_records]
    maker.merged([first, second], fresh, others)
    large = maker.objects.put(LARGE)
    maker.segment([*entries({key("large"): LARGE}, 4), Location(large)])
    maker.backend.delete(segment_name(second))  # the second step of the collection was cut off here


def main(target: Path) -> None:
    """Make the store."""
    with tempfile.TemporaryDirectory() as folder:
        make(target, Path(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
