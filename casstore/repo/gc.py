"""Collection: deleting from a remote what nobody needs any more.  Floor: repo.

The manifest is read into an index of its own, as a newcomer would, so that nothing that this store merely
believes, or has not pushed, decides over what others have. What a push could not fold is folded, what is
garbage is doomed, and one segment tells of both. Then the manifest is looked at again, and what was doomed
for longer than the grace and is still not needed is deleted: segments first, then packs, then objects.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from casstore.catalog.census import needed_of, packs_with
from casstore.catalog.folding import Union, coverage
from casstore.catalog.index import Index
from casstore.catalog.records import OBJECT, PACK, SEGMENT, Doomed
from casstore.catalog.segment import check_segment
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest
from casstore.errors import BackendError, CasstoreError, IntegrityError, NotFoundError
from casstore.events import Advanced, Finished, Started
from casstore.repo.local import GRACE
from casstore.repo.manifest import Listed, ManifestReader, Vanished
from casstore.repo.merge import NO_MARK, Folding, distrust, publish_folding, read_union
from casstore.repo.moving import Mover, most_used
from casstore.repo.plan import Failure
from casstore.repo.plan_gc import Garbage, GcPlan, Means, gc_requests, plan_gc
from casstore.repo.plan_repack import FULL
from casstore.repo.seen import Files, Seen, list_files, look
from casstore.repo.transfer import parallel
from casstore.store.codec import SEAL_SIZE
from casstore.store.dictionaries import read_dictionary
from casstore.store.layout import segment_name
from casstore.store.pack import fill_packs
from casstore.store.sealed import Stored

if TYPE_CHECKING:
    from casstore.events import OnEvent
    from casstore.repo.local import Local
    from casstore.repo.plan import Contact
    from casstore.repo.remote import Remote
    from casstore.repo.repository import Repository


_GONE = "it is not there"


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection did, or would do.

    Attributes:
        remote: The remote's name.
        doomed: Files that were doomed: a later collection deletes them.
        folded: Segments that were folded into one.
        repacked: Packs whose objects were put into others.
        deleted: Files that were deleted.
        bytes: Bytes of these.
        moved: Bytes of the new packs.
        waiting: Files that are doomed and not deleted yet.
        missing: Objects that are needed, and that the remote does not hold.
        here: Those of them that are in this store: the next push sends them.
        requests: Requests sent, or that would be sent, by verb.
        seconds: Wall time.
        failures: What could not be read, or has lost bytes. While a segment cannot be read, nothing is doomed
            and nothing deleted.
    """

    remote: str
    doomed: int = 0
    folded: int = 0
    repacked: int = 0
    deleted: int = 0
    bytes: int = 0
    moved: int = 0
    waiting: int = 0
    missing: int = 0
    here: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()


def gc(
    repository: Repository, name: str | None, grace: int, on_event: OnEvent, *, dry_run: bool = False
) -> GcReport:
    """Collect garbage in a remote.

    Args:
        repository: The local store.
        name: The remote.
        grace: Milliseconds for which something must have been doomed to be deleted.
        on_event: Told of the progress.
        dry_run: Whether to do nothing but tell.
    """
    remote, local = repository.remote(name), repository.local
    begun, before = time.monotonic(), remote.backend.requests()
    with _workplace(local) as folder:
        report = _Collector(local, remote, grace, folder, on_event).run(dry_run=dry_run)
    after = remote.backend.requests()
    sent = {verb: count - before.get(verb, 0) for verb, count in after.items() if count > before.get(verb, 0)}
    return replace(report, requests=report.requests or sent, seconds=time.monotonic() - begun)


