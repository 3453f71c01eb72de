"""Push: sending what a remote lacks.  Floor: repo.

Small objects go in packs, made in memory one by one as they are sent; large ones in files of their own. What
was sent is noted at once, so that an interrupted push sends it once. A segment tells of it all at the end.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from casstore.catalog.inventory import Lacking, Row, lacking, pending_for, stored_of
from casstore.catalog.records import Kept, Record
from casstore.errors import BackendError, CasstoreError, IntegrityError, NotFoundError
from casstore.events import OnAdvance, telling
from casstore.quiet import unheard
from casstore.repo.merge import distrust, fetched, planned_merge, publish
from casstore.repo.packing import choose_dictionary, expected_ratio, pack_objects, read_sample, sample
from casstore.repo.plan import Failure
from casstore.repo.plan_push import Packing, PushPlan, plan_push, small
from casstore.repo.recover import recovered
from casstore.repo.run import Report, Run
from casstore.repo.transfer import parallel
from casstore.store.codec import SEAL_SIZE
from casstore.store.pack import Pack, read_pack
from casstore.store.sealed import Stored, examine

if TYPE_CHECKING:
    from casstore.catalog.rows import PackInfo
    from casstore.digest import Digest
    from casstore.events import OnEvent
    from casstore.repo.local import Local
    from casstore.repo.plan_merge import Merge
    from casstore.repo.remote import Refreshed, Remote
    from casstore.repo.repository import Repository
    from casstore.store.codec import Dictionary

_PACKS_AT_ONCE = 2
"""Packs in memory at once, one made while another is sent: each has 25 MiB, and takes twice that then."""


@dataclass(slots=True)
class Sent:
    """What one job sent, and what it could not."""

    objects: list[Stored] = field(default_factory=list)
    packs: list[Pack] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def push(
    repository: Repository,
    name: str | None,
    on_event: OnEvent,
    workers: int | None,
    *,
    anew: bool = False,
) -> Report:
    """Send what the remote lacks."""
    remote = repository.remote(name)
    run = Run("push", remote, on_event, workers)
    local = repository.local
    with local.index.in_bulk(), recovered(local) as claimed:
        distrust(remote)
        refreshed = remote.refresh(first=True, anew=anew)
        plan = planned_push(local, remote, refreshed, partial(_obtain, repository))
        remote.tracking.unpend(plan.lost, plan.lost_kept)
        if plan.publishes:
            plan = fetched(local, remote, plan)
            _Upload(local, remote, plan, run).run()
            run.entries = _publish(local, remote, plan.merge)
        if not plan.left and not run.failed:  # else some of their records may stand in no segment
            claimed.discard()
    return run.report(plan)


def _obtain(repository: Repository, dictionary: Digest) -> bool:
    with contextlib.suppress(BackendError):  # who has it may be reached the next time
        return repository.obtain_dictionary(dictionary)
    return False


def planned_push(
    local: Local,
    remote: Remote,
    refreshed: Refreshed,
    obtain: Callable[[Digest], bool],
    *,
    listed: bool = False,
) -> PushPlan:
    """Return what a push would do, now that the manifest was read.

    Args:
        local: The local store.
        remote: The remote.
        refreshed: What was read.
        obtain: Whether a dictionary that packs here need is here, or can be had.
        listed: List all objects.
    """
    obtain = cache(obtain)  # one that is lost is looked for once
    missing, failures = _readable(local, remote, lacking(local.index, remote.tracking.id), obtain)
    merge = planned_merge(local, remote, refreshed.listed, missing, obtain)
    objects = [*merge.members, *small(missing.objects)]
    packing = _packing(local, remote, objects, {**merge.sources, **missing.packs})
    used = {pack.dictionary for pack in missing.packs.values() if pack.dictionary is not None}
    there = remote.tracking.sides(used)
    absent = [digest for digest in used if not there[digest].stays]
    plan = plan_push(refreshed.contact, missing, packing, absent, merge, listed=listed)
    left = plan.left + sum(failures.values())
    return replace(plan, left=left, failures=(*refreshed.failures, *map(_unreadable, failures.items())))


def _readable(
    local: Local, remote: Remote, missing: Lacking, obtain: Callable[[Digest], bool]
) -> tuple[Lacking, Mapping[Digest, int]]:
    """Return what a remote lacks and can be read here, and how many objects need each lost dictionary."""
    dictionaries = tuple(row for row in missing.dictionaries if obtain(row.digest))
    missing = replace(missing, dictionaries=dictionaries)
    needed = {number: pack.dictionary for number, pack in missing.packs.items() if pack.dictionary}
    lost = {dictionary for dictionary in set(needed.values()) if not obtain(dictionary)}
    if not lost:
        return missing, {}
    objects: list[Row] = []
    stuck: list[Row] = []
    for row in missing.objects:
        (stuck if needed.get(row.pack or 0) in lost else objects).append(row)
    waiting = pending_for(local.index, remote.tracking.id, (row.digest for row in stuck))
    return replace(missing, objects=objects, stuck=waiting), Counter(needed[row.pack or 0] for row in stuck)


def _unreadable(stuck: tuple[Digest, int]) -> Failure:
    dictionary, objects = stuck
    return Failure(
        dictionary,
        f"a dictionary that is neither here nor to be had elsewhere; {objects:,} objects need it, and stay",
    )


def _packing(local: Local, remote: Remote, objects: list[Row], packs: dict[int, PackInfo]) -> Packing:
    """Choose the dictionary for new packs, and measure on some objects what it will save."""
    if not objects:
        return Packing()
    current = _current_dictionary(local, remote)
    samples = read_sample(local, (stored_of(row, packs) for row in sample(objects)))
    dictionary = choose_dictionary(local, samples, current)
    if dictionary is None:
        return Packing()
    total = sum(row.stored for row in objects)
    ratio = expected_ratio(local, samples, dictionary, total, trained=dictionary is not current)
    there = remote.tracking.sides([dictionary.digest])[dictionary.digest].stays
    size = len(local.codec.compress(dictionary.content)) + SEAL_SIZE
    return Packing(dictionary, ratio, size, there)


def _current_dictionary(local: Local, remote: Remote) -> Dictionary | None:
    digest = local.index.current_dictionary()
    if digest is None:
        return None
    with contextlib.suppress(NotFoundError, IntegrityError):
        return local.objects.dictionaries(digest)
    try:  # where it is not here: to learn how a new remote names its files takes a request
        return local.bring_dictionary(remote.objects(), digest)
    except (NotFoundError, IntegrityError):
        return None


class _Upload:
    """Sends the objects of a plan."""

    def __init__(self, local: Local, remote: Remote, plan: PushPlan, run: Run) -> None:
        self._local = local
        self._remote = remote
        self._plan = plan
        self._run = run
        self._in_memory = threading.BoundedSemaphore(_PACKS_AT_ONCE)
        self._packing = threading.Lock()
        self._old = {row.digest for row in plan.merge.members}
        self._target = remote.prepare(packs=bool(plan.packs or plan.whole))

    def run(self) -> None:
        """Send everything, noting what was sent as it is."""
        plan, run = self._plan, self._run
        run.start(plan)
        try:
            for digest in plan.dictionaries:
                self._send_dictionary(digest)
            with self._telling_of_packs() as on_advance:
                for _, result in parallel(_do, self._jobs(on_advance), run.workers, run.look):
                    self._note(result)
        finally:
            run.finish()

    def _telling_of_packs(self) -> AbstractContextManager[OnAdvance]:
        """Return what tells of objects as they are packed: what is sent is told of once a whole pack is."""
        packs = self._plan.packs
        if not packs:
            return contextlib.nullcontext(unheard)
        size = sum(row.stored for members in packs for row in members)
        return telling("pack", sum(map(len, packs)), size, self._run.tell)

    def _jobs(self, on_advance: OnAdvance) -> list[Callable[[], Sent]]:
        """Return what is to be done: large objects beside packs, so that neither waits for the other."""
        plan = self._plan
        packs = (partial(self._send_pack, members, on_advance) for members in plan.packs)
        whole = (partial(self._send_whole, pack) for pack in plan.whole)
        loose = (partial(self._send_loose, row) for row in plan.loose)
        return [job for both in itertools.zip_longest(loose, (*packs, *whole)) for job in both if job]

    def _note(self, result: Sent | CasstoreError) -> None:
        if isinstance(result, CasstoreError):  # the remote or the disk fails: it will for the others too
            raise result
        self._remote.tracking.uploaded(result.objects, result.packs)
        self._run.fail(result.failures)
        for known in result.objects:
            self._run.advance(1, known.stored)
        for pack in result.packs:
            new = set(pack.contents.digests) - self._old
            self._run.advance(len(new), pack.stored, packs=1)

    def _send_dictionary(self, digest: Digest) -> None:
        local, packing = self._local, self._plan.packing
        new = packing.dictionary is not None and packing.dictionary.digest == digest
        dictionary = packing.dictionary if new else local.objects.dictionaries(digest)
        if dictionary is None:
            return
        local.keep_dictionary(dictionary)
        known = self._target.put(dictionary.content, digest)
        self._remote.tracking.uploaded([known])
        self._run.advance(0, known.stored)

    def _send_pack(self, members: tuple[Row, ...], on_advance: OnAdvance) -> Sent:
        with self._in_memory:
            with self._packing:  # by turns: Python's lock would let two at once take longer than one by one
                pack, content, failures = self._pack(members, on_advance)
            if pack is None:
                return Sent(failures=failures)
            with self._run.moving():
                self._target.backend.write(self._target.pack_name(pack.digest), content)
        return Sent(packs=[pack], failures=failures)

    def _pack(
        self, members: tuple[Row, ...], on_advance: OnAdvance
    ) -> tuple[Pack | None, bytes, list[Failure]]:
        """Return a pack of objects that are here, its bytes, and what could not be read."""
        objects = [stored_of(row, self._plan.sources) for row in members]
        while True:
            buffer = io.BytesIO()
            pack, failures = pack_objects(
                self._local, objects, buffer, self._plan.packing.dictionary, on_advance
            )
            if pack is None or pack.digest not in self._plan.merge.barred:
                return pack, buffer.getvalue(), failures
            objects.append(objects[0])  # any other name will do
            on_advance = unheard  # these were told of

    def _send_whole(self, info: PackInfo) -> Sent:
        local = self._local
        path = local.path(local.objects.pack_name(info.digest))
        try:
            pack = read_pack(path, info.digest)
            with self._run.moving():
                self._target.backend.upload(path, self._target.pack_name(info.digest))
        except (IntegrityError, FileNotFoundError) as error:
            local.doubt_pack(info.digest)
            return Sent(failures=[Failure(info.digest, f"the pack cannot be read here: {error}")])
        return Sent(packs=[pack])

    def _send_loose(self, row: Row) -> Sent:
        """Upload one object in a file of its own, verified first, so that no bad copy spreads."""
        try:
            return Sent([self._upload(stored_of(row, self._plan.sources))])
        except (NotFoundError, IntegrityError) as error:
            return Sent(failures=[Failure(row.digest, str(error))])

    def _upload(self, known: Stored) -> Stored:
        local, target = self._local, self._target
        if known.place is not None:
            return target.put(local.read(known), known.digest)
        path = local.path(local.objects.name(known.digest))
        try:
            examine(path, known)
            with self._run.moving():
                target.backend.upload(path, target.name(known.digest))
        except FileNotFoundError:
            local.doubt(known.digest)
            raise NotFoundError(f"object {known.digest} is gone from {local.root}") from None
        except (NotFoundError, IntegrityError):
            local.doubt(known.digest)
            raise
        except OSError as error:  # only the local file: what the remote raises is an error of ours
            raise IntegrityError(f"object {known.digest} cannot be read here: {error.strerror}") from error
        return known


def _do(job: Callable[[], Sent]) -> Sent:
    return job()


def _publish(local: Local, remote: Remote, merge: Merge) -> int:
    """Publish a segment of all that is pending and whose bytes are in the remote; return how many claims."""
    tracking = remote.tracking
    mark = tracking.choose()
    told = tracking.untold()
    counter = itertools.count()
    claims = (line for line, _ in zip(tracking.chosen_claims(mark), counter, strict=False))
    records: list[Record] = [*told, *map(Kept, tracking.chosen_kept(mark))]
    first = next(claims, None)
    if first is None and not records:
        return 0
    publish(local, remote, merge, itertools.chain([first] if first else [], claims, records), told, mark)
    return next(counter)
