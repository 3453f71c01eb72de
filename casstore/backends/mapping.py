"""Errors of the system and of drivers as casstore's own.  Floor: backends.

The one place that decides what an errno or an HTTP status means to a caller, by type and code, never by text.
It knows nothing of S3; the module `s3_errors` does, and comes here with what is left.
"""

from __future__ import annotations

import errno

from casstore.errors import BackendError, CasstoreError, ExistsError, IntegrityError, NotFoundError

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, or lower max_size and evict",
    errno.EDQUOT: "the disk quota is used up: free some space, or lower max_size and evict",
    errno.EACCES: "permission denied: check who owns the folder and its mode",
    errno.EPERM: "the operation is not permitted: check who owns the folder and its mode",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOTDIR: "a file is where a folder should be",
}
_MISSING_STATUS = frozenset({404, 410})
_PRECONDITION_FAILED = 412
_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Timeouts, conflicts of concurrent requests, throttling, and servers in trouble."""


def from_os_error(error: OSError, action: str, name: str, url: str) -> CasstoreError:
    """Return the error to raise in place of `error`.

    Args:
        error: What the operating system said.
        action: ``read``, ``write``, ``delete`` or ``list``; only what is read can be missing.
        name: The name it was about.
        url: The store, for people to read.
    """
    if isinstance(error, FileExistsError):
        return taken(name, url)
    if action == "read" and (error.errno in _MISSING or isinstance(error, FileNotFoundError)):
        return missing(name, url)
    passing = error.errno in _PASSING or isinstance(error, (TimeoutError, ConnectionError))
    return failed(action, name, url, _reason(error), transient=passing)


def from_driver_error(error: Exception, action: str, name: str, url: str) -> CasstoreError:
    """Return the error to raise in place of whatever an fsspec driver raised."""
    if isinstance(error, OSError):
        return from_os_error(error, action, name, url)
    if isinstance(error, NotImplementedError):
        return failed(action, name, url, f"this kind of storage cannot {action}")
    reason = f"{type(error).__name__}: {error}"
    # Drivers for HTTP services keep the status under one of these names.
    for attribute in ("status", "status_code", "code"):
        status = getattr(error, attribute, None)
        if isinstance(status, int):
            return from_status(status, action, name, url, reason)
    return failed(action, name, url, reason)


def from_status(status: int, action: str, name: str, url: str, reason: str) -> CasstoreError:
    """Return the error that an HTTP status means."""
    if status in _MISSING_STATUS and action == "read":
        return missing(name, url)
    if status == _PRECONDITION_FAILED:
        return taken(name, url)
    return failed(action, name, url, reason, transient=status in _PASSING_STATUS)


def missing(name: str, url: str) -> NotFoundError:
    """Return the error for a name that is not there."""
    return NotFoundError(f"{name} is not in {url}")


def taken(name: str, url: str) -> ExistsError:
    """Return the error for an exclusive write to a name that is there."""
    return ExistsError(f"{name} is already in {url}")


def failed(action: str, name: str, url: str, reason: str, *, transient: bool = False) -> BackendError:
    """Return the error for anything else."""
    return BackendError(f"cannot {action} {name or 'the store'} in {url}: {reason}", transient=transient)


def short_range(name: str, url: str, start: int, length: int, got: int) -> IntegrityError:
    """Return the error for a range that ends before it should."""
    return IntegrityError(
        f"{name} in {url} is too short: {length} bytes from {start} were asked for, {got} are there"
    )


def _reason(error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0)
    if advice is None and isinstance(error, PermissionError):
        advice = _ADVICE[errno.EACCES]
    return advice or error.strerror or str(error) or type(error).__name__
