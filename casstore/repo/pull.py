"""Pull: bringing what a remote has.  Floor: repo.

Packs of which enough is wanted are taken whole and stay packs; of others, the wanted parts are read and
written into a new pack. Large objects come as files of their own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from casstore.catalog.index import now, put_objects
from casstore.catalog.inventory import (
    Offered,
    missing_objects,
    offered,
    settle,
    shares,
    waiting_for,
    wanted_in,
)
from casstore.digest import Digest
from casstore.errors import BackendError, CasstoreError, IntegrityError, NotFoundError
from casstore.repo.plan import Failure
from casstore.repo.plan_evict import EVICT_TO
from casstore.repo.plan_pull import PullPlan, Range, WholePack, plan_pull, ranges_of, worth_taking
from casstore.repo.repack import tidy_packs
from casstore.repo.run import Report, Run
from casstore.repo.transfer import parallel
from casstore.store.pack import PACK_FRAMES, PACK_MEMBERS, Pack, PackWriter, decode_member, read_contents
from casstore.store.sealed import Stored, create

if TYPE_CHECKING:
    from casstore.catalog.rows import PackInfo
    from casstore.catalog.tracking import Sides, Tracking
    from casstore.events import OnEvent
    from casstore.repo.local import Local
    from casstore.repo.remote import Refreshed, Remote
    from casstore.repo.repository import Repository
    from casstore.store.objects import ObjectStore

_BATCH = 200
"""Objects in files of their own whose move is noted in one transaction: what an interruption may repeat."""

_LOOKS = 3
"""How often a pull looks at the manifest, where what it wants was moved meanwhile."""


@dataclass(slots=True)
class Brought:
    """What one job brought, and what it could not.

    Attributes:
        objects: Objects that are here now, in files of their own.
        packs: Packs that are here now.
        frames: Verified frames of objects, which are nowhere yet.
        count: How many objects that is, of those wanted.
        stored: Bytes that were moved.
        failures: What could not be brought.
        gone: The objects whose file was not there.
        waiting: Whether it failed for want of a dictionary, so that nothing is wrong with the objects.
    """

    objects: list[Stored] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)
    frames: list[tuple[Stored, bytes]] = field(default_factory=list)
    count: int = 0
    stored: int = 0
    failures: list[Failure] = field(default_factory=list)
    gone: list[Digest] = field(default_factory=list)
    waiting: bool = False


def pull(
    repository: Repository,
    name: str | None,
    on_event: OnEvent,
    workers: int | None,
    *,
    manifest_only: bool,
    again: bool = False,
) -> Report:
    """Bring what the remote has."""
    remote = repository.remote(name)
    run = Run("pull", remote, on_event, workers)
    with repository.local.index.in_bulk():
        refreshed = remote.refresh(again=again)
        plan = planned_pull(repository, remote, refreshed, manifest_only=manifest_only)
        run.entries = plan.entries
        if not manifest_only:
            whole = _bring_all(repository, remote, refreshed, plan, run)
            if settle(repository.local.index, remote.tracking.id):
                run.fail(_not_inside(repository.local, remote, whole))
            remote.tracking.disbelieve(run.doubtful)
            run.missing = len(missing_objects(repository.local.index, remote.tracking.id))
            tidy_packs(repository.local)
            with contextlib.suppress(BackendError):  # all is here already; another pull tries again
                repository.local.index.shrink()
    return run.report(plan)


def _bring_all(
    repository: Repository, remote: Remote, refreshed: Refreshed, plan: PullPlan, run: Run
) -> list[WholePack]:
    """Bring the objects of a plan, and look at the manifest again where some had been moved meanwhile.

    Returns:
        The packs that were to come whole.
    """
    whole: list[WholePack] = []
    for _ in range(_LOOKS):
        whole += plan.whole
        if not plan.count:
            break
        download = _Download(repository.local, remote, plan, run)
        download.run()
        sought = [*download.gone, *download.waiting]
        if not sought:
            break
        before = remote.tracking.sides(sought)
        # What was gone may have been merged into another pack: the manifest tells.
        again = remote.refresh() if download.gone else refreshed
        # What lacks its dictionary may lie in another pack, too: a push sent it that had the objects alone.
        if download.waiting:
            remote.tracking.look_past(download.lacking, download.waiting)
        after = remote.tracking.sides(sought)
        moved = {digest for digest in sought if _moved(before[digest], after[digest])}
        if not moved:
            break
        run.forgive(moved)
        plan = planned_pull(repository, remote, again, manifest_only=False)
    return whole


def _not_inside(local: Local, remote: Remote, whole: Iterable[WholePack]) -> list[Failure]:
    """Return what is still wanted of packs that came whole, since they do not hold it."""
    left: dict[int | None, set[Digest]] = {}
    for row in offered(local.index, remote.tracking.id).objects:
        left.setdefault(row.pack, set()).add(row.digest)
    failures = []
    for each in whole:
        if each.row in left:
            with contextlib.suppress(FileNotFoundError):  # it did not come, which was told
                inside = read_contents(local.path(local.objects.pack_name(each.pack.digest)))
                absent = sorted(left[each.row].difference(inside.digests))
                reason = f"it is not in pack {each.pack.digest}, as recorded"
                failures += [Failure(digest, reason) for digest in absent]
    return failures


def planned_pull(
    repository: Repository, remote: Remote, refreshed: Refreshed, *, manifest_only: bool, listed: bool = False
) -> PullPlan:
    """Return what a pull would do, now that the remote's manifest was read.

    Args:
        repository: The store.
        remote: The remote.
        refreshed: What was read.
        manifest_only: Plan to bring nothing else.
        listed: List all objects, also those that come with a whole pack.
    """
    index, tracking = repository.local.index, remote.tracking
    if manifest_only:
        plan = plan_pull(refreshed.contact, Offered([], {}), 0)
        return replace(plan, entries=refreshed.entries, failures=refreshed.failures)
    by_pack = [] if listed else shares(index, tracking.id)
    absent = _absent(tracking, (share.pack for share in by_pack))
    room = repository.max_size - index.evictable()
    taken = worth_taking(by_pack, room - sum(absent.values()))
    is_all = by_pack and len(taken) == len(by_pack)
    found = Offered([], {}) if is_all else offered(index, tracking.id, [each.row for each in taken])
    if listed:
        absent = _absent(tracking, found.packs.values())
    spare = repository.max_size - int(repository.max_size * EVICT_TO)
    plan = plan_pull(refreshed.contact, found, room, absent, taken, spare)
    missing = missing_objects(index, tracking.id) if refreshed.due or listed else []
    waited_for = [*plan.over, *missing]
    behind = waiting_for(index, tracking.id, waited_for) if waited_for else 0
    entries = refreshed.entries + refreshed.due - behind
    return replace(plan, entries=entries, failures=refreshed.failures, missing=len(missing))


def _absent(tracking: Tracking, packs: Iterable[PackInfo | None]) -> dict[Digest, int]:
    """Return the dictionaries of packs of a remote that are there and not here, with their stored bytes."""
    needed = {pack.dictionary for pack in packs if pack is not None and pack.dictionary is not None}
    sides = tracking.sides(needed)
    return {digest: side.there.stored for digest, side in sides.items() if side.there and not side.here}


def _moved(before: Sides, after: Sides) -> bool:
    return after.there is not None and after.there != before.there


class _Download:
    """Brings the objects of a plan."""

    def __init__(self, local: Local, remote: Remote, plan: PullPlan, run: Run) -> None:
        self._local = local
        self._plan = plan
        self._run = run
        self._source: ObjectStore = remote.objects()
        self._tracking = remote.tracking
        self._loose: list[Stored] = []
        self.lacking: dict[Digest, str] = {}
        """Dictionaries that could not be had, and why."""
        self.gone: list[Digest] = []
        """Objects whose file was not there."""
        self.waiting: list[Digest] = []
        """Objects that lack nothing but a dictionary."""

    def run(self) -> None:
        """Bring everything, noting what is here as it comes."""
        plan, run = self._plan, self._run
        run.start(plan)
        try:
            for digest, stored in plan.dictionaries:
                self._bring_dictionary(digest, stored)
            with contextlib.ExitStack() as stack:
                repacker = stack.enter_context(_repacker(self._local))
                for _, result in parallel(self._bring, self._jobs(), run.workers, run.look):
                    self._note(result, repacker)
        finally:
            self._note_loose()
            run.finish()

    def _jobs(self) -> Iterator[WholePack | Range | Stored]:
        return itertools.chain(self._plan.whole, self._plan.ranges, self._plan.loose)

    def _bring(self, job: WholePack | Range | Stored) -> Brought:
        dictionary = _dictionary_of(job)
        if dictionary is not None and (lacking := self.lacking.get(dictionary)) is not None:
            digests = self._digests_of(job)
            return Brought(failures=[Failure(digest, lacking) for digest in digests], waiting=True)
        if isinstance(job, WholePack):
            return self._bring_whole(job)
        if isinstance(job, Range):
            return self._bring_range(job)
        try:
            with self._run.moving():
                known = self._local.bring(self._source, job)
        except (NotFoundError, IntegrityError) as error:
            return _failed([job.digest], error)
        return Brought([known], count=1, stored=known.stored)

    def _digests_of(self, job: WholePack | Range | Stored) -> Sequence[Digest]:
        """Return the objects that a job brings."""
        if isinstance(job, WholePack):
            return wanted_in(self._local.index, self._tracking.id, job.row)
        return [known.digest for known in (job.members if isinstance(job, Range) else [job])]

    def _bring_whole(self, whole: WholePack) -> Brought:
        try:
            with self._run.moving():
                pack = self._local.bring_pack(self._source, whole.pack.digest)
        except NotFoundError as error:
            return _failed(self._digests_of(whole), error)
        except IntegrityError:
            return self._bring_parts(whole)
        return Brought(packs=[pack], count=whole.objects, stored=pack.stored)

    def _bring_parts(self, whole: WholePack) -> Brought:
        """Bring what is good of a pack that is not good as a whole."""
        sides = self._tracking.sides(self._digests_of(whole))
        known = [side.there for side in sides.values() if side.there is not None]
        brought = Brought()
        for part in ranges_of(whole.pack.digest, known):
            more = self._bring_range(part)
            brought.frames += more.frames
            brought.failures += more.failures
            brought.count += more.count
            brought.stored += more.stored
        return brought

    def _bring_range(self, part: Range) -> Brought:
        digests = [known.digest for known in part.members]
        try:
            name = self._source.pack_name(part.pack)
            content = memoryview(self._source.backend.read_range(name, part.start, part.length))
        except (NotFoundError, IntegrityError) as error:
            return _failed(digests, error)
        brought = Brought(stored=part.length)
        for known in part.members:
            if known.place is None:
                continue
            start = known.place.offset - part.start
            frame = bytes(content[start : start + known.stored])
            try:
                decode_member(frame, known, self._source.dictionary(known.place))
            except (NotFoundError, IntegrityError) as error:
                brought.failures.append(Failure(known.digest, f"{name}: {error}"))
            else:
                brought.frames.append((known, frame))
        brought.count = len(brought.frames)
        return brought

    def _bring_dictionary(self, digest: Digest, stored: int) -> None:
        # Where it cannot be had, each object that needs it fails, and says so.
        try:
            self._local.bring_dictionary(self._source, digest)
        except (NotFoundError, IntegrityError) as error:
            self.lacking[digest] = f"{self._source.name(digest)}, the dictionary: {error}"
        else:
            self._run.advance(0, stored)

    def _note(self, result: Brought | CasstoreError, repacker: Repacker) -> None:
        if isinstance(result, CasstoreError):  # the remote or the disk fails: it will for the others too
            raise result
        for pack in result.packs:
            self._local.adopt(pack, used=now())
        for known, frame in result.frames:
            repacker.add(known, frame)
        self._loose += result.objects
        if len(self._loose) >= _BATCH:
            self._note_loose()
        self._run.fail(result.failures, passing=result.waiting)
        self.gone += result.gone
        if result.waiting:
            self.waiting += [Digest(failure.name) for failure in result.failures]
        self._run.advance(result.count, result.stored, packs=len(result.packs))

    def _note_loose(self) -> None:
        if self._loose:
            with self._local.index.writing() as connection:
                put_objects(connection, self._loose, used=now())
            self._loose = []


def _dictionary_of(job: WholePack | Range | Stored) -> Digest | None:
    """Return the dictionary that the objects of a job need."""
    if isinstance(job, WholePack):
        return job.pack.dictionary
    known = job.members[0] if isinstance(job, Range) else job
    return None if known.place is None else known.place.dictionary


def _failed(digests: Sequence[Digest], error: CasstoreError) -> Brought:
    gone = list(digests) if isinstance(error, NotFoundError) else []
    return Brought(failures=[Failure(digest, str(error)) for digest in digests], gone=gone)


class Repacker:
    """Writes verified frames into new local packs, one for each dictionary."""

    def __init__(self, local: Local, stack: contextlib.ExitStack) -> None:
        self._local = local
        self._stack = stack
        self._open: dict[Digest | None, tuple[PackWriter, BinaryIO]] = {}

    def add(self, known: Stored, frame: bytes) -> None:
        """Add an object from another pack."""
        dictionary = known.place.dictionary if known.place is not None else None
        if dictionary not in self._open:
            self._open[dictionary] = self._begin(dictionary)
        writer, _ = self._open[dictionary]
        writer.add_frame(known.digest, known.size, frame)
        if writer.stored >= PACK_FRAMES or len(writer) == PACK_MEMBERS:
            self._finish(dictionary)

    def finish(self) -> None:
        """Put what was added in its place."""
        for dictionary in list(self._open):
            self._finish(dictionary)

    def _begin(self, dictionary: Digest | None) -> tuple[PackWriter, BinaryIO]:
        path = self._stack.enter_context(self._local.objects.spooled())
        file = self._stack.enter_context(create(path))
        loaded = None if dictionary is None else self._local.objects.dictionaries(dictionary)
        return PackWriter(file, self._local.codec, loaded), file

    def _finish(self, dictionary: Digest | None) -> None:
        writer, file = self._open.pop(dictionary)
        pack = writer.finish()
        file.close()
        name = self._local.objects.pack_name(pack.digest)
        self._local.take_in(Path(file.name), name)
        self._local.adopt(pack, used=now())


@contextlib.contextmanager
def _repacker(local: Local) -> Iterator[Repacker]:
    """Yield a repacker, whose packs are put in place also when this is interrupted."""
    with contextlib.ExitStack() as stack:
        repacker = Repacker(local, stack)
        try:
            yield repacker
        finally:
            repacker.finish()
