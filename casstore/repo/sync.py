"""Push, pull and status.  Floor: repo.

Writing, objects go first, then the segment that names them; reading, it is the other way round.
Whatever stops a push or pull, running it again completes it: an object that was moved is not moved again,
and a segment is published only when all it names is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from casstore.catalog.index import now, put_objects
from casstore.catalog.records import Entry, Location, Record
from casstore.errors import CasstoreError, IntegrityError, NotFoundError
from casstore.events import Advanced, Finished, OnEvent, Started
from casstore.repo.plan import Failure, Move, Plan, PullPlan, PushPlan, objects_of, plan_pull, plan_push
from casstore.repo.recover import add_segment, recovered
from casstore.repo.remote import Refreshed, Remote
from casstore.repo.transfer import parallel
from casstore.store.codec import FRAME_SIZE
from casstore.store.objects import ObjectStore, decode
from casstore.store.sealed import Stored, examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from casstore.digest import Digest
    from casstore.repo.local import Local
    from casstore.repo.repository import Repository

_LARGE_AT_ONCE = threading.BoundedSemaphore(3)
"""Large objects verified and uploaded at once: each is read a frame at a time, and sent from its file."""

_BATCH = 200
"""Objects whose move is noted in one transaction: what an interruption may repeat."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a push and a pull would do."""

    push: PushPlan
    pull: PullPlan

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Segments of the remote that were refused."""
        return self.push.failures


@dataclass(frozen=True, slots=True)
class Report:
    """What a push or a pull did.

    Attributes:
        operation: ``push`` or ``pull``.
        remote: The remote's name.
        objects: Objects moved.
        entries: Entries and tombstones that became known.
        bytes: Stored bytes of the objects moved.
        requests: Requests sent, by verb.
        seconds: Wall time.
        left: Objects that stay behind; see `Plan`.
        failures: What could not be moved or was refused.
    """

    operation: str
    remote: str
    objects: int
    entries: int
    bytes: int
    requests: Mapping[str, int]
    seconds: float
    left: int
    failures: tuple[Failure, ...]


def status(repository: Repository, name: str | None, *, manifest_only: bool = False) -> Status:
    """Return what a push and a pull would do."""
    remote = repository.remote(name)
    with recovered(repository.local):
        refreshed = remote.refresh()
        return Status(
            _plan_push(remote, refreshed),
            _plan_pull(repository, remote, refreshed, manifest_only=manifest_only),
        )


def push(repository: Repository, name: str | None, on_event: OnEvent, workers: int | None) -> Report:
    """Send what the remote lacks."""
    remote = repository.remote(name)
    run = _Run("push", remote, on_event, workers)
    local = repository.local
    with recovered(local) as claimed:
        refreshed = remote.refresh()
        plan = _plan_push(remote, refreshed)
        remote.tracking.unpend(plan.lost, plan.lost_kept)
        if plan.claims or plan.kept:
            _upload(local, remote, plan, run)
            run.entries = _publish(local, remote, plan, run)
        if not plan.left and not run.failures:  # else some of their records may stand in no segment
            claimed.discard()
    return run.report(plan)


def pull(
    repository: Repository, name: str | None, on_event: OnEvent, workers: int | None, *, manifest_only: bool
) -> Report:
    """Bring what the remote has."""
    remote = repository.remote(name)
    run = _Run("pull", remote, on_event, workers)
    local = repository.local
    refreshed = remote.refresh()
    plan = _plan_pull(repository, remote, refreshed, manifest_only=manifest_only)
    run.entries = plan.entries
    if plan.known:
        _download(local, remote, plan, run)
    if not manifest_only:
        bad = {failure.name for failure in run.failures}
        remote.tracking.brought(item for item in plan.wanted if not bad.intersection(item.objects))
    return run.report(plan)


class _Run:
    """What adds up while a push or pull runs."""

    def __init__(self, operation: str, remote: Remote, on_event: OnEvent, workers: int | None) -> None:
        self.on_event = on_event
        self.workers = workers
        self._operation = operation
        self._remote = remote
        self._begun = time.monotonic()
        self._before = dict(remote.backend.requests())
        self.moved: list[Stored] = []
        self.entries = 0
        self.failures: tuple[Failure, ...] = ()

    def report(self, plan: Plan) -> Report:
        after = self._remote.backend.requests()
        requests = {verb: count - self._before.get(verb, 0) for verb, count in after.items()}
        return Report(
            self._operation,
            self._remote.name,
            len(self.moved),
            self.entries,
            sum(known.stored for known in self.moved),
            {verb: count for verb, count in requests.items() if count},
            time.monotonic() - self._begun,
            plan.left,
            plan.failures + self.failures,
        )


def _plan_push(remote: Remote, refreshed: Refreshed) -> PushPlan:
    claims = list(remote.tracking.pending_claims())
    kept = remote.tracking.pending_kept()
    digests = [*kept, *(digest for claim in claims for digest in objects_of(claim))]
    plan = plan_push(refreshed.contact, claims, kept, remote.tracking.sides(digests))
    return replace(plan, failures=refreshed.failures)


def _plan_pull(
    repository: Repository, remote: Remote, refreshed: Refreshed, *, manifest_only: bool
) -> PullPlan:
    wanted = [] if manifest_only else remote.tracking.wanted()
    sides = remote.tracking.sides(digest for item in wanted for digest in item.objects)
    room = repository.max_size - repository.local.index.evictable()
    due = 0 if manifest_only else refreshed.due
    plan = plan_pull(refreshed.contact, wanted, sides, room=room, new=refreshed.entries, due=due)
    return replace(plan, failures=refreshed.failures)


def _upload(local: Local, remote: Remote, plan: PushPlan, run: _Run) -> None:
    target = remote.prepare()

    def upload(move: Move) -> Stored:
        known = local.index.known(move.digest)
        if known is None:
            raise NotFoundError(f"object {move.digest} was removed while it was to be pushed")
        return _send(local, target, known)

    _move(plan, run, parallel(upload, plan.objects, run.workers), remote.tracking.uploaded)


def _download(local: Local, remote: Remote, plan: PullPlan, run: _Run) -> None:
    source = remote.objects()

    def download(known: Stored) -> Stored:
        return local.bring(source, known)

    def note(brought: Iterable[Stored]) -> None:
        with local.index.writing() as connection:
            put_objects(connection, brought, used=now())

    _move(plan, run, parallel(download, plan.known, run.workers), note)
    bad = {failure.name for failure in run.failures}
    remote.tracking.disbelieve(known.digest for known in plan.known if known.digest in bad)


def _move(
    plan: Plan,
    run: _Run,
    results: Iterator[tuple[Move, Stored | CasstoreError]] | Iterator[tuple[Stored, Stored | CasstoreError]],
    note: Callable[[list[Stored]], None],
) -> None:
    """Take in what workers moved, noting it in batches, also when this is interrupted."""
    run.on_event(Started(plan.operation, len(plan.objects), plan.bytes))
    batch: list[Stored] = []
    try:
        for item, result in results:
            if isinstance(result, Stored):
                batch.append(result)
                run.moved.append(result)
            elif isinstance(result, NotFoundError | IntegrityError):
                run.failures += (Failure(item.digest, str(result)),)
            else:  # the remote or the disk fails: it will for the others too
                raise result
            run.on_event(Advanced(plan.operation, 1, item.stored))
            if len(batch) >= _BATCH:
                note(batch)
                batch = []
    finally:
        if batch:
            note(batch)
        run.on_event(Finished(plan.operation))


def _send(local: Local, target: ObjectStore, known: Stored) -> Stored:
    """Upload one object, verified first, so that no bad copy spreads."""
    name = local.objects.name(known.digest)
    try:
        if known.size <= FRAME_SIZE:
            sealed = local.path(name).read_bytes()
            decode(sealed, known)
            target.backend.write(target.name(known.digest), sealed)
        else:
            with _LARGE_AT_ONCE:
                examine(local.path(name), known)
                target.backend.upload(local.path(name), target.name(known.digest))
    except FileNotFoundError:
        local.doubt(known.digest)
        raise NotFoundError(f"object {known.digest} is gone from {local.root}") from None
    except (NotFoundError, IntegrityError):
        local.doubt(known.digest)
        raise
    except OSError as error:  # only the local file: what the remote raises is an error of ours
        raise IntegrityError(f"object {known.digest} cannot be read here: {error.strerror}") from error
    return known


def _publish(local: Local, remote: Remote, plan: PushPlan, run: _Run) -> int:
    """Publish a segment of all claims and objects whose bytes are in the remote; return how many claims."""
    missing = {failure.name for failure in run.failures}
    claims = [claim for claim in plan.claims if not (isinstance(claim, Entry) and claim.object in missing)]
    kept = [digest for digest in plan.kept if digest not in missing]
    if not claims and not kept:
        return 0
    segment = add_segment(local, _records(remote, plan, claims, kept, missing))
    remote.prepare()
    remote.publish(segment)
    remote.tracking.pushed(segment, claims, kept)
    return len(claims)


def _records(
    remote: Remote, plan: PushPlan, claims: Iterable[Record], kept: Iterable[Digest], missing: set[str]
) -> Iterator[Record]:
    yield from claims
    by_hand = set(kept)
    sides = remote.tracking.sides(plan.named)
    for digest in plan.named:
        there = sides[digest].there
        if there is not None and digest not in missing:
            yield Location(there, kept=digest in by_hand)
