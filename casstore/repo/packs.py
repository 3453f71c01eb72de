"""The packs of the local store: looked at again when one turns out bad.  Floor: repo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from casstore.catalog.index import remove_pack
from casstore.errors import IntegrityError
from casstore.store.pack import read_pack

if TYPE_CHECKING:
    from casstore.digest import Digest
    from casstore.repo.local import Local


def doubt_pack(local: Local, digest: Digest) -> None:
    """Look again at a pack that could not be read as the index believes, and correct the belief."""
    name = local.objects.pack_name(digest)
    with local.index.writing() as connection:
        remove_pack(connection, digest)
        try:
            pack = read_pack(local.path(name), digest)
        except FileNotFoundError:
            return
        except IntegrityError:
            local.quarantine(name)
            return
        local.adopt(pack, used=0)
