"""From a URL to a backend, with its wrappers.  Floor: backends.

The one place that reads URLs of stores and the one that stacks wrappers. It imports a driver only when a URL
asks for it, so that a local path costs neither fsspec nor s3fs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from casstore.backends.local import LocalBackend
from casstore.config.location import file_path
from casstore.errors import ConfigError

if TYPE_CHECKING:
    from casstore.backends.base import Backend

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/?/?")


def open_backend(
    url: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    durable: bool = False,
) -> Backend:
    """Open the store at `url`; nothing is sent or made before the first request.

    Args:
        url: A local path, ``file:///folder``, ``s3://bucket/prefix``, ``memory://name``, or any URL that an
            installed fsspec driver opens.
        endpoint: The HTTP address of an S3 service other than AWS.
        region: The bucket's AWS region.
        profile: The AWS profile that has the credentials.
        durable: Local writes return only when they are on the disk.

    Raises:
        ConfigError: The URL cannot be read, holds credentials, or needs a driver that is not installed.
    """
    scheme = scheme_of(url)
    if scheme is None:
        return LocalBackend(Path(url).expanduser(), durable=durable)
    if scheme in {"s3", "s3a"}:
        from casstore.backends.s3 import open_s3  # loads s3fs, 0.8 s

        return remote(open_s3(_split(url), endpoint=endpoint, region=region, profile=profile))
    if endpoint or region or profile:
        raise ConfigError(f"endpoint, region and profile are for s3:// stores, not for {scheme}://")
    if scheme == "file":
        return remote(LocalBackend(file_path(url), durable=durable))
    from casstore.backends.filesystem import open_fsspec  # loads fsspec, 0.1 s

    return remote(open_fsspec(_split(url), durable=durable))


def remote(backend: Backend) -> Backend:
    """Return `backend` in the wrappers of every remote, the innermost first."""
    from casstore.backends.retry import RetryingBackend

    return RetryingBackend(backend)


def scheme_of(url: str) -> str | None:
    """Return the scheme of `url` in lower case, None where it is a local path.

    Raises:
        ConfigError: It has one slash too few.
    """
    found = _SCHEME.match(url)
    if found is None:
        return None
    if not found[0].endswith("://"):
        raise ConfigError(f"not a URL: {url!r}; write {found[1]}://..., or ./{url} for a local path")
    return found[1].lower()


def _split(url: str) -> SplitResult:
    """Take `url` apart, and refuse credentials in it: they would end in configuration files and messages."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError("not a URL: its host or port cannot be read; write s3://bucket/prefix") from error
    if parts.password is not None or (parts.username is not None and parts.scheme in {"s3", "s3a"}):
        raise ConfigError(
            f"the {parts.scheme}:// URL holds credentials: leave them out, and set them up the ordinary way"
            " (for S3: AWS_PROFILE, ~/.aws/credentials, or the AWS_* environment variables)"
        )
    return parts
