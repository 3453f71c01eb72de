"""Packing: objects that are here into a pack, and the choice of its dictionary.  Floor: repo.

A push packs for a remote and a repack for the local store; what both do stands here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from casstore.digest import Digest
from casstore.errors import CasstoreError, IntegrityError, NotFoundError
from casstore.quiet import unheard
from casstore.repo.plan import Failure
from casstore.repo.transfer import prefetched
from casstore.store.codec import SEAL_SIZE
from casstore.store.dictionaries import JUDGED_ON, TRAINED_ON, choose, parted, stored
from casstore.store.pack import Member, Pack, PackWriter, decode_member

if TYPE_CHECKING:
    from casstore.events import OnAdvance
    from casstore.repo.local import Local
    from casstore.store.codec import Dictionary
    from casstore.store.sealed import Stored

T = TypeVar("T")

_BATCH, _BATCH_BYTES = 128, 1024 * 1024
"""Objects, and bytes of them, that are read while as many before them are compressed: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """An object that cannot be read, and why."""

    known: Stored
    error: CasstoreError


def sample_size(objects: int) -> int:
    """Return how many of so many objects are looked at: enough to train on and to judge by."""
    return TRAINED_ON + JUDGED_ON if objects >= TRAINED_ON else JUDGED_ON


def sample(objects: Sequence[T]) -> Sequence[T]:
    """Return some of the objects to pack, evenly chosen."""
    return spread(objects, sample_size(len(objects)))


def spread(objects: Sequence[T], count: int) -> Sequence[T]:
    """Return so many of the objects, from the first to the last of them; all, where there are fewer."""
    total = len(objects)
    return objects if total <= count else [objects[number * total // count] for number in range(count)]


def read_sample(local: Local, objects: Iterable[Stored]) -> list[tuple[Stored, bytes]]:
    """Return the contents of objects that can be read; of the others is told when they are packed."""
    found = []
    for known in objects:
        with contextlib.suppress(NotFoundError, IntegrityError):
            found.append((known, local.objects.get(known)))
    return found


def choose_dictionary(
    local: Local, samples: Iterable[tuple[Stored, bytes]], current: Dictionary | None
) -> Dictionary | None:
    """Return the dictionary for packs of objects like the samples: the current one, a new one, or none."""
    return choose([content for _, content in samples], current, local.codec)


def expected_ratio(
    local: Local,
    samples: Sequence[tuple[Stored, bytes]],
    dictionary: Dictionary,
    total: int,
    *,
    trained: bool,
) -> float:
    """Return the bytes of a frame in a pack for each byte of an object's own frame.

    Args:
        local: The store.
        samples: The objects that the dictionary was chosen for.
        dictionary: With which.
        total: Stored bytes of all objects that these are samples of.
        trained: Whether it was trained on samples: those it compresses better than the rest, for which the
            others stand.
    """
    seen, unseen = parted(samples) if trained else ([], samples)
    rest = _ratio(local, unseen, dictionary)
    if not seen:
        return rest
    share = min(1.0, sum(known.stored for known, _ in seen) / total)
    return share * _ratio(local, seen, dictionary) + (1 - share) * rest


def _ratio(local: Local, samples: Sequence[tuple[Stored, bytes]], dictionary: Dictionary) -> float:
    judged = [each for each in spread(samples, JUDGED_ON) if each[0].place is None]
    before = sum(known.stored - SEAL_SIZE for known, _ in judged)
    after = stored([content for _, content in judged], dictionary, local.codec)
    return after / before if before else 1.0


def write_pack(
    local: Local,
    members: Iterable[Stored],
    file: BinaryIO,
    dictionary: Dictionary | None,
    on_advance: OnAdvance = unheard,
) -> tuple[Pack | None, list[tuple[Stored, CasstoreError]]]:
    """Write objects that are here into one pack, each verified first, so that no bad copy spreads.

    Args:
        local: The store.
        members: The objects.
        file: Where to.
        dictionary: What the pack is compressed with.
        on_advance: Told, a hundred or so at a time, what was taken up and what that took where it was.

    Returns:
        The pack, None where none of the objects could be read; and those that could not, and why.
    """
    writer = PackWriter(file, local.codec, dictionary)
    failed: list[tuple[Stored, CasstoreError]] = []

    def read(batch: list[Stored]) -> tuple[list[Member | _Failed], int]:
        taken = sum(known.stored for known in batch)
        return [_read_or_fail(local, known, dictionary) for known in batch], taken

    for batch, taken in prefetched(map(read, _batches(members))):
        looked = [_looked_again(local, each, dictionary) for each in batch]
        failed += [(each.known, each.error) for each in looked if isinstance(each, _Failed)]
        writer.add_all([each for each in looked if isinstance(each, Member)])
        on_advance(len(batch), taken)
    return (writer.finish() if len(writer) else None), failed


def pack_objects(
    local: Local,
    members: Iterable[Stored],
    file: BinaryIO,
    dictionary: Dictionary | None,
    on_advance: OnAdvance = unheard,
) -> tuple[Pack | None, list[Failure]]:
    """Write objects into one pack as `write_pack` does, and stop believing in those that cannot be read."""
    pack, failed = write_pack(local, members, file, dictionary, on_advance)
    for known, _ in failed:
        local.doubt(known.digest, known)
    return pack, [Failure(known.digest, str(error)) for known, error in failed]


def _batches(members: Iterable[Stored]) -> Iterator[list[Stored]]:
    batch: list[Stored] = []
    size = 0
    for known in members:
        batch.append(known)
        size += known.size
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _looked_again(local: Local, found: Member | _Failed, dictionary: Dictionary | None) -> Member | _Failed:
    """Return an object, read once more where it was moved since it was looked up.

    Not while reading ahead: the caller may be in a transaction, and then no other thread gets at the index.
    """
    if isinstance(found, Member):
        return found
    again = local.look_again(found.known)
    return found if again is None else _read_or_fail(local, again, dictionary)


def _read_or_fail(local: Local, known: Stored, dictionary: Dictionary | None) -> Member | _Failed:
    try:
        return _read(local, known, dictionary)
    except (NotFoundError, IntegrityError) as error:
        return _Failed(known, error)


def _read(local: Local, known: Stored, dictionary: Dictionary | None) -> Member:
    place = known.place
    if place is not None and place.dictionary == _digest_of(dictionary):
        frame = local.objects.frame(known, place)
        return Member(known.digest, decode_member(frame, known, dictionary), frame)
    return Member(known.digest, local.objects.get(known))


def _digest_of(dictionary: Dictionary | None) -> Digest | None:
    return None if dictionary is None else dictionary.digest
