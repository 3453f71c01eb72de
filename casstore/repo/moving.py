"""Moving objects of a remote from packs into other packs.  Floor: repo.

Each object is taken from here where it is here, else from its pack, which is fetched aside. Frames are copied
where the dictionary stays the same. Which objects move is not decided here.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from casstore.backends.local import LocalBackend
from casstore.errors import IntegrityError, NotFoundError
from casstore.repo.plan import Failure
from casstore.repo.plan_repack import FULL
from casstore.store.dictionaries import JUDGED_ON, TRAINED_ON, choose
from casstore.store.layout import DEFAULT_SHARDS
from casstore.store.objects import ObjectStore
from casstore.store.pack import Pack, PackWriter, decode_member, fill_packs, read_pack

if TYPE_CHECKING:
    from casstore.digest import Digest
    from casstore.repo.local import Local
    from casstore.repo.remote import Remote
    from casstore.store.codec import Dictionary
    from casstore.store.sealed import Stored


class Mover:
    """Moves objects within one remote.

    Args:
        local: The local store.
        remote: The remote.
        folder: Where packs are fetched to.
        barred: Names of packs that must not be used again.
    """

    def __init__(self, local: Local, remote: Remote, folder: Path, barred: Collection[Digest]) -> None:
        self._local = local
        self._remote = remote
        self._source = remote.objects()
        dictionaries = local.objects.dictionaries
        self._aside = ObjectStore(
            LocalBackend(folder), DEFAULT_SHARDS, local.codec, local.spool, dictionaries
        )
        self._barred = barred
        self._fetched: dict[Digest, bool] = {}
        self._dictionary: Dictionary | None = None
        self._lacking: dict[Digest, str] = {}
        self.moved: set[Digest] = set()
        self.failures: list[Failure] = []

    def lacking(self, members: Iterable[Stored]) -> set[Digest]:
        """Fetch the packs of objects that are not here, and return those packs that cannot be had.

        Which these are is asked before anything moves: of a pack of which something cannot be had, nothing is
        worth moving, since it has to stay.
        """
        found = set()
        for pack, dictionary in sorted(self.away(members).items()):
            try:
                self._fetch(pack)
                if dictionary is not None:
                    self._bring_dictionary(dictionary)
            except (NotFoundError, IntegrityError) as error:
                self.failures.append(Failure(self._source.pack_name(pack), str(error)))
                found.add(pack)
        return found

    def away(self, members: Iterable[Stored]) -> dict[Digest, Digest | None]:
        """Return the packs of objects that are not here, and the dictionary of each."""
        known = self._local.index.known
        return {
            each.place.pack: each.place.dictionary
            for each in members
            if each.place is not None and known(each.digest) is None
        }

    def move(self, members: Iterable[Stored]) -> Iterator[Pack]:
        """Put objects into new packs, and yield each that was uploaded and noted.

        What could not be had is in `failures`; what was moved, in `moved`.
        """
        for group in fill_packs(members, FULL):
            contents = [(known, content) for known in group if (content := self._content(known)) is not None]
            if not contents:
                continue
            self._dictionary = self._choose(contents)
            pack = self._send(contents)
            self.moved.update(pack.contents.digests)
            yield pack

    def _send(self, contents: list[tuple[Stored, bytes]]) -> Pack:
        while True:
            buffer = io.BytesIO()
            writer = PackWriter(buffer, self._local.codec, self._dictionary)
            for known, content in contents:
                self._add(writer, known, content)
            pack = writer.finish()
            if pack.digest not in self._barred:
                break
            contents = [*contents, contents[0]]  # any other name will do
        target = self._remote.prepare(packs=True)
        target.backend.write(target.pack_name(pack.digest), buffer.getvalue())
        self._remote.tracking.uploaded([], [pack])
        return pack

    def _add(self, writer: PackWriter, known: Stored, content: bytes) -> None:
        place, name = known.place, self._dictionary.digest if self._dictionary else None
        if place is not None and place.dictionary == name and self._fetched.get(place.pack):
            writer.add_frame(known.digest, known.size, self._aside.frame(known, place))
        else:
            writer.add(known.digest, content)

    def _content(self, known: Stored) -> bytes | None:
        here = self._local.index.known(known.digest)
        if here is not None:
            try:
                return self._local.objects.get(here)
            except (NotFoundError, IntegrityError):
                self._local.doubt(known.digest)
        try:
            return self._fetched_content(known)
        except (NotFoundError, IntegrityError) as error:
            self.failures.append(Failure(known.digest, str(error)))
            return None

    def _fetched_content(self, known: Stored) -> bytes:
        if known.place is None:
            raise NotFoundError(f"object {known.digest} lies in no pack")
        self._fetch(known.place.pack)
        frame = self._aside.frame(known, known.place)
        needed = known.place.dictionary
        dictionary = None if needed is None else self._bring_dictionary(needed)
        return decode_member(frame, known, dictionary)

    def _bring_dictionary(self, digest: Digest) -> Dictionary:
        """Return a dictionary; one that cannot be had is asked for once, however many objects need it."""
        if digest in self._lacking:
            raise NotFoundError(self._lacking[digest])
        try:
            return self._local.bring_dictionary(self._source, digest)
        except (NotFoundError, IntegrityError) as error:
            self._lacking[digest] = str(error)
            raise

    def _fetch(self, pack: Digest) -> None:
        """Fetch a pack aside; one that cannot be had is asked for once, however many objects lie in it."""
        if pack not in self._fetched:
            self._fetched[pack] = False
            name = self._aside.pack_name(pack)
            with self._aside.spooled() as path:
                self._source.backend.download(self._source.pack_name(pack), path)
                read_pack(path, pack)
                self._aside.backend.upload(path, name, consume=True)
            self._fetched[pack] = True
        if not self._fetched[pack]:
            raise NotFoundError(f"pack {pack} could not be fetched")

    def _choose(self, contents: list[tuple[Stored, bytes]]) -> Dictionary | None:
        """Choose the dictionary: the one most of the objects are compressed with, or a better one."""
        most = most_used(known for known, _ in contents)
        current = self._dictionary
        if current is None and most is not None:
            # If it cannot be had, its objects are here: all do without it.
            with contextlib.suppress(NotFoundError, IntegrityError):
                current = self._bring_dictionary(most)
        count = TRAINED_ON + JUDGED_ON
        samples = [content for _, content in contents[:: max(1, len(contents) // count)]][:count]
        chosen = choose(samples, current, self._local.codec)
        if chosen is not None and not self._remote.tracking.sides([chosen.digest])[chosen.digest].stays:
            self._local.keep_dictionary(chosen)
            target = self._remote.prepare(packs=True)
            self._remote.tracking.uploaded([target.put(chosen.content, chosen.digest)])
        return chosen


def most_used(members: Iterable[Stored]) -> Digest | None:
    """Return the dictionary that most of some objects are compressed with."""
    used = Counter(known.place.dictionary for known in members if known.place is not None)
    (most, _), *_ = used.most_common(1) or [(None, 0)]
    return most