class _Collector:
    """Collects garbage in one remote.

    Args:
        local: The local store.
        remote: The remote.
        grace: See `gc`.
        folder: A folder for unfinished files.
        on_event: Told of the progress.
    """

    def __init__(self, local: Local, remote: Remote, grace: int, folder: Path, on_event: OnEvent) -> None:
        self._local = local
        self._remote = remote
        self._grace = grace
        self._folder = folder
        self._on_event = on_event
        self._index = Index(folder / "index.sqlite", create=True)
        self._tracking = Tracking(self._index, remote.backend.url)
        self._reader = ManifestReader(local, remote.backend, self._tracking)
        self._mended = self._checked = 0
        self._unusable: tuple[Digest, ...] = ()

    def run(self, *, dry_run: bool) -> GcReport:
        """Do everything, or tell what would be done."""
        try:
            distrust(self._remote)
            refreshed = self._remote.refresh()
            report = GcReport(self._remote.name, failures=refreshed.failures)
            if refreshed.failures:
                return report
            replaced = self._remote.tracking.replaced()
            live = [each for each in refreshed.listed if each.digest not in replaced]
            taken = self._reader.take_over(set(), live)
            if taken.failures:
                return replace(report, failures=taken.failures)
            seen, unreadable = self._examine(refreshed.listed, dry_run=dry_run)
            plan = plan_gc(seen.holdings, self._remote.backend.now(), self._grace)
            here = set(filter(self._is_here, seen.absent))
            report = replace(
                _planned(report, plan), missing=len(seen.absent), here=len(here), failures=seen.failures
            )
            mover = Mover(self._local, self._remote, self._folder / "aside", seen.holdings.doomed)
            if dry_run:
                return self._foreseen(report, refreshed.contact, mover, seen, plan)
            # The next push sends those that are here. What lacks nothing but a dictionary has to wait for it.
            self._remote.tracking.lacks(here.union(seen.absent, self._unusable) - (unreadable - here))
            return self._collect(report, mover, seen, plan)
        finally:
            self._index.close()

    def _foreseen(
        self, report: GcReport, contact: Contact, mover: Mover, seen: Seen, plan: GcPlan
    ) -> GcReport:
        """Say what a collection would take, if the remote stays as it is and can be read."""
        members = needed_of(self._index, self._tracking.id, plan.packs)
        groups = list(fill_packs(members, FULL))
        away = mover.away(members)
        used = {*away.values(), *map(most_used, groups[:1])}
        means = Means(
            sum(not self._local.path(segment_name(segment)).exists() for segment in plan.segments),
            len(away),
            self._checked,
            sum(each is not None and not self._local.has_dictionary(each) for each in used),
            [(sum(known.stored for known in group), len(group)) for group in groups],
            bool(self._remote.tracking.untold() or (seen.lost and not seen.absent)),
            self._mended,
        )
        requests = gc_requests(contact, seen.holdings, plan, means)
        return replace(report, moved=means.bytes, requests=requests)

    def _collect(self, report: GcReport, mover: Mover, seen: Seen, plan: GcPlan) -> GcReport:
        plan = self._possible(mover, seen, plan)
        moved = self._publish(mover, seen, plan)
        deleted: tuple[Garbage, ...] = ()
        if plan.leaving:
            deleted = self._deletable(plan.leaving)
            self._delete(deleted)
        return replace(
            _planned(report, plan),
            deleted=len(deleted),
            bytes=sum(each.stored for each in deleted),
            moved=moved,
            waiting=plan.waiting + len(plan.leaving) - len(deleted),
            failures=(*report.failures, *mover.failures),
        )

    def _possible(self, mover: Mover, seen: Seen, plan: GcPlan) -> GcPlan:
        """Return a plan without packs that cannot be moved, or that would be moved only with these."""
        members = needed_of(self._index, self._tracking.id, plan.packs)
        stuck = mover.lacking(members)
        if not stuck:
            return plan
        holdings = replace(seen.holdings, stuck=stuck)
        return plan_gc(holdings, self._remote.backend.now(), self._grace)

    def _is_here(self, digest: Digest) -> bool:
        """Return whether an object is here, so that a push can send it."""
        known = self._local.index.known(digest)
        if known is None or not self._local.has_file(known):
            return False
        dictionary = None if known.place is None else known.place.dictionary
        return dictionary is None or self._local.has_dictionary(dictionary)

    def _examine(self, listed: Iterable[Listed], *, dry_run: bool) -> tuple[Seen, set[Digest]]:
        """Look at the remote, send again what dictionaries it lacks, and look past packs that lack theirs.

        Returns:
            What was seen, and needed objects of such packs: they may be there, and nobody can read them.
        """
        files = list_files(self._remote, self._index, listed)
        seen = look(self._remote, self._index, self._tracking, files)
        mended, lost = self._mend_dictionaries(seen, files, dry_run=dry_run)
        if not mended and not lost:
            return seen, set()
        self._tracking.uploaded(mended)
        self._mended = len(mended)
        packs = packs_with(self._index, lost)
        unreadable = {known.digest for known in needed_of(self._index, self._tracking.id, packs)}
        self._unusable = tuple(lost)
        seen = look(self._remote, self._index, self._tracking, files.with_objects(mended), lost)
        failures = lost.values() if unreadable.intersection(seen.absent) else ()
        return replace(seen, failures=(*seen.failures, *failures)), unreadable

    def _mend_dictionaries(
        self, seen: Seen, files: Files, *, dry_run: bool
    ) -> tuple[list[Stored], dict[Digest, Failure]]:
        """Read the dictionaries that are needed, and send again what is bad or gone there and good here.

        A dry run sends nothing, and reads none: it knows of those alone that are gone.
        """
        source, mended, lost = self._remote.objects(), [], {}
        self._checked = len(files.objects.keys() & seen.census.dictionaries)
        for digest in seen.census.dictionaries:
            name = source.name(digest)
            reason = self._fault(name, digest, read=not dry_run) if digest in files.objects else _GONE
            if reason and self._local.has_dictionary(digest):
                mended.append(self._send_dictionary(digest, dry_run=dry_run))
            elif reason:
                lost[digest] = Failure(name, f"the dictionary of packs in {source.backend.url}: {reason}")
        return mended, lost

    def _fault(self, name: str, digest: Digest, *, read: bool) -> str | None:
        """Return what is wrong with the file of a dictionary; None where nothing is known to be."""
        try:
            if read:
                read_dictionary(self._remote.backend, name, digest)
        except (NotFoundError, IntegrityError) as error:
            return str(error)
        return None

    def _send_dictionary(self, digest: Digest, *, dry_run: bool) -> Stored:
        content = self._local.objects.dictionaries(digest).content
        if dry_run:
            return Stored(digest, len(content), len(self._local.codec.compress(content)) + SEAL_SIZE)
        self._remote.tracking.disbelieve([digest])  # so that a push sends it, where this fails
        known = self._remote.objects().put(content, digest)
        self._remote.tracking.uploaded([known])
        return known

    def _publish(self, mover: Mover, seen: Seen, plan: GcPlan) -> int:
        """Move what is to move, and publish what is garbage now; return the bytes of the new packs."""
        moved = 0
        members = needed_of(self._index, self._tracking.id, plan.packs)
        self._on_event(Started("gc", len(members), sum(known.stored for known in members)))
        for pack in mover.move(members):
            self._on_event(Advanced("gc", len(pack.contents.digests), pack.stored))
            moved += pack.stored
        stuck = {known.place.pack for known in members if known.place and known.digest not in mover.moved}
        at = self._remote.backend.now()
        union = self._folded(plan.segments)
        barred = stuck if union is not None else stuck.union(plan.segments)
        doomed = tuple(
            Doomed(each.what, each.digest, at + GRACE) for each in plan.doomed if each.digest not in barred
        )
        if not seen.absent:  # what they held has other places, where newcomers should look
            lost = sorted(set(seen.lost) - {each.digest for each in doomed})
            doomed += tuple(Doomed(PACK, digest, at + GRACE) for digest in lost)
        told = self._remote.tracking.untold()
        if doomed or told:
            folding = Folding(
                plan.segments if union is not None else (),
                union or Union(),
                self._dropped(seen, union or Union(), doomed),
                doomed,
                frozenset(each.digest for each in seen.holdings.segments),
                at,
            )
            publish_folding(self._local, self._remote, folding, told, told, NO_MARK)
        self._on_event(Finished("gc"))
        return moved

    def _folded(self, segments: Iterable[Digest]) -> Union | None:
        """Read segments to be folded, which are fetched where they are not here whole."""
        for segment in segments:
            name = segment_name(segment)
            if not self._local.path(name).exists():
                with self._local.objects.spooled() as path:
                    self._remote.backend.download(name, path)
                    check_segment(path, segment)
                    self._local.backend.upload(path, name, consume=True)
        return read_union(self._local, segments)

    def _dropped(self, seen: Seen, union: Union, doomed: Iterable[Doomed]) -> frozenset[Digest]:
        """Return the packs and objects that need not be told of: all is elsewhere, or they are gone."""
        known = {record.digest for record in doomed} | seen.holdings.doomed.keys()
        candidates = [pack for digest, pack in union.packs.items() if digest in known]
        covered = coverage(self._local.index, self._remote.tracking.id, candidates)
        there = {each.digest for each in seen.holdings.files}
        gone = {digest for digest in union.packs if digest not in there and not seen.census.uses(digest)}
        gone |= {digest for digest in union.locations if digest not in there and digest in known}
        return covered | gone

    def _deletable(self, planned: Iterable[Garbage]) -> tuple[Garbage, ...]:
        """Look again, and return what of a plan may be deleted: what nobody needed then, nor needs since."""
        known = self._tracking.segments()
        listed = self._reader.listed()
        try:
            taken = self._reader.take_over(known, listed)
        except Vanished:
            raise BackendError(
                f"{self._remote.backend.url} changed while it was looked at: collect again", transient=True
            ) from None
        if taken.failures:
            return ()
        files = list_files(self._remote, self._index, listed)
        seen = look(self._remote, self._index, self._tracking, files, self._unusable)
        deleted = plan_gc(seen.holdings, self._remote.backend.now(), self._grace).deleted
        allowed = frozenset(planned)
        return tuple(each for each in deleted if each in allowed)

    def _delete(self, garbage: Sequence[Garbage]) -> None:
        """Delete names before data, so that whoever reads on meets nothing that is named and gone."""
        self._on_event(Started("gc", len(garbage), sum(each.stored for each in garbage)))
        for what in (SEGMENT, PACK, OBJECT):
            for each, result in parallel(self._delete_one, [one for one in garbage if one.what == what]):
                if isinstance(result, CasstoreError):
                    raise result
                self._on_event(Advanced("gc", 1, each.stored))
        self._on_event(Finished("gc"))

    def _delete_one(self, garbage: Garbage) -> None:
        objects = self._remote.objects()
        names = {SEGMENT: segment_name, PACK: objects.pack_name, OBJECT: objects.name}
        self._remote.backend.delete(names[garbage.what](garbage.digest))


def _planned(report: GcReport, plan: GcPlan) -> GcReport:
    return replace(
        report,
        doomed=len(plan.doomed),
        folded=len(plan.segments),
        repacked=len(plan.packs),
        deleted=len(plan.leaving),
        bytes=sum(each.stored for each in plan.leaving),
        waiting=plan.waiting,
    )


@contextmanager
def _workplace(local: Local) -> Iterator[Path]:
    """Yield a folder that is removed afterwards, as are those that processes left which were killed."""
    local.sweep()
    folder = Path(mkdtemp(prefix="gc-", dir=local.spool))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
