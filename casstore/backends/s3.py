"""Bytes by name in an S3 bucket, through s3fs.  Floor: backends.

One request for one operation: no HEAD before a GET, no look before a list, no retry below ours, and the
count of what was truly sent. Credentials come by the ordinary AWS chain alone. The tests hold the installed
s3fs to all of this, request by request.
"""

from __future__ import annotations

import os
import time
from asyncio import AbstractEventLoop
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest
from s3fs import S3FileSystem

from casstore.backends.filesystem import FsspecBackend
from casstore.backends.s3_errors import from_s3_error
from casstore.errors import CasstoreError, ConfigError

PART_SIZE = 8 * 1024 * 1024
"""Bytes of one part; content of twice as many goes up in parts (s3fs' rule), smaller content in one PUT."""

MAX_PARTS = 10_000
"""Most parts in one upload (S3's limit)."""

PARTS_AT_ONCE = 3
"""Parts of one upload in flight. Each is held twice, by s3fs and by the socket: 48 MiB at most."""

POOL_SIZE = 32
"""Connections kept; as many as the transfer may ever have workers."""

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
"""Seconds without an answer before a request counts as failed, and may be sent again."""


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
        self._ahead = 0.0
        super().__init__(self._open, root, url=f"s3://{root}", atomic_put=True)

    def _open(self) -> S3FileSystem:
        session = AioSession(profile=self._profile)
        session.register("before-send.s3", self._sent)
        session.register("after-call.s3", self._answered)
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
        }
        if self._endpoint:
            # Not every S3 service knows AWS's trailing checksums; what we read is checked by its digest.
            settings["request_checksum_calculation"] = "when_required"
            settings["response_checksum_validation"] = "when_required"
        return settings

    def _sent(self, request: AWSPreparedRequest, event_name: str, **_: object) -> None:
        """Count an HTTP request that is about to leave; botocore calls this for each."""
        verb = "LIST" if event_name.endswith(".ListObjectsV2") else request.method
        self._counter.add(verb)

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
        return from_s3_error(error, action, name, self._url)

    def _disconnect(self, filesystem: S3FileSystem) -> None:
        if filesystem._s3 is not None:  # noqa: SLF001 - the property of the same meaning would connect
            filesystem.close_session(filesystem.loop, filesystem._s3creator)  # noqa: SLF001 - no public way

    def _put(self, filesystem: S3FileSystem, path: str, content: bytes, *, exclusive: bool) -> None:
        filesystem.pipe_file(
            path,
            content,
            mode="create" if exclusive else "overwrite",
            chunksize=_part_size(len(content)),
            max_concurrency=PARTS_AT_ONCE,
        )

    def _put_file(self, filesystem: S3FileSystem, path: Path, target: str) -> None:
        filesystem.put_file(
            str(path),
            target,
            chunksize=_part_size(path.stat().st_size),
            max_concurrency=PARTS_AT_ONCE,
            ContentType="application/octet-stream",
        )

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


def _part_size(size: int) -> int:
    """Return the size of each part of `size` bytes, at most `MAX_PARTS` of them."""
    return max(PART_SIZE, -(-size // MAX_PARTS))
