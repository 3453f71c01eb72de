"""What S3 and its client say, as casstore's own errors.  Floor: backends.

By type and by S3's error code, never by text. Codes not named here are judged by their HTTP status.
"""

from __future__ import annotations

from aiohttp import ClientError as ConnectionLostError
from botocore import exceptions as aws

from casstore.backends.mapping import from_driver_error
from casstore.backends.s3_answers import Request, from_answer
from casstore.errors import CasstoreError, ConfigError

_NO_CREDENTIALS = (
    "no AWS credentials: set them up the ordinary way (`aws configure`, `aws sso login`, AWS_PROFILE, or the"
    " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY variables)"
)
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


def from_s3_error(error: Exception, request: Request) -> CasstoreError:
    """Return the error to raise in place of `error`, which s3fs may have wrapped."""
    source = error.__cause__ if isinstance(error.__cause__, aws.ClientError) else error
    if isinstance(source, aws.ClientError):
        return from_answer(source, request)
    if isinstance(error, _NO_CREDENTIAL_TYPES):
        return request.failed(_NO_CREDENTIALS)
    if isinstance(error, _WRONG_SETTING_TYPES):
        return ConfigError(f"{request.url}: {error}")
    if isinstance(error, aws.SSLError):
        return request.failed(f"no secure connection: {error}")
    if isinstance(error, _PASSING_TYPES):
        return request.failed(str(error), transient=True)
    return from_driver_error(error, request.action, request.name, request.url)
