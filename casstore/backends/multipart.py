"""A file to an S3 service in parts, side by side, taken up where another try ended.  Floor: backends.

Parts are read from the file as they are sent, so they take no memory. Nothing is noted here about an upload:
what an earlier try has sent is asked of the service and compared with the file, part by part, so that it does
not matter which process or which machine that was. How requests are sent, and how their errors read, is known
to the caller alone.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from casstore.backends.base import Repeat
from casstore.backends.progress import Progress, watched
from casstore.backends.workers import run_all
from casstore.errors import BackendError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PART_SIZE = 16 * 1024 * 1024
"""Bytes of one part; a file of twice as many goes up in parts, a smaller one in one PUT."""

MAX_PARTS = 10_000
"""Most parts in one upload (S3's limit)."""

PARTS_AT_ONCE = 3
"""Parts in flight for one backend in one process."""

LOOKED_AT = 3
"""Unfinished uploads of one name, the newest first, whose parts are compared with the file."""

CONTENT_TYPE = "application/octet-stream"

_PIECE = 1024 * 1024
"""Bytes of a file held in memory while its digest is taken."""


class LostUploadError(BackendError):
    """The service no longer has an unfinished upload, or not the parts that were sent to it."""


class Call(Protocol):
    """Sends one request about the bucket and the key, and returns the service's answer."""

    def __call__(self, method: str, **arguments: object) -> Mapping[str, Any]:
        """Call the S3 operation `method`; `LostUploadError` where its upload is gone."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file that are sent by one request; parts are numbered from 1."""

    number: int
    start: int
    length: int


def count_parts(size: int, part_size: int | None) -> int:
    """Return how many requests the content of a file of `size` bytes takes: 1 where it goes up whole."""
    if part_size is None or size < 2 * part_size:
        return 1
    return -(-size // _length(size, part_size))


def split(size: int, part_size: int) -> tuple[Part, ...]:
    """Return the parts of a file of `size` bytes, always the same for the same size; at most `MAX_PARTS`."""
    length = _length(size, part_size)
    return tuple(
        Part(number, start, min(length, size - start))
        for number, start in enumerate(range(0, size, length), start=1)
    )


def _length(size: int, part_size: int) -> int:
    return max(part_size, -(-size // MAX_PARTS))


class Leaving:
    """A body that is sent, of which is noted how far it is.

    Before it leaves, it may be read to be signed, which does not count.
    """

    _progress: Progress | None = None
    _leaves = False

    def leaves(self) -> None:
        """Take what is read from now on for what is sent."""
        self._leaves = True

    def _reach(self, position: int) -> None:
        if self._leaves and self._progress is not None:
            self._progress.reach(position)


class Window(Leaving, io.RawIOBase):
    """Some bytes of an open file, as a file of their own; several can be read at once.

    Args:
        descriptor: The open file.
        start: Where it begins in that file.
        length: How many bytes it has.
        progress: Where to note what has been sent of it.
    """

    def __init__(self, descriptor: int, start: int, length: int, progress: Progress | None = None) -> None:
        super().__init__()
        self._progress = progress
        self._descriptor = descriptor
        self._start = start
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset` from the beginning, the position or the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what fits into `buffer`."""
        target = memoryview(buffer)[: max(0, self._length - self._position)]
        count = os.preadv(self._descriptor, [target], self._start + self._position)
        self._position += count
        self._reach(self._position)
        return count


class Content(Leaving, io.BytesIO):
    """Bytes that are sent.

    Args:
        content: The bytes.
        progress: Where to note what has been sent of them.
    """

    def __init__(self, content: bytes, progress: Progress) -> None:
        super().__init__(content)
        self._progress = progress

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on."""
        piece = super().read(size)
        self._reach(self.tell())
        return piece


class Upload:
    """The upload of one file in parts.

    Args:
        call: Sends a request.
        repeat: Runs each request, and repeats it as it sees fit.
        slots: Has a place for each part that may be in flight.
        key: The key under which the file is to be.
        descriptor: The file, open for reading.
        part_size: See `split`.
    """

    def __init__(
        self,
        call: Call,
        repeat: Repeat,
        slots: threading.BoundedSemaphore,
        key: str,
        descriptor: int,
        part_size: int,
    ) -> None:
        self._call = call
        self._repeat = repeat
        self._slots = slots
        self._key = key
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._parts = split(self._size, part_size)

    def run(self) -> None:
        """Send what the service lacks, and complete the upload.

        An unfinished upload may be another machine's that is at work on the same name now. Whoever completes
        it first has done the other's work too.

        Raises:
            BackendError: The service failed; what was sent stays there, for the next try.
        """
        try:
            self._finish(*self._found())
        except LostUploadError:
            if self._is_there():
                return
            try:
                self._finish(self._begun(), {})
            except LostUploadError as error:  # and again: somebody ends uploads as they begin
                raise BackendError(str(error), transient=True) from error

    def _found(self) -> tuple[str, dict[int, str]]:
        """Return the newest unfinished upload that has parts of this file, and their ETags; or a new one."""
        try:
            for upload in self._unfinished():
                sent = self._fitting(upload)
                if sent:
                    return upload, sent
        except BackendError as error:
            if error.transient or isinstance(error, LostUploadError):
                raise
            # These credentials may not ask, or the service cannot tell: nothing is taken up.
        return self._begun(), {}

    def _unfinished(self) -> list[str]:
        answer = self._ask("list_multipart_uploads", Prefix=self._key)
        found = [upload for upload in answer.get("Uploads", ()) if upload["Key"] == self._key]
        found.sort(key=lambda upload: upload["Initiated"])
        return [upload["UploadId"] for upload in reversed(found)][:LOOKED_AT]

    def _fitting(self, upload: str) -> dict[int, str]:
        """Return the ETags of the parts that an unfinished upload has, if all of them are parts of this file.

        One that has others is left alone: another machine may be sending the object as it is stored there.
        """
        sent: dict[int, str] = {}
        request: dict[str, object] = {"UploadId": upload}
        while True:
            page = self._ask("list_parts", **request)
            for part in page.get("Parts", ()):
                if not self._fits(part["PartNumber"], part["Size"], part["ETag"]):
                    return {}
                sent[part["PartNumber"]] = part["ETag"]
            if not page.get("IsTruncated"):
                return sent
            request["PartNumberMarker"] = page["NextPartNumberMarker"]

    def _fits(self, number: int, size: int, etag: str) -> bool:
        if not 0 < number <= len(self._parts) or self._parts[number - 1].length != size:
            return False
        return self._md5(self._parts[number - 1]).hex() == etag.strip('"').lower()

    def _begun(self) -> str:
        answer = self._ask("create_multipart_upload", ContentType=CONTENT_TYPE)
        return str(answer["UploadId"])

    def _finish(self, upload: str, sent: dict[int, str]) -> None:
        sent |= self._send(upload, [part for part in self._parts if part.number not in sent])
        parts = [{"PartNumber": part.number, "ETag": sent[part.number]} for part in self._parts]
        self._ask("complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts})

    def _send(self, upload: str, parts: Iterable[Part]) -> dict[int, str]:
        """Send parts, and return their ETags."""
        progress = watched()

        def send(part: Part) -> tuple[int, str]:
            etag = str(self._repeat(lambda: self._send_one(upload, part))["ETag"])
            if progress is not None:
                progress.add(part.length)
            return part.number, etag

        return dict(run_all(send, parts, PARTS_AT_ONCE))

    def _send_one(self, upload: str, part: Part) -> Mapping[str, Any]:
        with self._slots, Window(self._descriptor, part.start, part.length) as body:
            return self._call("upload_part", UploadId=upload, PartNumber=part.number, Body=body)

    def _is_there(self) -> bool:
        """Return whether the name holds this file: completed by another machine, or by us with no answer."""
        answer = self._ask("list_objects_v2", Prefix=self._key, MaxKeys=1)
        digests = hashlib.md5(b"".join(map(self._md5, self._parts)), usedforsecurity=False)
        expected = (self._key, self._size, f"{digests.hexdigest()}-{len(self._parts)}")
        return any(
            (found["Key"], found["Size"], found["ETag"].strip('"').lower()) == expected
            for found in answer.get("Contents", ())
        )

    def _md5(self, part: Part) -> bytes:
        whole = hashlib.md5(usedforsecurity=False)
        with Window(self._descriptor, part.start, part.length) as window:
            while piece := window.read(_PIECE):
                whole.update(piece)
        return whole.digest()

    def _ask(self, method: str, **arguments: object) -> Mapping[str, Any]:
        return self._repeat(lambda: self._call(method, **arguments))
