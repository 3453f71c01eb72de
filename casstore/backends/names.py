"""Which names, ranges and targets a backend accepts.  Floor: backends.

Names are spelled by the layout from validated digests; this is the second lock on the same door, so that no
text ever leaves a store's root. It knows the shape of a name, not what any name means.
"""

from __future__ import annotations

import re
from pathlib import Path

from casstore.errors import BackendError, FormatError

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*+"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*+")


def check_name(name: str) -> str:
    """Return `name` where every part is plain ASCII and starts with a letter, a digit or ``_``.

    So a part is never empty, ``.``, ``..`` or hidden, and a name never absolute.

    Raises:
        FormatError: `name` is anything else.
    """
    if _NAME.fullmatch(name):
        return name
    raise FormatError(f"not a name inside a store: {name[:80]!r}")


def check_folder(folder: str) -> str:
    """Return `folder` where it is a name, or empty for the whole store.

    Raises:
        FormatError: `folder` is neither.
    """
    return check_name(folder) if folder else folder


def check_range(start: int, length: int) -> None:
    """Accept a range that lies forward.

    Raises:
        FormatError: `start` or `length` is negative; some backends would count from the end.
    """
    if start < 0 or length < 0:
        raise FormatError(f"not a range of bytes: {length} from {start}")


def check_target(path: Path) -> None:
    """Accept a local file that can be made: a missing folder must not be taken for a missing name.

    Raises:
        BackendError: The folder of `path` is not there, or `path` is a folder.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise BackendError(f"cannot make the file {path}: its folder is missing, or it is a folder itself")


def is_listed(name: str) -> bool:
    """Tell whether a listing shows `name`: hidden parts are unfinished writes or belong to the system."""
    return not name.startswith(".") and "/." not in name
