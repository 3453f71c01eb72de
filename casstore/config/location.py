"""Where the local store is.  Floor: config.

Knows the environment and the platform's folders, nothing of what a store holds.
"""

from __future__ import annotations

import os
from pathlib import Path

STORE_VARIABLE = "CASSTORE_DIR"


def store_path(explicit: str | Path | None = None) -> Path:
    """Return the absolute folder of the local store.

    Args:
        explicit: The folder itself; without one, ``CASSTORE_DIR``, else ``casstore`` in the user's cache
            folder by the platform's convention (``~/.cache/casstore``, ``~/Library/Caches/casstore``).
    """
    chosen = explicit or os.environ.get(STORE_VARIABLE)
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))  # noqa: PTH100, PTH111 - Path.resolve() would follow symbolic links
    import platformdirs

    return platformdirs.user_cache_path("casstore")
