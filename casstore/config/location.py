"""Where the local store is, and folders as URLs.  Floor: config.

Knows the environment and the platform's folders, nothing of what a store holds.
"""

from __future__ import annotations

import os
from pathlib import Path

from casstore.errors import ConfigError

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


def file_url(path: str | Path) -> str:
    """Return the ``file://`` URL of an absolute path, whose every character stands for itself but ``%``."""
    return "file://" + str(path).replace("%", "%25")


def file_path(url: str) -> str:
    """Return the path that a ``file://`` URL names: ``%20`` is a space, as in every URL.

    Raises:
        ConfigError: It names none.
    """
    from urllib.parse import unquote

    path = unquote(url.partition("://")[2], errors="surrogateescape")
    if not path.startswith("/"):
        raise ConfigError(f"not an absolute path: {url!r}; write file:///{path}")
    if "\0" in path:
        raise ConfigError(f"no folder has such a name: {url!r}")
    return path
