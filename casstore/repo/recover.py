"""Journals of processes that are gone: into the index, and into segments.  Floor: repo."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from casstore.catalog.index import put_objects
from casstore.catalog.journal import Claimed, replay
from casstore.catalog.merge import merge
from casstore.catalog.records import Claim, Location, Record
from casstore.catalog.segment import write_segment
from casstore.catalog.tracking import absorb
from casstore.digest import Digest
from casstore.errors import IntegrityError
from casstore.store.layout import segment_name
from casstore.store.sealed import examine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from casstore.repo.local import Local

T = TypeVar("T", bound=str)
R = TypeVar("R", bound=Record)


@contextlib.contextmanager
def recovered(local: Local) -> Iterator[Claimed]:
    """Claim all journals but those that living processes write to, and see that the index has their records.

    Yields:
        The journals, to be discarded by whoever has put their records into a segment.
    """
    local.sweep()
    local.finish_journal()
    claimed = local.journal.claim()
    try:
        if claimed.unfinished:
            records = replay(claimed.unfinished).records
            absorb(local.index, (record for record in records if isinstance(record, Claim)))
            _recover_kept(local, (record for record in records if isinstance(record, Location)))
        yield claimed
    finally:
        claimed.release()


def seal(local: Local) -> None:
    """Turn the journals into a segment in the local manifest."""
    with recovered(local) as claimed:
        records = replay(claimed.paths).records
        claims = merge(record for record in records if isinstance(record, Claim))
        locations = {record.known.digest: record for record in records if isinstance(record, Location)}
        sealed = [*_by_name(claims), *_by_name(locations)]
        add_segment(local, sealed)
        claimed.discard()


def add_segment(local: Local, records: Iterable[Record]) -> Digest:
    """Write a segment into the local manifest, and return its digest."""
    with local.objects.spooled() as path:
        known = write_segment(records, path, local.codec)
        local.backend.upload(path, segment_name(known.digest), consume=True)
    return known.digest


def _recover_kept(local: Local, locations: Iterable[Location]) -> None:
    for location in locations:
        known = location.known
        with contextlib.suppress(FileNotFoundError, IntegrityError):
            found = examine(local.path(local.objects.name(known.digest)), known)
            with local.index.writing() as connection:
                put_objects(connection, [found], used=0, kept=True)


def _by_name(records: Mapping[T, R]) -> list[R]:
    return [records[name] for name in sorted(records)]
