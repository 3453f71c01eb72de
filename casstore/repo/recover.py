"""Journals of processes that are gone: into the index, and into segments.  Floor: repo."""

from __future__ import annotations

import contextlib
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from casstore.catalog.index import now, put_objects
from casstore.catalog.journal import Claimed, replay
from casstore.catalog.learning import absorb
from casstore.catalog.merge import merge
from casstore.catalog.records import Claim, Kept, Location, Record
from casstore.catalog.segment import write_segment
from casstore.digest import Digest
from casstore.errors import IntegrityError
from casstore.repo.plan import objects_of
from casstore.store.layout import segment_name
from casstore.store.sealed import UNKNOWN, Stored, examine

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
            claims = [record for record in records if isinstance(record, Claim)]
            _recover_objects(local, claims)
            absorb(local.index, claims)
            _recover_kept(local, records)
        yield claimed
    finally:
        claimed.release()


def seal(local: Local) -> None:
    """Turn the journals into a segment in the local manifest."""
    with recovered(local) as claimed:
        records = replay(claimed.paths).records
        claims = merge(record for record in records if isinstance(record, Claim))
        add_segment(local, [*_by_name(claims), *map(Kept, sorted(_kept(records)))])
        claimed.discard()


def reseal(local: Local) -> None:
    """Write all that the index knows into a segment, in place of one that was lost."""
    kept = (Kept(info.digest) for info in local.index.objects() if info.kept)
    add_segment(local, chain(local.index.claims(), kept))


def add_segment(local: Local, records: Iterable[Record | bytes]) -> Digest:
    """Write a segment into the local manifest, and return its digest."""
    with local.objects.spooled() as path:
        known = write_segment(records, path, local.codec)
        local.take_in(path, segment_name(known.digest))
    return known.digest


def _recover_objects(local: Local, claims: Iterable[Claim]) -> None:
    """Take in the objects of claims whose process died before the index had them."""
    for digest in {digest for claim in claims for digest in objects_of(claim)}:
        if local.index.known(digest) is None:
            with contextlib.suppress(FileNotFoundError, IntegrityError):
                found = examine(local.path(local.objects.name(digest)), Stored(digest, UNKNOWN, 0))
                with local.index.writing() as connection:
                    put_objects(connection, [found], used=now())


def _recover_kept(local: Local, records: Iterable[Record]) -> None:
    for digest in _kept(records):
        with contextlib.suppress(FileNotFoundError, IntegrityError):
            found = local.index.known(digest)
            if found is None or found.place is None:
                found = examine(local.path(local.objects.name(digest)), Stored(digest, UNKNOWN, 0))
            with local.index.writing() as connection:
                put_objects(connection, [found], used=0, kept=True)


def _kept(records: Iterable[Record]) -> set[Digest]:
    """Return the objects put by hand that records tell of, in either way."""
    kept = {record.object for record in records if isinstance(record, Kept)}
    return kept | {record.known.digest for record in records if isinstance(record, Location) and record.kept}


def _by_name(records: Mapping[T, R]) -> list[R]:
    return [records[name] for name in sorted(records)]
