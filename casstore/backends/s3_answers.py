"""Error answers of S3 as casstore's own errors: by error code and HTTP status.

The codes are in the S3 API reference, "Error responses". Must not import s3fs or aiohttp.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from casstore.backends.mapping import failed, from_status, missing
from casstore.backends.multipart import LostUploadError
from casstore.errors import CasstoreError, IntegrityError

_REFUSED = "the AWS credentials are not valid or have expired: renew them, or choose others with AWS_PROFILE"
_BUCKET_NAME = "S3 accepts no bucket of that name: correct the remote's URL"
_FULL = "the storage is full or its quota is used up: free some space, or ask its operator for more"
_REASONS = {
    "AccountProblem": "the AWS account has a problem: ask AWS Support, as its owner, what it is",
    "AllAccessDisabled": "access to the bucket is disabled: ask its owner to enable it, or use another",
    "EntityTooLarge": "S3 accepts no object of that size: store the file in smaller ones",
    "ExpiredToken": _REFUSED,
    "ExpiredTokenException": _REFUSED,
    "InsufficientStorage": _FULL,
    "InvalidAccessKeyId": _REFUSED,
    "InvalidBucketName": _BUCKET_NAME,
    "InvalidToken": _REFUSED,
    "KeyTooLongError": "the name is too long for S3: use a shorter prefix in the remote's URL",
    "MethodNotAllowed": "the server allows no such request here: check the remote's URL and endpoint",
    "NoSuchBucket": "the bucket does not exist: create it, or correct the remote's URL",
    "NotImplemented": "the server does not offer this part of S3: use another, or a newer version of it",
    "NotSignedUp": "the AWS account has no access to S3: sign it up, or choose another with AWS_PROFILE",
    "QuotaExceeded": _FULL,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "SignatureDoesNotMatch": _REFUSED,
    "TokenRefreshRequired": _REFUSED,
    "XMinioStorageFull": _FULL,
}
"""Error codes that a person must act on: what they mean, and what to do."""

_BUSY = {
    "BadDigest": "the bytes were damaged on their way",
    "ConditionalRequestConflict": "another request changes the same object",
    "IncompleteBody": "the connection ended before all bytes were sent",
    "InternalError": "S3 has an internal error",
    "OperationAborted": "another request changes the same bucket",
    "RequestTimeout": "the bytes came too slowly",
    "RequestTimeoutException": "the bytes came too slowly",
    "ServiceUnavailable": "S3 is overloaded",
    "SlowDown": "S3 is overloaded",
    "Throttling": "S3 is overloaded",
    "ThrottlingException": "S3 is overloaded",
    "TooManyRequestsException": "S3 is overloaded",
}
"""Error codes of requests that may succeed when they are sent again."""

_DENIED = frozenset({"AccessDenied", "Forbidden", "403"})
_LOST = frozenset({"InvalidPart", "NoSuchUpload"})
"""Another process completed or aborted the upload, or replaced one of its parts."""

_ELSEWHERE = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)
_REDIRECTS = range(300, 400)
_SERVER_ERRORS = 500
_REGION_IN_HOST = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com")

_ON_BUCKET = {"ListObjectsV2": "s3:ListBucket", "ListMultipartUploads": "s3:ListBucketMultipartUploads"}
_ON_OBJECT = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "ListParts": "s3:ListMultipartUploadParts",
}
"""Permissions by operation; those not named write objects. See "Actions defined by Amazon S3" of AWS."""

_NAMED_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
"""How AWS names the denied action, where it does: of other services, too, such as ``kms:GenerateDataKey``."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of S3.

    Attributes:
        action: ``read``, ``write``, ``delete`` or ``list``.
        name: The name it was about, relative to the store.
        url: The store, ``s3://bucket/prefix``.
        endpoint: The endpoint that the settings name; None where AWS's own is used.
        may_list: Tells whether the credentials may list the bucket; called where an answer leaves that open.
    """

    action: str
    name: str
    url: str
    endpoint: str | None
    may_list: Callable[[], bool]

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def object(self) -> str:
        """The bucket and the whole key, as ``bucket/key``."""
        return f"{self.url.removeprefix('s3://')}/{self.name}".rstrip("/")

    def failed(self, reason: str, *, transient: bool = False) -> CasstoreError:
        """Return the error for a request that failed for `reason`."""
        return failed(self.action, self.name, self.url, reason, transient=transient)


def from_answer(error: ClientError, request: Request) -> CasstoreError:
    """Return the error to raise for the answer that `error` holds."""
    details = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    lasting = _lasting(error, code, status, request)
    if lasting:
        return request.failed(lasting)
    if code in _BUSY:
        return request.failed(f"{_BUSY[code]} ({code}): try again later", transient=True)
    return _of_object(code, request) or from_status(
        status, request.action, request.name, request.url, _other(status, code, details)
    )


def _lasting(error: ClientError, code: str, status: int, request: Request) -> str | None:
    """Return what is wrong where a person must act on it."""
    details = error.response.get("Error", {})
    if code in _DENIED:
        return _denied(error.operation_name, details, request)
    if code in _ELSEWHERE or status in _REDIRECTS:
        return _elsewhere(error.response, request)
    if code == "InvalidObjectState":
        return _archived(details, request)
    return _REASONS.get(code)


def _of_object(code: str, request: Request) -> CasstoreError | None:
    """Return the error where `code` is about the object, and not about the bucket or the request."""
    if code in _LOST:
        return LostUploadError(
            f"cannot {request.action} {request.name} in {request.url}: another process ended this upload,"
            f" or sent a part of it again ({code}): run the same command again"
        )
    if code == "NoSuchKey" and request.action == "read":
        return missing(request.name, request.url)
    if code == "InvalidRange":
        return IntegrityError(f"{request.name} in {request.url} ends before the bytes asked for")
    return None


def _other(status: int, code: str, details: Mapping[str, Any]) -> str:
    """Describe an answer whose code is not known here; S3's own sentence is quoted, being all there is."""
    sentence = " ".join(str(details.get("Message", "")).split())[:200].rstrip(".")
    told = f' and says "{sentence}"' if sentence else ""
    number = str(status) if code in {"", str(status)} else f"{status} {code}"
    advice = "try again later" if status >= _SERVER_ERRORS else "check the remote's URL, endpoint and region"
    return f"the server answers {number}{told}: {advice}"


