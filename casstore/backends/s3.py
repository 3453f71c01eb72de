"""Bytes by name in an S3 bucket, through s3fs.  Floor: backends.

One request for one operation: no HEAD before a GET, no look before a list, no retry below ours, and the
count of what was truly sent. Credentials come by the ordinary AWS chain alone. The tests hold the installed
s3fs to all of this, request by request.
"""

from __future__ import annotations

import os
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult

import orjson
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest
from botocore.loaders import JSONFileLoader
from s3fs import S3FileSystem

from casstore.backends.base import Repeat
from casstore.backends.filesystem import FsspecBackend
from casstore.backends.multipart import (
    CONTENT_TYPE,
    PART_SIZE,
    PARTS_AT_ONCE,
    Content,
    Leaving,
    Upload,
    Window,
    count_parts,
)
from casstore.backends.progress import watched
from casstore.backends.redirects import UnredirectedSession, probe_regions_once
from casstore.backends.s3_answers import Request
from casstore.backends.s3_errors import from_s3_error
from casstore.errors import CasstoreError, ConfigError

POOL_SIZE = 32
"""Connections kept; as many as the transfer may ever have workers."""

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
"""Seconds without an answer before a request counts as failed, and may be sent again."""


_LISTS = (".ListObjectsV2", ".ListMultipartUploads")
"""How the events of those GET requests end that list a bucket."""

_T = TypeVar("_T")


class _Every(list[str]):
    """A list that has every name."""

    def __contains__(self, name: object) -> bool:
        return True


def _every_service(_kind: str) -> list[str]:
    """Return what botocore takes for the services that it knows.

    It would look into the folders of all of them, twice, which takes it half the time of making a client. A
    name that is none fails one step later.
    """
    return _Every()


class _ModelLoader(JSONFileLoader):  # type: ignore[misc]  # botocore has no types
    """Reads botocore's descriptions of services, some megabyte of JSON, with a faster parser than its own."""

    def _load_file(self, full_path: str, open_method: Callable[..., Any]) -> Any:
        try:
            with open_method(full_path, "rb") as file:
                return orjson.loads(file.read())
        except FileNotFoundError:  # it may have another ending
            return None


