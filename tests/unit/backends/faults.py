"""Every exception that storage, its drivers or the network may raise, and a driver that raises it."""

from __future__ import annotations

import errno
import inspect
import os
import socket
import ssl
import string
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp
import fsspec.exceptions
import s3fs.errors
import s3fs.utils
from botocore import exceptions as aws
from botocore import httpchecksum, parsers
from fsspec import AbstractFileSystem
from multidict import CIMultiDict
from yarl import URL

_REQUEST = SimpleNamespace(real_url=URL("https://host/bucket/key"), headers=CIMultiDict(), method="GET")
_CONNECTION = SimpleNamespace(host="host", port=443, ssl=True, is_ssl=True)


class DriverError(Exception):
    """An exception of a driver that casstore knows nothing of.

    Args:
        text: What it says.
        status: The HTTP status it keeps, as those of some services do.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status_code = status


class FailingFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A driver that raises one exception, whatever it is asked.

    Args:
        fault: The exception.
    """

    protocol = "failing"
    cachable = False
    _s3 = None

    def __init__(self, fault: Exception) -> None:
        super().__init__(skip_instance_cache=True)
        self.fault = fault

    def _fail(self, *_: object, **__: object) -> Any:
        raise self.fault

    call_s3 = cat_file = exists = find = get_file = makedirs = mv = pipe_file = put_file = rm_file = _fail


def exceptions_of(module: ModuleType) -> list[type[Exception]]:
    """Return the classes of exceptions that `module` shows, warnings left out."""
    found = {each for each in vars(module).values() if inspect.isclass(each) and issubclass(each, Exception)}
    return sorted((each for each in found if not issubclass(each, Warning)), key=lambda each: each.__name__)


def faults() -> Iterator[Exception]:
    """Yield one exception of each class and number."""
    yield from _of_the_system()
    yield from _of_sockets()
    yield from _of_aiohttp()
    yield from _of_botocore()
    yield from _of_s3fs()
    yield from _of_python()
    for status in (None, 301, 400, 401, 402, 403, 404, 405, 407, 408, 409, 413, 418, 429, 500, 503, 507):
        yield DriverError("HttpError: <Response [4]> b'no such thing' at 0x7f0012345678", status)
        yield DriverError("the account is closed", status)


def _of_the_system() -> Iterator[Exception]:
    for number in errno.errorcode:
        yield OSError(number, os.strerror(number), "/a/path")
    kinds: list[type[OSError]] = [OSError, *OSError.__subclasses__()]
    for kind in kinds:
        if kind.__module__ == "builtins":
            yield kind()
            yield kind("[Errno 5] 'a driver' failed")
    yield from (ConnectionResetError(), ConnectionRefusedError(), ConnectionAbortedError(), BrokenPipeError())


def _of_sockets() -> Iterator[Exception]:
    for name in dir(socket):
        if name.startswith("EAI_"):
            yield socket.gaierror(getattr(socket, name), "Name or service not known")
    yield socket.herror(1, "Unknown host")
    for kind in exceptions_of(ssl):
        yield kind(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")


def _of_aiohttp() -> Iterator[Exception]:
    broken = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")
    for kind in exceptions_of(aiohttp.client_exceptions):
        try:
            wanted = set(inspect.signature(kind).parameters)
        except ValueError:  # of those that Python's own OSError makes
            wanted = set()
        given: dict[str, Any] = {
            "path": "/a/socket",
            "connection_key": _CONNECTION,
            "os_error": broken,
            "certificate_error": ssl.SSLCertVerificationError(1, "certificate verify failed"),
            "request_info": _REQUEST,
            "history": (),
            "url": "not://a url",
            "expected": b"1",
            "got": b"2",
            "host": "host",
            "port": 443,
        }
        yield kind(**{name: value for name, value in given.items() if name in wanted})


def _of_botocore() -> Iterator[Exception]:
    kinds: list[Any] = [kind for kind in exceptions_of(aws) if not issubclass(kind, aws.ClientError)]
    for kind in kinds:
        if not issubclass(kind, aws.BotoCoreError):
            yield kind(service_name="s3") if kind is aws.MissingServiceIdError else kind("no such attribute")
            continue
        fields = {name for _, name, _, _ in string.Formatter().parse(kind.fmt) if name}
        extra: dict[str, Any] = {"last_response": {}} if kind is aws.WaiterError else {}
        yield kind(**dict.fromkeys(fields, "something"), **extra)
    for inner in (*_of_aiohttp(), *_of_sockets(), ValueError("an invalid thing")):
        yield aws.HTTPClientError(error=inner)
        yield aws.EndpointConnectionError(endpoint_url="https://host/bucket/key", error=inner)
        yield aws.SSLError(endpoint_url="https://host/bucket/key", error=inner)
    yield parsers.ResponseParserError("Unable to parse response (syntax error): b'<html>'")
    yield httpchecksum.FlexibleChecksumError(error_msg="Expected checksum x did not match y")


def _of_s3fs() -> Iterator[Exception]:
    for code in (*s3fs.errors.ERROR_CODE_TO_EXCEPTION, "Unheard", "403", "500", ""):
        for status in (301, 400, 403, 404, 409, 412, 416, 500, 503):
            yield s3fs.errors.translate_boto_error(_answer(code, status))
    yield s3fs.utils.FileExpired("bucket/key", "tag")
    yield fsspec.exceptions.FSTimeoutError()
    yield fsspec.exceptions.BlocksizeMismatchError("Cached file cannot be reopened")


def _answer(code: str, status: int) -> aws.ClientError:
    error = {"Code": code, "Message": "a sentence of the server's"}
    return aws.ClientError(
        {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}}, "GetObject"
    )


def _of_python() -> Iterator[Exception]:
    yield KeyError("Contents")
    yield RecursionError("maximum recursion depth exceeded in comparison")
    yield AttributeError("'NoneType' object has no attribute 'read'")
    yield TypeError("f() got an unexpected keyword argument 'x'")
    yield UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    for kind in (
        AssertionError,
        EOFError,
        IndexError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ):
        yield kind()
        yield kind("something of its own")
