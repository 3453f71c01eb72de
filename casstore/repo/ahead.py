"""Fetching ahead: when several misses fall into one pack, the rest of it is brought too.  Floor: repo.

Whoever re-runs a pipeline asks for its entries in the order they were written, which is the order in a pack.
So a few misses in one pack promise many. The pack comes in a thread of its own, off the caller's path; until
it is here, each miss costs its one ranged read.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from casstore.catalog.index import now
from casstore.errors import CasstoreError, IntegrityError, NotFoundError

if TYPE_CHECKING:
    from casstore.digest import Digest
    from casstore.repo.local import Local
    from casstore.repo.remote import Remote

MISSES = 3
"""Misses in one pack after which it is fetched whole: fewer may be chance, and a pack is some 16 MiB."""


class Ahead:
    """Fetches packs ahead, one at a time, as long as the size cap has room for them.

    Args:
        local: Where to.
        max_size: The size cap.
    """

    def __init__(self, local: Local, max_size: int) -> None:
        self._local = local
        self._max_size = max_size
        self._misses: dict[Digest, int] = {}
        self._bad: set[Digest] = set()
        self._thread: threading.Thread | None = None

    def missed(self, remote: Remote, pack: Digest) -> None:
        """Note that an object of a pack was fetched alone, and fetch the pack if it was one too many."""
        count = self._misses[pack] = self._misses.get(pack, 0) + 1
        if count < MISSES or pack in self._bad or (self._thread is not None and self._thread.is_alive()):
            return
        info = self._local.index.packs([pack]).get(pack)
        if info is None or info.here or self._local.index.evictable() + info.stored > self._max_size:
            return
        self._misses.pop(pack, None)
        self._thread = threading.Thread(
            target=self._fetch, args=(remote, pack), name="casstore-ahead", daemon=True
        )
        self._thread.start()

    def join(self) -> None:
        """Wait for what is under way."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None

    def _fetch(self, remote: Remote, pack: Digest) -> None:
        # It was only an attempt: whoever needs an object of it fetches that, and is told what is wrong.
        try:
            found = self._local.bring_pack(remote.objects(), pack)
            self._local.adopt(found, used=now())
        except (NotFoundError, IntegrityError):
            self._bad.add(pack)  # else every few misses would fetch all of it again
        except CasstoreError:
            return
