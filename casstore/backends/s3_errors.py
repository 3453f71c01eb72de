"""What S3 and its client say, as casstore's own errors.  Floor: backends.

By type and by S3's error code, never by text. Codes not named here are judged by their HTTP status.
"""

from __future__ import annotations

from aiohttp import ClientError as ConnectionLostError
from botocore import exceptions as aws

from casstore.backends.mapping import failed, from_driver_error, from_status, missing
from casstore.backends.multipart import LostUploadError
from casstore.errors import CasstoreError, ConfigError, IntegrityError

_NO_CREDENTIALS = (
    "no AWS credentials: set them up the ordinary way (`aws configure`, `aws sso login`, AWS_PROFILE, or the"
    " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY variables)"
)
_REFUSED = "the AWS credentials are not valid or have expired: renew them, or choose others with AWS_PROFILE"
_REGION = "the bucket is in another region: set the remote's region, or AWS_REGION"
_REASONS = {
    "AccessDenied": "access denied: these AWS credentials may not do this to this bucket",
    "AllAccessDisabled": "access to the bucket is disabled",
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": _REFUSED,
    "ExpiredTokenException": _REFUSED,
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": _REFUSED,
    "InvalidToken": _REFUSED,
    "NoSuchBucket": "the bucket does not exist: create it, or correct the remote's URL",
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "SignatureDoesNotMatch": _REFUSED,
    "TokenRefreshRequired": _REFUSED,
}
"""Error codes that a person must do something about, and what; see the S3 API reference, Error responses."""

_PASSING = frozenset(
    {
        "BadDigest",  # damaged on the way
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_LOST = frozenset({"InvalidPart", "NoSuchUpload"})
"""An upload was completed or ended by somebody else, or one of its parts sent anew."""

_NO_CREDENTIAL_TYPES = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.SSOError,
    aws.TokenRetrievalError,
)
_WRONG_SETTING_TYPES = (
    aws.ProfileNotFound,
    aws.ConfigNotFound,
    aws.ConfigParseError,
    aws.InvalidRegionError,
    aws.ParamValidationError,
)
_PASSING_TYPES = (
    aws.HTTPClientError,
    aws.ConnectionError,
    aws.ResponseStreamingError,
    aws.IncompleteReadError,
    ConnectionLostError,
)


def from_s3_error(error: Exception, action: str, name: str, url: str) -> CasstoreError:
    """Return the error to raise in place of `error`, which s3fs may have wrapped."""
    source = error.__cause__ if isinstance(error.__cause__, aws.ClientError) else error
    if isinstance(source, aws.ClientError):
        return _from_answer(source, action, name, url)
    if isinstance(error, _NO_CREDENTIAL_TYPES):
        return failed(action, name, url, _NO_CREDENTIALS)
    if isinstance(error, _WRONG_SETTING_TYPES):
        return ConfigError(f"{url}: {error}")
    if isinstance(error, aws.SSLError):
        return failed(action, name, url, f"no secure connection: {error}")
    if isinstance(error, _PASSING_TYPES):
        return failed(action, name, url, str(error), transient=True)
    return from_driver_error(error, action, name, url)


def _from_answer(error: aws.ClientError, action: str, name: str, url: str) -> CasstoreError:
    details = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    if code in _REASONS:
        return failed(action, name, url, _REASONS[code])
    if code in _PASSING:
        return failed(action, name, url, f"S3 says {code}", transient=True)
    if code in _LOST:
        return LostUploadError(f"cannot {action} {name} in {url}: S3 says {code}")
    if code == "NoSuchKey" and action == "read":
        return missing(name, url)
    if code == "InvalidRange":
        return IntegrityError(f"{name} in {url} ends before the bytes asked for")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    reason = f"S3 says {code or status}: {details.get('Message', '')}"
    return from_status(status, action, name, url, reason)
