"""What people read when storage fails: what happened, why and what to do; never an exception's name."""

from __future__ import annotations

import builtins
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import fsspec.exceptions
import pytest
import s3fs.utils
from botocore import exceptions as aws
from botocore import parsers
from s3fs.errors import ERROR_CODE_TO_EXCEPTION

from casstore.backends.base import Backend
from casstore.backends.filesystem import FsspecBackend
from casstore.backends.local import LocalBackend
from casstore.backends.s3 import S3Backend
from casstore.errors import (
    BackendError,
    CasstoreError,
    ConfigError,
    ExistsError,
    IntegrityError,
    NotFoundError,
)
from tests.unit.backends.faults import DriverError, FailingFileSystem, exceptions_of, faults

_MODULES = (builtins, socket, ssl, aiohttp.client_exceptions, aws, parsers, s3fs.utils, fsspec.exceptions)
CLASSES = {kind.__name__ for module in _MODULES for kind in exceptions_of(module)} - {"error", "timeout"}
PYTHON = re.compile(r"\b[A-Za-z.]*[a-z](Error|Exception)\b|\[Errno|\b0x[0-9a-f]+|<\w+|\bb'|_ssl\.c|NoneType")
"""Traces of Python in a text; codes of S3 that look so are taken out first."""

_WRAPPED = (socket.gaierror, ssl.SSLCertVerificationError, ssl.SSLEOFError, ConnectionRefusedError)
S3_CODES = sorted(ERROR_CODE_TO_EXCEPTION, key=len, reverse=True)
SHAPE = re.compile(r"cannot (read|write|delete|list|use) [^:]+(://\S*)?: [^:]+(: |; )[^ ].*")
VERBS = (
    "ask bypass check choose close correct create free get have lower mount move name raise renew restore run"
    " set settle sign start store try use"
)
"""What advice begins with."""

OPERATIONS: dict[str, Callable[[Backend, Path], object]] = {
    "read": lambda backend, _: backend.read("objects/a"),
    "read_range": lambda backend, _: backend.read_range("objects/a", 0, 5),
    "download": lambda backend, folder: backend.download("objects/a", folder / "down"),
    "write": lambda backend, _: backend.write("objects/a", b"x"),
    "upload": lambda backend, folder: backend.upload(folder / "file", "objects/a"),
    "delete": lambda backend, _: backend.delete("objects/a"),
    "list": lambda backend, _: list(backend.list("manifest")),
}


def _s3(fault: Exception) -> Backend:
    backend = S3Backend("bucket", "team")
    backend._filesystems[os.getpid()] = FailingFileSystem(fault)
    return backend


def _fsspec(fault: Exception) -> Backend:
    return FsspecBackend(lambda: FailingFileSystem(fault), "team", url="gs://bucket/team", atomic_put=True)


def _messages(fault: Exception, backend: Backend, folder: Path) -> Iterator[CasstoreError]:
    """Yield what each operation raises, where it does not take the fault for "nothing there"."""
    for operation in OPERATIONS.values():
        try:
            operation(backend, folder)
        except CasstoreError as error:
            yield error


def _check(error: CasstoreError, fault: Exception) -> None:
    told = str(error)
    for code in S3_CODES:
        told = told.replace(code, "")
    assert not PYTHON.search(told), told
    assert not CLASSES & set(re.findall(r"\w+", told)), told
    assert not fault.args or repr(fault) not in told, told
    if isinstance(error, BackendError | ConfigError) and not isinstance(error, ExistsError):
        told = re.sub(r' and says ".*"', "", told)
        assert SHAPE.fullmatch(told), told
        advice = re.split(r"[:;] (?!aws |AWS)", told)[-1]
        assert advice.split()[0] in VERBS.split(), told
    else:
        assert isinstance(error, NotFoundError | ExistsError | IntegrityError), told


@pytest.mark.parametrize("make", [_s3, _fsspec])
def test_no_message_is_an_exceptions_name(make: Callable[[Exception], Backend], tmp_path: Path) -> None:
    """Whatever a driver raises, the message has a cause and advice in words, and no trace of Python."""
    (tmp_path / "file").write_bytes(b"x")
    told = {
        str(error): (error, fault) for fault in faults() for error in _messages(fault, make(fault), tmp_path)
    }
    for error, fault in told.values():
        _check(error, fault)
    assert len(told) > 300


def test_no_local_message_is_an_exceptions_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local store gives each number of the system a cause and advice."""
    (tmp_path / "file").write_bytes(b"x")
    backend = LocalBackend(folder)
    backend.write("objects/a", b"content")
    checked = 0
    for fault in faults():
        if not isinstance(fault, OSError) or type(fault).__module__ != "builtins":
            continue

        def fail(*_: object, fault: Exception = fault, **__: object) -> None:
            raise fault

        with monkeypatch.context() as patch:
            for name in ("open", "unlink", "scandir"):
                patch.setattr(os, name, fail)
            errors = list(_messages(fault, backend, tmp_path))
        for error in errors:
            _check(error, fault)
            checked += 1
    assert checked > 500


@pytest.mark.parametrize(
    ("fault", "words", "transient"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "the host's name cannot be resolved", True),
        (ssl.SSLCertVerificationError(1, "x"), "certificate is not trusted", False),
        (ssl.SSLEOFError(8, "x"), "the connection broke", True),
        (ConnectionRefusedError(111, "x"), "nothing listens at that address", True),
        (aiohttp.ServerDisconnectedError(), "the connection broke", True),
        (aws.ReadTimeoutError(endpoint_url="https://h/b/k", error=None), "no answer came in time", True),
        (aws.ProfileNotFound(profile="lab"), "AWS has no profile lab", None),
        (aws.NoCredentialsError(), "no AWS credentials", False),
        (aws.UnauthorizedSSOTokenError(), "aws sso login", False),
        (parsers.ResponseParserError("x"), "the answer is not one of S3", False),
        (RecursionError("maximum recursion depth exceeded"), "the storage driver failed", False),
    ],
)
def test_causes(fault: Exception, words: str, transient: bool | None, tmp_path: Path) -> None:
    """What lies beneath is named, also where a client has wrapped it, and tells whether to try again."""
    wrapped = aws.HTTPClientError(error=fault) if type(fault) in _WRAPPED else fault
    for each in (fault, wrapped):
        with pytest.raises((BackendError, ConfigError), match=words) as caught:
            _s3(each).read("objects/a")
        assert getattr(caught.value, "transient", None) is transient


def test_a_drivers_own_sentence_is_quoted(tmp_path: Path) -> None:
    """Where nothing but the driver's own sentence is known it is quoted, without the class that began it."""
    fault = DriverError("HttpError: the billing account of project x is closed")
    with pytest.raises(BackendError, match='and says "the billing account of project x is closed"'):
        _fsspec(fault).read("objects/a")
