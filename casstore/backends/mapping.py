"""Errors of the system and of storage drivers as casstore's own: the one place that decides their type.

By errno, HTTP status and class, never by text; the words are in `reasons`. Must not know S3: `s3_errors`
does, and calls this module for the rest.
"""

from __future__ import annotations

import errno

from casstore.backends.reasons import Reason, of_connection, of_os_error, of_status, quote
from casstore.errors import BackendError, CasstoreError, ExistsError, IntegrityError, NotFoundError

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_MISSING_STATUS = frozenset({404, 410})
_PRECONDITION_FAILED = 412
_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Timeouts, conflicts of concurrent requests, throttling, and servers in trouble."""

_STATUSES = range(300, 600)
_UNKNOWN = "check the remote's URL, and the settings and version of its driver"


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
    return because(of_os_error(error), action, name, url)


def from_driver_error(error: Exception, action: str, name: str, url: str) -> CasstoreError:
    """Return the error to raise in place of whatever an fsspec driver raised."""
    status = _status(error)
    if status is not None:
        return from_status(status, action, name, url, of_status(status, quote(error)).text)
    if isinstance(error, OSError):
        return from_os_error(error, action, name, url)
    if isinstance(error, NotImplementedError):
        return failed(action, name, url, f"this kind of storage cannot {action}: use another for this store")
    if isinstance(error, MemoryError):
        return failed(action, name, url, "no memory is left: close some programs, and try again")
    reason = of_connection(error)
    if reason is not None:
        return because(reason, action, name, url)
    return failed(action, name, url, f"the storage driver failed{quote(error)}: {_UNKNOWN}")


def _status(error: Exception) -> int | None:
    """Return the HTTP status of `error`; drivers keep it under one of these names, the newest first."""
    for attribute in ("status", "status_code", "code"):
        status = getattr(error, attribute, None)
        if isinstance(status, int):
            return status if status in _STATUSES else None
    return None


def from_status(status: int, action: str, name: str, url: str, reason: str) -> CasstoreError:
    """Return the error that an HTTP status means."""
    if status in _MISSING_STATUS and action == "read":
        return missing(name, url)
    if status == _PRECONDITION_FAILED:
        return taken(name, url)
    return failed(action, name, url, reason, transient=status in _PASSING_STATUS)


def because(reason: Reason, action: str, name: str, url: str) -> BackendError:
    """Return the error for what failed for `reason`."""
    return failed(action, name, url, reason.text, transient=reason.transient)


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
