"""Reading the manifest of a remote: what is new in it, with as few requests as can be.  Floor: repo.

One LIST tells which segments there are. The largest are read first, since they may replace others, which are
then passed over. Of a large merged segment, whoever knows all that it replaces reads the fresh records only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.catalog.records import SEGMENT, Claim, Kept, Record, Replaces
from casstore.catalog.segment import SEGMENT_MAX, check_segment, read_batches, read_fresh, read_head
from casstore.digest import Digest
from casstore.errors import CasstoreError, FormatError, IntegrityError, NotFoundError
from casstore.repo.local import GRACE
from casstore.repo.plan import Failure
from casstore.repo.recover import add_segment
from casstore.repo.transfer import parallel, prefetched
from casstore.store.layout import MANIFEST, digest_in, segment_name

if TYPE_CHECKING:
    from casstore.backends.base import Backend
    from casstore.catalog.tracking import Tracking
    from casstore.repo.local import Local

HEAD_READ = 64 * 1024
"""Bytes read of a large segment to learn what it replaces: the names of 1,500 segments."""

WHOLE = 4 * HEAD_READ
"""Bytes up to which a segment is read whole at once: 2,000 entries."""

ALIKE, MANY = 0.8, 4
"""How many segments of at least this share of the largest one's bytes are fetched side by side.

Merging leaves few of one size, and each may stand for all that are smaller: those are fetched one by one.
"""


_BATCHES_AHEAD = 4
"""Batches of a thousand records that are read before they are taken over."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment in a listing: its digest, the bytes of its file, and when that was written (ms), if known."""

    digest: Digest
    stored: int
    modified: int | None = None

    @property
    def spared_until(self) -> int:
        """When at the earliest that may be deleted which it is the first to doom, whatever it says."""
        return 0 if self.modified is None else self.modified + GRACE


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken over.

    Attributes:
        entries: Entries that changed here.
        failures: Segments that were refused.
        gone: Whether a segment that was listed was gone when it was asked for.
    """

    entries: int
    failures: tuple[Failure, ...]
    gone: bool


class Vanished(Exception):  # noqa: N818 - no error: the reader begins anew
    """Segments that were known are no longer listed, and nothing listed stands for them."""


class ManifestReader:
    """Takes over what is new in the manifest of one remote.

    Args:
        local: The local store.
        backend: The remote's bytes.
        tracking: What is known of the remote.
    """

    def __init__(self, local: Local, backend: Backend, tracking: Tracking) -> None:
        self._local = local
        self._backend = backend
        self._tracking = tracking

    def listed(self) -> list[Listed]:
        """Return the segments that the remote lists, the largest first."""
        return sorted(self._segments(), key=lambda each: (-each.stored, each.digest))

    def take_over(self, known: set[Digest], listed: list[Listed]) -> Taken:
        """Take over the records of segments that are new.

        Args:
            known: The segments known before they were listed.
            listed: What is listed.

        Raises:
            Vanished: What is believed of the remote does not hold.
        """
        entries = 0
        gone = False
        failures: list[Failure] = []
        waiting = [each for each in listed if each.digest not in known]
        while waiting:
            wave, waiting = _wave(waiting)
            for each, fetched in parallel(self._fetch, wave):
                try:
                    entries += self._apply(each, fetched)
                except (IntegrityError, FormatError, NotFoundError) as reason:
                    failures.append(Failure(segment_name(each.digest), str(reason)))
                    gone = gone or isinstance(reason, NotFoundError)
            if waiting:
                replaced = self._tracking.segments()
                waiting = [each for each in waiting if each.digest not in replaced]
        if not gone:  # else the next listing tells, since this one was overtaken
            self._pass_over(known - {each.digest for each in listed})
        return Taken(entries, tuple(failures), gone)

    def _pass_over(self, vanished: set[Digest]) -> None:
        """Let go of segments that were known and are no longer there, if others hold all that they held."""
        if not vanished:
            return
        doomed = {record.digest for record in self._tracking.doomed() if record.what == SEGMENT}
        if vanished - self._tracking.replaced() - doomed:
            raise Vanished
        self._tracking.forget_segments(vanished)

    def _segments(self) -> Iterator[Listed]:
        for info in self._backend.list(MANIFEST):
            try:
                yield Listed(digest_in(info.name), info.size, info.modified)
            except FormatError:  # not ours: a file that some tool left there
                continue

    def _fetch(self, segment: Listed) -> bool | list[Record]:
        """Return the fresh records of a segment, or bring it whole and return whether it was not here."""
        if self._has_file(segment.digest):  # another remote has it too, or the index was rebuilt
            return False
        if segment.stored > SEGMENT_MAX:
            raise IntegrityError(f"it takes {segment.stored} bytes; a segment takes at most {SEGMENT_MAX}")
        if segment.stored > WHOLE:
            fresh = self._fetch_fresh(segment)
            if fresh is not None:
                return fresh
        name = segment_name(segment.digest)
        with self._local.objects.spooled() as path:
            self._backend.download(name, path)
            check_segment(path, segment.digest)
            self._local.take_in(path, name)
        return True

    def _fetch_fresh(self, segment: Listed) -> list[Record] | None:
        """Return what a merged segment says that is new, where all else that it says is known."""
        known = self._tracking.segments()
        if not known:
            return None
        name = segment_name(segment.digest)
        beginning = self._backend.read_range(name, 0, HEAD_READ)
        head = read_head(beginning)
        if head is None or not known.issuperset(head.replaces) or head.stored > segment.stored // 2:
            return None
        frames = beginning[head.offset : head.offset + head.stored]
        if len(frames) < head.stored:
            frames = self._backend.read_range(name, head.offset, head.stored)
        return [*map(Replaces, head.replaces), *read_fresh(frames, head)]

    def _has_file(self, digest: Digest) -> bool:
        name = segment_name(digest)
        try:
            check_segment(self._local.path(name), digest)
        except FileNotFoundError:
            return False
        except IntegrityError:
            self._local.quarantine(name)
            return False
        return True

    def _apply(self, segment: Listed, fetched: bool | list[Record] | CasstoreError) -> int:
        digest = segment.digest
        if isinstance(fetched, CasstoreError):
            raise fetched
        if isinstance(fetched, list):
            self._keep(fetched)
            return self._tracking.apply(digest, fetched, segment.spared_until)
        path = self._local.path(segment_name(digest))
        try:
            batches = prefetched(read_batches(path), _BATCHES_AHEAD)
            return self._tracking.apply_batches(digest, batches, segment.spared_until)
        except FormatError:
            if fetched:  # a refused segment leaves nothing behind
                path.unlink(missing_ok=True)
            raise

    def _keep(self, fresh: Iterable[Record]) -> None:
        """Keep in the local manifest what a lost index could not be rebuilt without."""
        records = [record for record in fresh if isinstance(record, Claim | Kept)]
        if records:
            add_segment(self._local, records)


def _wave(waiting: list[Listed]) -> tuple[list[Listed], list[Listed]]:
    """Divide segments, the largest first, into what to fetch now, and what that may stand for."""
    alike = sum(each.stored >= ALIKE * waiting[0].stored for each in waiting)
    count = alike if alike >= MANY else 1
    return waiting[:count], waiting[count:]
