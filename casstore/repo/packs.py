"""The packs of the local store: looked at again when one turns out bad.  Floor: repo.

Of a bad pack, what still verifies one by one is salvaged into a new one. What is lost is looked for in other
files here; whoever reads then asks the remotes. A pack whose bytes are right may still say of an object what
is not true, since anybody may have made it: then that object alone is no longer believed to be in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from casstore.catalog.holding import lose_objects
from casstore.catalog.index import put_pack
from casstore.catalog.packed import is_pack_here, leave_pack, members_of, move_objects, packs_here
from casstore.errors import IntegrityError, NotFoundError
from casstore.repo.packing import write_pack
from casstore.store.pack import Pack, read_contents, read_pack
from casstore.store.sealed import UNKNOWN, Place, Stored, create, examine

if TYPE_CHECKING:
    from casstore.digest import Digest
    from casstore.repo.local import Local


def doubt_member(local: Local, known: Stored, place: Place) -> None:
    """Look again at an object that could not be read from its pack, and correct the belief.

    Where its pack's dictionary is bad or gone, that is no longer believed to be here, and nothing else
    changes: whoever reads may fetch it.
    """
    if place.dictionary is not None and _doubt_dictionary(local, place.dictionary):
        return
    if not doubt_pack(local, place.pack):
        return
    if not is_readable(local, known):
        with local.index.writing():
            if local.index.known(known.digest) == known:
                _lose(local, [known])


def doubt_pack(local: Local, digest: Digest) -> bool:
    """Look again at a pack that could not be read as the index believes, and correct the belief.

    Returns:
        Whether it is here, and all its bytes are right.
    """
    name = local.objects.pack_name(digest)
    local.let_go(name)
    try:
        read_pack(local.path(name), digest)
    except FileNotFoundError:
        _give_up(local, digest)
        return False
    except IntegrityError:
        _salvage(local, digest)
        return False
    return True


def is_readable(local: Local, known: Stored) -> bool:
    """Return whether an object is stored as `known` says."""
    try:
        local.objects.get(known)
    except (NotFoundError, IntegrityError):
        return False
    return True


def put_in_place(local: Local, pack: Pack, path: Path) -> None:
    """Give the finished file of a pack its name."""
    local.take_in(path, local.objects.pack_name(pack.digest))


def moves_into(pack: Pack, members: Iterable[Stored]) -> Iterator[tuple[Stored, Stored]]:
    """Yield how each of `members` was stored, and how it is in the new pack, if it is."""
    new = {known.digest: known for known in pack.members()}
    yield from ((known, new[known.digest]) for known in members if known.digest in new)


def _doubt_dictionary(local: Local, digest: Digest) -> bool:
    """Return whether a dictionary is missing or bad; then it is no longer believed to be here."""
    if local.has_dictionary(digest):
        return False
    local.doubt(digest)
    return not local.has_dictionary(digest)


def _give_up(local: Local, digest: Digest) -> None:
    """Stop believing in a pack whose file is gone."""
    with local.index.writing() as connection:
        if local.path(local.objects.pack_name(digest)).exists():
            return  # another process brought it meanwhile
        leave_pack(connection, digest)
        _lose(local, members_of(local.index, digest))


def _salvage(local: Local, digest: Digest) -> None:
    """Save what is good of a bad pack, and put it aside: the new file first, then the index, then the old."""
    name = local.objects.pack_name(digest)
    with local.index.writing() as connection:
        members = members_of(local.index, digest)
        pack = _save(local, members)
        if pack is not None:
            put_pack(connection, pack, here=True)
            move_objects(connection, moves_into(pack, members))
        if pack is None or pack.digest != digest:  # the same where its table of contents alone was bad
            leave_pack(connection, digest)
            _lose(local, members_of(local.index, digest))
    with local.index.writing() as connection:
        if not is_pack_here(connection, digest):
            local.quarantine(name)
    local.let_go(name)


def _save(local: Local, members: list[Stored]) -> Pack | None:
    """Write those of a pack's objects that are good into a new pack."""
    needed = next((known.place.dictionary for known in members if known.place is not None), None)
    with local.objects.spooled() as path:
        try:
            dictionary = None if needed is None else local.objects.dictionaries(needed)
        except (NotFoundError, IntegrityError):  # nothing can be checked without it
            return None
        with create(path) as file:
            pack, _ = write_pack(local, members, file, dictionary)
        if pack is not None:
            put_in_place(local, pack, path)
    return pack


def _lose(local: Local, lost: Iterable[Stored]) -> None:
    """Believe in other copies here of objects that cannot be read where they were, or else no longer."""
    gone = {known.digest: known for known in lost}
    with local.index.writing() as connection:
        for known in _found_again(local, gone):
            move_objects(connection, [(gone.pop(known.digest), known)])
        lose_objects(connection, gone)


def _found_again(local: Local, gone: dict[Digest, Stored]) -> Iterator[Stored]:
    """Yield good copies of objects, in files of their own and in other packs."""
    for digest in list(gone):
        with contextlib.suppress(FileNotFoundError, IntegrityError):
            yield examine(local.path(local.objects.name(digest)), Stored(digest, UNKNOWN, 0))
    for info in packs_here(local.index):
        if not gone:
            return
        with contextlib.suppress(FileNotFoundError, IntegrityError):
            contents = read_contents(local.path(local.objects.pack_name(info.digest)))
            for known in contents.stored(info.digest):
                if known.digest in gone and known != gone[known.digest] and is_readable(local, known):
                    yield known
