"""Rewriting: objects that are here go into new packs, and then what they lay in goes.  Floor: repo.

New before old goes: the new pack's file, on the disk; then one transaction; and when that is on the disk too,
the old files. Each transaction looks again at what it relies on, so that processes may do this side by side:
what moved meanwhile stays where it is, a pack goes only if nothing lives in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from casstore.backends.atomic import sync_file, sync_folder
from casstore.catalog.index import put_pack, remove_entries_of
from casstore.catalog.packed import drop_members, is_pack_here, leave_pack, living_in, move_objects
from casstore.errors import IntegrityError
from casstore.quiet import unheard
from casstore.repo.packing import pack_objects
from casstore.repo.packs import moves_into, put_in_place
from casstore.repo.plan import Failure
from casstore.store.pack import Pack, read_contents
from casstore.store.sealed import Stored, create

if TYPE_CHECKING:
    from pathlib import Path

    from casstore.catalog.database import Connection
    from casstore.catalog.rows import PackInfo
    from casstore.digest import Digest
    from casstore.events import OnAdvance
    from casstore.repo.local import Local
    from casstore.store.codec import Dictionary

_BLOCK = 512
"""Bytes of a block as `stat` counts them."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one rewriting does.

    Attributes:
        members: Objects to move into a new pack, in the order in which they will lie there.
        dictionary: What the new pack is compressed with.
        sources: Packs that are to go.
        dropped: Objects of the sources that are to go with them.
        lost: Those of them that no remote holds, whose entries go too.
    """

    members: Sequence[Stored] = ()
    dictionary: Dictionary | None = None
    sources: Sequence[Pack] = ()
    dropped: Collection[Digest] = ()
    lost: Collection[Digest] = ()


@dataclass(slots=True)
class Rewritten:
    """What rewritings did, added up.

    Attributes:
        objects: Objects with a file of their own that lie in a pack now.
        packs: Packs that were written.
        gone: Packs that went.
        before: Bytes of the files that went.
        after: Bytes of the packs that were written.
        blocks: Bytes of disk blocks that this freed; less than none where it took some.
        dropped: Objects that went.
        entries: Entries that went with them.
        failures: What could not be read.
    """

    objects: int = 0
    packs: int = 0
    gone: int = 0
    before: int = 0
    after: int = 0
    blocks: int = 0
    dropped: int = 0
    entries: int = 0
    failures: list[Failure] = field(default_factory=list)


def source_of(local: Local, info: PackInfo) -> Pack | None:
    """Return a pack that is here and can be rewritten; None where it cannot be read.

    Its table of contents is all that is read, and may lie: what counts is what the index believes of it.
    """
    try:
        contents = read_contents(local.path(local.objects.pack_name(info.digest)))
    except (FileNotFoundError, IntegrityError):
        local.doubt_pack(info.digest)
        return None
    if contents.dictionary is not None and not local.has_dictionary(contents.dictionary):
        return None  # nothing of it can be checked until the dictionary is fetched
    return Pack(info.digest, info.stored, contents)


def living(local: Local, source: Pack) -> Iterator[Stored]:
    """Yield the objects that lie in a pack as far as the index believes, in the order they were written."""
    for known in source.members():
        if local.index.known(known.digest) == known:
            yield known


def rewrite(local: Local, change: Change, total: Rewritten, on_advance: OnAdvance = unheard) -> None:
    """Do what `change` says, and add to `total` what was done; see `write_pack` for `on_advance`."""
    pack = _write(local, change, total, on_advance) if change.members else None
    gone = _switch(local, change, pack, total)
    local.index.sync()
    _remove(local, change.members if pack is not None else (), gone, total)


def _write(local: Local, change: Change, total: Rewritten, on_advance: OnAdvance) -> Pack | None:
    """Write the new pack, and put it on the disk under its name."""
    with local.objects.spooled() as path:
        with create(path) as file:
            pack, failures = pack_objects(local, change.members, file, change.dictionary, on_advance)
        total.failures += failures
        if pack is None:
            return None
        sync_file(path)
        put_in_place(local, pack, path)
    target = _path(local, pack.digest)
    sync_folder(str(target.parent))
    total.packs += 1
    total.after += pack.stored
    total.blocks -= _blocks(target)
    return pack


def _switch(local: Local, change: Change, pack: Pack | None, total: Rewritten) -> list[Pack]:
    """Let the index believe in the new pack, and in the old ones no more; return those that may go."""
    with local.index.writing() as connection:
        moves = []
        if pack is not None and _path(local, pack.digest).exists():
            put_pack(connection, pack, here=True)
            moves = list(moves_into(pack, change.members))
            move_objects(connection, moves)
            if change.dictionary is not None:  # another process may have evicted it, unused as it was
                local.keep_dictionary(change.dictionary)
        dropped: set[Digest] = set()
        for source in change.sources:
            dropped |= drop_members(connection, source.digest, change.dropped)
        entries = remove_entries_of(connection, dropped.intersection(change.lost))
        old = [source for source in change.sources if pack is None or source.digest != pack.digest]
        empty = [source for source in (*old, *([pack] if pack else [])) if not _lives(connection, source)]
        for each in empty:
            leave_pack(connection, each.digest)
    total.objects += sum(known.place is None for known, _ in moves)
    total.dropped += len(dropped)
    total.entries += entries
    return empty


def _lives(connection: Connection, source: Pack) -> bool:
    return bool(living_in(connection, source.digest, source.contents.digests))


def _remove(local: Local, moved: Iterable[Stored], packs: Iterable[Pack], total: Rewritten) -> None:
    """Remove the files that the index does not believe in any more."""
    with local.index.writing() as connection:  # nobody puts one again between the look and the deletion
        for known in moved:
            current = local.index.known(known.digest)
            if known.place is None and (current is None or current.place is not None):
                total.before += known.stored
                _delete(local, local.objects.name(known.digest), total)
        for pack in packs:
            if not is_pack_here(connection, pack.digest):
                total.gone += 1
                total.before += pack.stored
                _delete(local, local.objects.pack_name(pack.digest), total)


def _delete(local: Local, name: str, total: Rewritten) -> None:
    try:
        total.blocks += _blocks(local.path(name))
    except FileNotFoundError:
        return
    local.backend.delete(name)


def _blocks(path: Path) -> int:
    return path.stat().st_blocks * _BLOCK


def _path(local: Local, pack: Digest) -> Path:
    return local.path(local.objects.pack_name(pack))
