"""One remote: its backend, its marker, and what the index believes of it.  Floor: repo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.backends import open_backend
from casstore.catalog.segment import SEGMENT_MAX, read_segment
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest
from casstore.errors import CasstoreError, FormatError, IntegrityError, NotFoundError
from casstore.repo.plan import Contact, Failure
from casstore.repo.transfer import parallel
from casstore.store.layout import MANIFEST, MARKER, digest_in, segment_name
from casstore.store.marker import Marker, ensure_marker, read_marker
from casstore.store.objects import ObjectStore
from casstore.store.sealed import UNKNOWN, Stored, examine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from casstore.config import RemoteConfig
    from casstore.repo.local import Local


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What reading a remote's manifest brought.

    Attributes:
        contact: What a plan needs to know of the remote.
        entries: Entries that changed here.
        due: Entries known before whose objects are still to be brought.
        failures: Segments that were refused.
    """

    contact: Contact
    entries: int
    due: int
    failures: tuple[Failure, ...]


class Remote:
    """A remote of the store `local`.

    Args:
        local: The local store.
        config: The remote's URL and how to reach it.
    """

    def __init__(self, local: Local, config: RemoteConfig) -> None:
        self.name = config.name
        self._local = local
        self.backend = open_backend(
            config.url,
            endpoint=config.endpoint,
            region=config.region,
            profile=config.profile,
            durable=local.durable,
        )
        self.tracking = Tracking(local.index, config.identity)
        self._marker = self.tracking.marker()

    def objects(self) -> ObjectStore:
        """Return the remote's objects, for reading.

        Raises:
            NotFoundError: There is no store.
        """
        if self._marker is None:
            self._marker = read_marker(self.backend)
            self.tracking.remember_marker(self._marker)
        return self._objects(self._marker)

    def prepare(self) -> ObjectStore:
        """Return the remote's objects, for writing; the store is begun if there is none."""
        if self._marker is None:
            self._marker = ensure_marker(self.backend)
            self.tracking.remember_marker(self._marker)
        return self._objects(self._marker)

    def refresh(self) -> Refreshed:
        """Take over what is new in the remote's manifest: one LIST, and one GET a new segment."""
        known = self.tracking.segments()  # before the LIST: what is published meanwhile has not vanished
        listed = dict(self._listed())
        if known - listed.keys() or (not listed and self._has_lost_marker()):
            # The remote was emptied or replaced: nothing believed of it holds.
            self.tracking.reset()
            self._marker, known = None, set()
        contact = self._contact(len(listed))  # a store that must not be read is refused before it is
        due = self.tracking.due()
        entries = 0
        failures: list[Failure] = []
        new = [item for item in listed.items() if item[0] not in known]
        for (digest, _), fetched in parallel(self._fetch_segment, new):
            try:
                if isinstance(fetched, CasstoreError):
                    raise fetched
                entries += self._apply(digest, is_new=fetched)
            except (IntegrityError, FormatError, NotFoundError) as reason:
                failures.append(Failure(segment_name(digest), str(reason)))
        return Refreshed(contact, entries, due, tuple(failures))

    def _apply(self, digest: Digest, *, is_new: bool) -> int:
        path = self._local.path(segment_name(digest))
        try:
            return self.tracking.apply(digest, read_segment(path, digest))
        except FormatError:
            if is_new:  # a refused segment leaves nothing behind
                path.unlink(missing_ok=True)
            raise

    def publish(self, segment: Digest) -> None:
        """Upload a segment that stands in the local manifest."""
        name = segment_name(segment)
        self.backend.upload(self._local.path(name), name)

    def _has_lost_marker(self) -> bool:
        """Look again at a remote without segments, where a first push may have been interrupted."""
        if self._marker is None:
            return False
        try:
            read_marker(self.backend)
        except NotFoundError:
            return True
        return False

    def _contact(self, segments: int) -> Contact:
        if self._marker is not None:
            return Contact(self.name, segments, part_size=self.backend.part_size)
        try:
            self.objects()
        except NotFoundError:
            if segments:
                raise FormatError(
                    f"{self.backend.url} has a manifest but no {MARKER}: restore it, or use another prefix"
                ) from None
            return Contact(self.name, 0, first=True, empty=True, part_size=self.backend.part_size)
        return Contact(self.name, segments, part_size=self.backend.part_size)

    def _listed(self) -> Iterable[tuple[Digest, int]]:
        for info in self.backend.list(MANIFEST):
            try:
                yield digest_in(info.name), info.size
            except FormatError:  # not ours: a file that some tool left there
                continue

    def _fetch_segment(self, item: tuple[Digest, int]) -> bool:
        """Bring a segment into the local manifest; return whether it was not there."""
        digest, stored = item
        name = segment_name(digest)
        if self._has_segment(digest):  # another remote has it too, or the index was rebuilt
            return False
        if stored > SEGMENT_MAX:
            raise IntegrityError(f"it takes {stored} bytes; a segment takes at most {SEGMENT_MAX}")
        with self._local.objects.spooled() as path:
            self.backend.download(name, path)
            examine(path, Stored(digest, UNKNOWN, stored), limit=SEGMENT_MAX)
            self._local.backend.upload(path, name, consume=True)
        return True

    def _has_segment(self, digest: Digest) -> bool:
        name = segment_name(digest)
        try:
            examine(self._local.path(name), Stored(digest, UNKNOWN, 0), limit=SEGMENT_MAX)
        except FileNotFoundError:
            return False
        except IntegrityError:
            self._local.quarantine(name)
            return False
        return True

    def _objects(self, marker: Marker) -> ObjectStore:
        return ObjectStore(self.backend, marker.shards, self._local.codec, self._local.spool)
