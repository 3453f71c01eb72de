"""Why an operation on storage failed, in words: a cause and what to do about it, from an exception's type.

Must not show a class name or the text that Python makes of an exception. What a server or a driver says in a
sentence of its own is quoted where nothing else is known.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from casstore.errors import CasstoreError

_NO_ROUTE = "the server cannot be reached: check its address, the network and the VPN"
_BROKEN = "the connection broke: check the network, and try again"
_BUSY = "it is in use: try again later"
_DEVICE_GONE = "the disk or share is gone: mount it again"
_QUOTA = "the disk quota is used up: free some space, or lower max_size and evict"
_TIMED_OUT = "no answer came in time: check the network and the server, and try again"
_NO_SERVER = "nothing listens at that address: start the server, or correct the address and port"
_DENIED = "permission denied: check who owns the folder and its mode"

_ERRNO = {
    errno.EACCES: _DENIED,
    errno.EADDRNOTAVAIL: _NO_ROUTE,
    errno.EAGAIN: _BUSY,
    errno.EBUSY: _BUSY,
    errno.ECONNABORTED: _BROKEN,
    errno.ECONNREFUSED: _NO_SERVER,
    errno.ECONNRESET: _BROKEN,
    errno.EDQUOT: _QUOTA,
    errno.EFBIG: "the file is larger than the file system or `ulimit -f` allows: raise the limit",
    errno.EHOSTDOWN: _NO_ROUTE,
    errno.EHOSTUNREACH: _NO_ROUTE,
    errno.EIO: "the disk or share reports an error: check it, and try again",
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.ELOOP: "the path has a circle of symbolic links: correct them",
    errno.EMFILE: "this process has too many files open: close some, or raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "the path is too long for the file system: choose a folder with a shorter path",
    errno.ENETDOWN: _NO_ROUTE,
    errno.ENETUNREACH: _NO_ROUTE,
    errno.ENFILE: "the system has too many files open: close some programs, and try again",
    errno.ENODEV: _DEVICE_GONE,
    errno.ENOENT: "the folder does not exist: create it, mount it, or correct the path",
    errno.ENOMEM: "no memory is left: close some programs, and try again",
    errno.ENOSPC: "the disk is full: free some space, or lower max_size and evict",
    errno.ENOTCONN: _DEVICE_GONE,
    errno.ENOTDIR: "a file is where a folder should be: move it away",
    errno.ENXIO: _DEVICE_GONE,
    errno.EPERM: "the operation is not permitted: check who owns the folder and its mode",
    errno.EPIPE: _BROKEN,
    errno.EROFS: "the file system is mounted read-only: mount it for writing, or choose another folder",
    errno.ESTALE: "the share's server no longer has this file or folder open: mount the share again",
    errno.ETIMEDOUT: _TIMED_OUT,
}
_TYPES: tuple[tuple[type[OSError], int], ...] = (
    (PermissionError, errno.EACCES),
    (FileNotFoundError, errno.ENOENT),
    (NotADirectoryError, errno.ENOTDIR),
    (IsADirectoryError, errno.EISDIR),
    (ConnectionRefusedError, errno.ECONNREFUSED),
    (ConnectionError, errno.ECONNRESET),
    (TimeoutError, errno.ETIMEDOUT),
    (BlockingIOError, errno.EAGAIN),
)
"""What drivers raise without a number, and the number that it stands for."""

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

_STATUS = {
    401: "the credentials are missing or not valid: set them up as the storage's driver asks",
    402: "the account has to be paid for: settle that with the provider",
    403: "access denied: have the credentials granted this, or choose others",
    404: "the bucket or folder does not exist: create it, or correct the remote's URL",
    405: "the server allows no such request here: correct the remote's URL",
    407: "the proxy wants credentials: set them in HTTPS_PROXY, or bypass it with NO_PROXY",
    413: "the server accepts nothing so large: raise its limit, or use another",
    429: "the server takes no more requests for now: try again later",
    507: "the storage is full: free some space, or ask its operator for more",
}
_REDIRECTS = range(300, 400)
_SERVER_ERRORS = range(500, 600)

_CLASS_NAME = re.compile(r"\b[\w.]*[a-z](?:Error|Exception|Warning|Exit|Interrupt)\b(?:\([^)]*\))?:?")
_PYTHON = re.compile(
    r"<[^<>]*>|\(_ssl\.c:\d+\)|\[SSL: \w+\]|\[Errno -?\d+\]|\b0x[0-9a-f]{6,}\b|\bb(['\"]).*?\1"
)
_BUGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RecursionError,
    TypeError,
    UnicodeError,
)
"""What a mistake in a driver raises: their texts speak of its code."""

_ARGUMENTS = re.compile(r"\w=['\"]")
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")
"""What follows the path of a URL may be a signature."""

_SENTENCE = 200


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something failed, and whether the same request may succeed later."""

    text: str
    transient: bool = False


