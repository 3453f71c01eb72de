"""Verification: every byte a store holds, against its digest.  Floor: repo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.catalog.index import put_objects
from casstore.catalog.segment import read_segment
from casstore.catalog.tracking import unlearn_segment
from casstore.errors import CasstoreError, FormatError, IntegrityError, NotFoundError
from casstore.events import Advanced, Finished, OnEvent, Started
from casstore.repo.plan import Failure
from casstore.repo.recover import reseal
from casstore.store.layout import MANIFEST, OBJECTS, digest_in
from casstore.store.sealed import UNKNOWN, Stored, examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from casstore.backends.base import Info
    from casstore.repo.local import Local


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        objects: Objects read.
        segments: Segments read.
        bytes: Stored bytes read.
        failures: What did not hold; bad files are in ``quarantine/`` now.
    """

    objects: int
    segments: int
    bytes: int
    failures: tuple[Failure, ...]


def verify(local: Local, on_event: OnEvent) -> VerifyReport:
    """Read every object and segment of the local store, and stop believing in the bad and the missing."""
    for folder in ("", f"{MANIFEST}/", f"{OBJECTS}/*/*/"):
        local.sweep(f"{folder}.*.tmp")
    files = sorted(local.backend.list(OBJECTS), key=lambda info: info.name)
    segments = sorted(local.backend.list(MANIFEST), key=lambda info: info.name)
    on_event(Started("verify", len(files) + len(segments), sum(info.size for info in (*files, *segments))))
    failures: list[Failure] = []
    for info in files:
        failures += _failures(local, info, _check_object)
        on_event(Advanced("verify", 1, info.size))
    bad: list[Failure] = []
    for info in segments:
        bad += _failures(local, info, _check_segment)
        on_event(Advanced("verify", 1, info.size))
    if bad:  # perhaps no remote has them, and no journal still has their records
        reseal(local)
    failures += bad
    failures += _missing(local)
    on_event(Finished("verify"))
    return VerifyReport(
        len(files), len(segments), sum(info.size for info in (*files, *segments)), tuple(failures)
    )


def _failures(local: Local, info: Info, check: Callable[[Local, Info], None]) -> list[Failure]:
    try:
        check(local, info)
    except NotFoundError:  # removed since it was listed
        return []
    except (CasstoreError, OSError) as error:
        return [Failure(info.name, str(error))]
    return []


def _check_object(local: Local, info: Info) -> None:
    digest = digest_in(info.name)
    if info.name != local.objects.name(digest):
        raise FormatError(f"it belongs at {local.objects.name(digest)}; move it there")
    known = local.index.known(digest)
    try:
        found = examine(local.path(info.name), known or Stored(digest, UNKNOWN, info.size))
    except IntegrityError:
        local.doubt(digest)
        raise
    except FileNotFoundError:
        return
    if found != known:  # a crash came between the file and the index: it may stay, and may go first
        with local.index.writing() as connection:
            put_objects(connection, [found], used=0)


def _check_segment(local: Local, info: Info) -> None:
    digest = digest_in(info.name)
    try:
        for _ in read_segment(local.path(info.name), digest):
            pass
    except IntegrityError:
        local.quarantine(info.name)
        unlearn_segment(local.index, digest)
        raise
    except FileNotFoundError:
        return


def _missing(local: Local) -> list[Failure]:
    failures = []
    for info in local.index.objects():
        name = local.objects.name(info.digest)
        if not local.path(name).exists():
            local.doubt(info.digest)
            failures.append(Failure(name, "the index knows it, but the file is gone"))
    return failures
