"""Exceptions of s3fs, botocore and aiohttp as casstore's own errors, by type.

Answers of the server are judged in `s3_answers`. Must not repeat an exception's text: botocore's name classes
and addresses.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from casstore.backends.mapping import because, from_driver_error
from casstore.backends.reasons import BROKEN, TIMED_OUT, Reason, of_connection, quote
from casstore.backends.s3_answers import Request, from_answer
from casstore.errors import CasstoreError, ConfigError

_NO_CREDENTIALS = (
    "no AWS credentials: set them up the ordinary way (`aws configure`, `aws sso login`, AWS_PROFILE, or the"
    " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY variables)"
)
_SIGN_IN = "the AWS sign-in has expired or cannot be read: run `aws sso login` or `aws login`"
_UNRETRIEVED = "the AWS credentials cannot be retrieved: run `aws sts get-caller-identity` to see why"
_SIGN_IN_TYPES = (
    aws.SSOError,
    getattr(aws, "LoginError", aws.SSOError),  # older versions have none
    aws.TokenRetrievalError,
    aws.NoAuthTokenError,
)
_UNRETRIEVED_TYPES = (
    aws.CredentialRetrievalError,
    aws.MetadataRetrievalError,
    aws.InfiniteLoopConfigError,
    aws.UnknownCredentialError,
    aws.UnknownTokenProviderError,
)
_BROKEN_TYPES = (
    aws.ConnectionClosedError,
    aws.ResponseStreamingError,
    aws.IncompleteReadError,
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientPayloadError,
)
_DAMAGED_TYPES = (aws.FlexibleChecksumError, aws.ChecksumError, aws.AwsChunkedWrapperError)
_TIMEOUT_TYPES = (aws.ConnectTimeoutError, aws.ReadTimeoutError, aiohttp.ServerTimeoutError)
_CLIENT_TYPES = (aws.HTTPClientError, aws.ConnectionError, aiohttp.ClientError)

_DAMAGED = Reason("the bytes were damaged on their way: check the network, and try again", transient=True)
_NOT_S3 = Reason(
    "the answer is not one of S3: check the remote's endpoint, and whether a proxy answers for it"
)
_NO_ANSWER = Reason("no connection: check the network, the remote's endpoint and its port", transient=True)
_PROXY = Reason("the proxy cannot be used: correct HTTPS_PROXY, or set NO_PROXY", transient=True)
_FINGERPRINT = Reason("the server has another certificate than expected: check the remote's endpoint")
_ENDPOINT = Reason("the endpoint is not an HTTP address: correct the remote's endpoint")


def from_s3_error(error: Exception, request: Request) -> CasstoreError:
    """Return the error to raise in place of `error`, which s3fs may have wrapped."""
    source = error.__cause__ if isinstance(error.__cause__, aws.ClientError) else error
    if isinstance(source, aws.ClientError):
        return from_answer(source, request)
    credentials = _credentials(error)
    if credentials is not None:
        return request.failed(credentials)
    reason = _connection(error)
    if reason is not None:
        return because(reason, request.action, request.name, request.url)
    if isinstance(error, aws.BotoCoreError):
        return ConfigError(f"cannot use {request.url}: {_setting(error)}")
    return from_driver_error(error, request.action, request.name, request.url)


def _credentials(error: Exception) -> str | None:
    """Return what is wrong with the credentials; None where nothing is."""
    if isinstance(error, aws.NoCredentialsError):
        return _NO_CREDENTIALS
    if isinstance(error, aws.PartialCredentialsError):
        return f"the AWS credentials lack {error.kwargs.get('cred_var')}: set it up beside the others"
    if isinstance(error, aws.RefreshWithMFAUnsupportedError):
        return "the AWS profile wants a code (MFA): get credentials for a session with `aws sts assume-role`"
    if isinstance(error, _SIGN_IN_TYPES):
        return _SIGN_IN
    return _UNRETRIEVED if isinstance(error, _UNRETRIEVED_TYPES) else None


def _connection(error: Exception) -> Reason | None:
    """Return why no whole answer came; None where that is not what failed."""
    if isinstance(error, ResponseParserError):
        return _NOT_S3
    if isinstance(error, _DAMAGED_TYPES):
        return _DAMAGED
    if isinstance(error, (*_TIMEOUT_TYPES, *_BROKEN_TYPES)):
        return TIMED_OUT if isinstance(error, _TIMEOUT_TYPES) else BROKEN
    if not isinstance(error, _CLIENT_TYPES):
        return None
    if isinstance(error, aws.ProxyConnectionError):
        return _PROXY
    return of_connection(error) or _of_client(error)


def _of_client(error: Exception) -> Reason:
    """Return the reason of an error of the HTTP client that the system knows nothing of."""
    inner = error.kwargs.get("error", error) if isinstance(error, aws.BotoCoreError) else error
    if isinstance(inner, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return _PROXY
    if isinstance(inner, aiohttp.ServerFingerprintMismatch):
        return _FINGERPRINT
    if isinstance(inner, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return _ENDPOINT
    if isinstance(inner, (aiohttp.ClientResponseError, aiohttp.RedirectClientError)):
        return _NOT_S3
    return BROKEN if isinstance(inner, aiohttp.ClientConnectionError) else _NO_ANSWER


def _setting(error: aws.BotoCoreError) -> str:
    """Return which setting botocore refuses, and where it is corrected."""
    given: dict[str, Any] = error.kwargs
    if isinstance(error, aws.ProfileNotFound):
        return f"AWS has no profile {given.get('profile')}: choose one of `aws configure list-profiles`"
    if isinstance(error, (aws.ConfigNotFound, aws.ConfigParseError)):
        return f"AWS's settings in {given.get('path')} cannot be read: correct that file, or AWS_CONFIG_FILE"
    if isinstance(error, aws.NoRegionError):
        return "no AWS region is set: set the remote's region, or AWS_REGION"
    if isinstance(error, (aws.InvalidRegionError, aws.UnknownRegionError, aws.UnknownEndpointError)):
        return f"AWS has no region {given.get('region_name')}: correct the remote's region, or AWS_REGION"
    if isinstance(error, (aws.ParamValidationError, aws.InvalidDNSNameError, aws.UnsupportedS3ArnError)):
        return "S3 accepts no bucket of that name: correct the remote's URL"
    return f"the AWS client refuses its settings{quote(error)}: check ~/.aws/config and the AWS_* variables"