def _denied(operation: str, details: Mapping[str, Any], request: Request) -> str:
    named = _NAMED_ACTION.search(str(details.get("Message", "")))
    permission = named[1] if named else _permission(operation)
    if permission == "s3:GetObject" and not request.may_list():
        return (
            "access denied: the object is missing, or these AWS credentials lack s3:GetObject on"
            f" {request.object}; S3 tells which only where s3:ListBucket on {request.bucket} is granted:"
            " have both granted to them"
        )
    where = _resource(permission, request)
    return (
        f"access denied: these AWS credentials lack {permission}{where}:"
        " have it granted to them, or choose others with AWS_PROFILE"
    )


def _permission(operation: str) -> str:
    return _ON_BUCKET.get(operation) or _ON_OBJECT.get(operation) or "s3:PutObject"


def _resource(permission: str, request: Request) -> str:
    if not permission.startswith("s3:"):
        return ""  # another service's: the request does not name what it is about
    return f" on {request.bucket if permission in _ON_BUCKET.values() else request.object}"


def _elsewhere(response: Mapping[str, Any], request: Request) -> str:
    """Describe the answer of a server that does not hold the bucket."""
    details, headers = response.get("Error", {}), response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = _region(details, headers)
    if region and request.endpoint:
        return (
            f"the bucket is in {region}, which the endpoint {request.endpoint} does not serve:"
            f" set the remote's region to {region}, and its endpoint to one of that region or to none"
        )
    if region:
        return (
            f"the bucket is in {region}: set the remote's region to it"
            f" (casstore config set remotes.NAME.region {region}), or AWS_REGION={region}"
        )
    target = headers.get("location") or details.get("Endpoint")
    if target:
        return (
            f"the server sends requests for the bucket on to {target}: check the remote's endpoint and region"
        )
    return "the bucket is in another region or at another endpoint: set the remote's region and endpoint"


def _region(details: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    told = headers.get("x-amz-bucket-region") or details.get("Region")
    if told:
        return str(told)
    found = _REGION_IN_HOST.search(f"{details.get('Endpoint', '')} {headers.get('location', '')}")
    return found[1] if found else None


def _archived(details: Mapping[str, Any], request: Request) -> str:
    kind = details.get("StorageClass") or details.get("AccessTier")
    bucket, _, key = request.object.partition("/")
    return (
        f"the object is archived{f' ({kind})' if kind else ''}: restore it, then try again:"
        f" aws s3api restore-object --bucket {bucket} --key {key} --restore-request Days=7"
    )