class S3Backend(FsspecBackend):
    """Bytes by name below a prefix of a bucket.

    Args:
        bucket: The bucket.
        prefix: The prefix, without slashes at its ends; may be empty.
        endpoint: The HTTP address of an S3 service other than AWS.
        region: The bucket's region, where AWS's own settings do not tell.
        profile: The AWS profile that has the credentials.
    """

    part_size = PART_SIZE

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        profile: str | None = None,
    ) -> None:
        root = f"{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._endpoint = endpoint
        self._region = region
        self._profile = profile
        self._slots: dict[int, threading.BoundedSemaphore] = {}
        self._ahead = 0.0
        self._listable: bool | None = None
        super().__init__(self._open, root, url=f"s3://{root}", atomic_put=True)

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:  # noqa: ARG002 - it is not moved
        """Make `name` hold the content of `path`; see `Backend.upload`."""
        self.upload_each(path, name, _once)

    def upload_each(self, path: Path, name: str, repeat: Repeat) -> None:
        """Make `name` hold the content of `path`; see `UploadsInParts`."""
        where = self._where(self._path(name))

        def call(method: str, **arguments: object) -> Mapping[str, Any]:
            with self._seam("write", name):
                answer: Mapping[str, Any] = self._filesystem().call_s3(method, **where, **arguments)
            return answer

        with self._seam("write", name), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if count_parts(size, self.part_size) > 1:
                Upload(call, repeat, self._free_slots(), where["Key"], file.fileno(), self.part_size).run()
            else:
                progress = watched()
                repeat(
                    lambda: call(
                        "put_object", Body=Window(file.fileno(), 0, size, progress), ContentType=CONTENT_TYPE
                    )
                )

    def _open(self) -> S3FileSystem:
        session = AioSession(profile=self._profile)
        session.register("before-send.s3", self._sent)
        session.register("after-call.s3", self._answered)
        probe_regions_once(session)
        models = session.get_component("data_loader")
        models.list_available_services = _every_service
        models.file_loader = _ModelLoader()
        filesystem = S3FileSystem(
            session=session,
            endpoint_url=self._endpoint,
            client_kwargs={"region_name": self._region} if self._region else {},
            config_kwargs=self._settings(),
            max_concurrency=1,  # more would send a HEAD before every GET
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        filesystem.retries = 1  # tries, that is; the retry is ours
        filesystem.close_session = partial(_close_session, os.getpid())
        return filesystem

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": POOL_SIZE,
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "http_session_cls": UnredirectedSession,
        }
        if self._endpoint:
            # Not every S3 service knows AWS's trailing checksums; what we read is checked by its digest.
            settings["request_checksum_calculation"] = "when_required"
            settings["response_checksum_validation"] = "when_required"
        return settings

    def _sent(self, request: AWSPreparedRequest, event_name: str, **_: object) -> None:
        """Count an HTTP request that is about to leave; botocore calls this for each."""
        verb = "LIST" if event_name.endswith(_LISTS) else request.method
        self._counter.add(verb)
        body = getattr(request.body, "_raw", request.body)  # as it is, or within AWS's chunks
        if isinstance(body, Leaving):
            body.leaves()

    def _answered(self, parsed: Mapping[str, Any], **_: object) -> None:
        """Learn the server's clock from an answer; botocore calls this for each."""
        headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if "date" in headers:
            with suppress(ValueError):
                self._ahead = parsedate_to_datetime(headers["date"]).timestamp() - time.monotonic()

    def now(self) -> int:
        """Return the server's time; this machine's before the first answer, and where none has a date."""
        return int((time.monotonic() + self._ahead) * 1000) if self._ahead else super().now()

    def _count(self, verb: str) -> None:
        """Leave the counting to `_sent`."""

    def _translate(self, error: Exception, action: str, name: str) -> CasstoreError:
        return from_s3_error(error, Request(action, name, self._url, self._own_endpoint(), self._may_list))

    def _own_endpoint(self) -> str | None:
        """Return the endpoint in use where the settings here, or AWS's variables and files, name one."""
        client = getattr(self._filesystems.get(os.getpid()), "_s3", None)
        used: str = "" if client is None else client.meta.endpoint_url
        return self._endpoint or (None if ".amazonaws.com" in used else used or None)

    def _may_list(self) -> bool:
        """Tell whether the credentials may list the bucket."""
        if self._listable is None:
            bucket, _, prefix = self._prefix.partition("/")
            try:
                self._filesystem().call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
                self._listable = True
            except PermissionError:
                self._listable = False
            except Exception:  # noqa: BLE001 - of any driver's type; the question is left open
                return True
        return self._listable

    def _disconnect(self, filesystem: S3FileSystem) -> None:
        if filesystem._s3 is not None:  # noqa: SLF001 - the property of the same meaning would connect
            filesystem.close_session(filesystem.loop, filesystem._s3creator)  # noqa: SLF001 - no public way

    def _put(self, filesystem: S3FileSystem, path: str, content: bytes, *, exclusive: bool) -> None:
        condition = {"IfNoneMatch": "*"} if exclusive else {}
        progress = watched()
        body = content if progress is None else Content(content, progress)
        filesystem.call_s3("put_object", **self._where(path), Body=body, **condition)

    def _where(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": path.removeprefix(f"{self._bucket}/")}

    def _free_slots(self) -> threading.BoundedSemaphore:
        """Return this process's slots; a fork must not inherit those that were taken."""
        return self._slots.setdefault(os.getpid(), threading.BoundedSemaphore(PARTS_AT_ONCE))

    def _remove(self, filesystem: S3FileSystem, path: str) -> None:
        filesystem.rm_file(path)  # S3 says nothing of a missing key: what is not found is the bucket

    def _find(self, filesystem: S3FileSystem, path: str) -> Iterator[tuple[str, int, int | None]]:
        """List page by page; fsspec's find would ask HEAD and LIST again where a folder is empty."""
        prefix = path.removeprefix(self._bucket).lstrip("/")
        request = {"Bucket": self._bucket, "Prefix": f"{prefix}/" if prefix else ""}
        while True:
            page = filesystem.call_s3("list_objects_v2", **request)
            for found in page.get("Contents", ()):
                modified = int(found["LastModified"].timestamp() * 1000)
                yield f"{self._bucket}/{found['Key']}", found["Size"], modified
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]


def open_s3(
    parts: SplitResult, *, endpoint: str | None = None, region: str | None = None, profile: str | None = None
) -> S3Backend:
    """Open the store at the ``s3://bucket/prefix`` URL `parts`.

    Raises:
        ConfigError: The URL names no bucket, or says more than bucket and prefix.
    """
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if not bucket or parts.query or parts.fragment or "//" in prefix:
        raise ConfigError(f"not a bucket and a prefix: {parts.geturl()!r}; write s3://bucket/prefix")
    return S3Backend(bucket, prefix, endpoint=endpoint, region=region, profile=profile)


def _close_session(process: int, loop: AbstractEventLoop, client: object) -> None:
    """Close the connections of `process`; s3fs does so on exit, where a child would wait for a dead loop."""
    if process == os.getpid():
        S3FileSystem.close_session(loop, client)


def _once(request: Callable[[], _T]) -> _T:
    return request()
