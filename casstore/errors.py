"""The error tree, arranged by what a caller does about an error.  Floor: errors.

- `CasstoreError`: the root

  - `NotFoundError`, also a KeyError: nothing there; treat it as a miss
  - `OfflineMissError`, also a KeyError: a miss where calls are forbidden; run online, or pull first
  - `IntegrityError`: bytes do not match their digest; fetch another copy
  - `FormatError`, also a ValueError: bytes or text casstore cannot read; upgrade, or distrust the source
  - `ConfigError`, also a ValueError: a setting or argument is wrong; change it
  - `NotEnoughCopiesError`: a drop would lose data; make another copy first
  - `BackendError`: storage failed; `transient` tells whether trying again may help

    - `ExistsError`: an exclusive write found the name taken
    - `RemoteGoneError`: a remote is no longer where it was; mount it, or begin it anew
"""

from __future__ import annotations


class CasstoreError(Exception):
    """The root of every error casstore raises on purpose."""

    def __str__(self) -> str:
        # KeyError, a base of two classes below, would quote the message.
        return str(self.args[0]) if self.args else (self.__doc__ or "").partition("\n")[0]


class NotFoundError(CasstoreError, KeyError):
    """Nothing is stored under that name, digest or key."""


class OfflineMissError(CasstoreError, KeyError):
    """Calls are forbidden, and the answer is not stored."""


class IntegrityError(CasstoreError):
    """Stored bytes do not match their digest or their recorded size."""


class FormatError(CasstoreError, ValueError):
    """Bytes or text that this version of casstore cannot or must not read."""


class ConfigError(CasstoreError, ValueError):
    """A setting, a URL or an argument is wrong."""


class NotEnoughCopiesError(CasstoreError):
    """Dropping the local copy would leave too few copies elsewhere."""


class BackendError(CasstoreError):
    """Storage could not do what was asked.

    Attributes:
        transient: True where the same request may succeed later (a timeout, a 503).
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.transient))


class ExistsError(BackendError):
    """An exclusive write found the name taken."""


class RemoteGoneError(BackendError):
    """Where a remote was that this store knows, there is no store any more."""


def malformed(error: Exception) -> str:
    """Return what is wrong with data, from the exception that reading it raised, without Python's words.

    Args:
        error: What a parser raised, or code that looks into parsed data: a KeyError, a TypeError, ...
    """
    if isinstance(error, KeyError) and error.args and not isinstance(error, CasstoreError):
        return f"{error.args[0]} is missing"
    known = next((text for kind, text in _MALFORMED if isinstance(error, kind)), "")
    return known or str(error) or "a value is not what it should be"


_MALFORMED: tuple[tuple[type[Exception], str], ...] = (
    (CasstoreError, ""),
    (KeyError, "a part is missing"),
    (IndexError, "it ends too early"),
    (UnicodeError, "its text is not UTF-8"),
    (RecursionError, "it is nested too deeply"),
    (TypeError, "a part has another type than expected"),
    (AttributeError, "a part has another type than expected"),
)
"""What the classes mean; others are parsers', which say in their own sentences what is wrong, and where."""


def _rebuild(kind: type[BackendError], message: str, transient: bool) -> BackendError:
    return kind(message, transient=transient)