BROKEN = Reason(_BROKEN, transient=True)
TIMED_OUT = Reason(_TIMED_OUT, transient=True)
_INSECURE = Reason("no secure connection could be made: check whether the address is http:// or https://")
_UNRESOLVED = Reason("the host's name cannot be resolved: check it, the network and the VPN", transient=True)
_UNTRUSTED = Reason(
    "the server's certificate is not trusted: check the address and this machine's clock, and name your own"
    " authority's certificates in SSL_CERT_FILE (for S3: AWS_CA_BUNDLE)"
)


def of_os_error(error: OSError) -> Reason:
    """Return the reason of an error of the operating system, or of Python's `socket` or `ssl`."""
    special = _of_network(error)
    if special is not None:
        return special
    number = error.errno if error.errno in errno.errorcode else _number(error)
    if number in _ERRNO:
        return Reason(_ERRNO[number], transient=number in _PASSING)
    if number:
        name = errno.errorcode[number]
        return Reason(f"the system answers {name} ({_text(error)}): check the disk or share, and try again")
    return of_connection(error) or _unknown(error)


def words(error: Exception) -> str:
    """Return what went wrong, for any exception: our own message, or the reason that its class stands for."""
    if isinstance(error, CasstoreError):
        return str(error)
    if isinstance(error, OSError):
        where = f"cannot use {error.filename}: " if isinstance(error.filename, str) else ""
        return where + of_os_error(error).text
    if isinstance(error, MemoryError):
        return "no memory is left: close some programs, and try again"
    return f"an unexpected fault{quote(error)}: report it, with what the logger casstore shows at level DEBUG"


def of_status(status: int, sentence: str = "") -> Reason:
    """Return the reason of an answer with an HTTP status; `sentence` is a quotation by `quote`, or empty."""
    if status in _STATUS:
        return Reason(_STATUS[status])
    if status in _SERVER_ERRORS:
        return Reason(f"the server has an error (HTTP status {status}){sentence}: try again later")
    if status in _REDIRECTS:
        return Reason(f"the server redirects the request (HTTP status {status}): correct the remote's URL")
    return Reason(f"the server refuses the request (HTTP status {status}){sentence}: check the remote's URL")


def of_connection(error: BaseException) -> Reason | None:
    """Return the reason that lies beneath the error of an HTTP client; None where none is known."""
    for each in causes(error):
        if isinstance(each, OSError) and (each.errno or _of_network(each) or _number(each)):
            return of_os_error(each)
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and the errors it was made of: by `raise from`, or as an attribute of a client's."""
    seen: set[int] = set()
    following: list[object] = [error]
    while following:
        each = following.pop(0)
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = getattr(each, "kwargs", None)  # of botocore
        following += [
            getattr(each, "certificate_error", None),  # of aiohttp
            getattr(each, "os_error", None),  # of aiohttp
            inner.get("error") if isinstance(inner, dict) else None,
            each.__cause__,
        ]


def quote(error: BaseException | str) -> str:
    """Return what `error` says in words, as the end of a clause; empty where Python alone made the text."""
    if isinstance(error, _BUGS):
        return ""
    text = _CLASS_NAME.sub(" ", _QUERY.sub(r"\1", " ".join(str(error).split())))
    text = " ".join(_PYTHON.sub(" ", text).split()).strip(" .,:;()")[:_SENTENCE]
    return f' and says "{text}"' if " " in text and not _ARGUMENTS.search(text) else ""


def _of_network(error: OSError) -> Reason | None:
    """Return the reason of an error of `socket` or `ssl`, whose numbers are none of the system's.

    Neither is imported here: what raised their errors has done so.
    """
    socket, ssl = sys.modules.get("socket"), sys.modules.get("ssl")
    if socket is not None and isinstance(error, (socket.gaierror, socket.herror)):
        return _UNRESOLVED
    if ssl is not None and isinstance(error, ssl.SSLError):
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return BROKEN
        return _UNTRUSTED if isinstance(error, ssl.SSLCertVerificationError) else _INSECURE
    return None


def _unknown(error: OSError) -> Reason:
    return Reason(f"the storage driver failed{quote(error)}: check the remote's URL, and try again")


def _number(error: OSError) -> int:
    return next((number for kind, number in _TYPES if isinstance(error, kind)), 0)


def _text(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
