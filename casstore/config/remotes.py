"""Remotes: their names and their URLs.  Floor: config.

Knows which texts are acceptable, and refuses credentials inside them. Opens nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from casstore.config.location import file_url
from casstore.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SECRET_PARAMETER = re.compile(r"[?&][^=&]*(secret|passw|token|key|sig|credential)[^=&]*=", re.IGNORECASE)
_HOST = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]*)://(?P<host>[^/?#]*)")
_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(:[0-9]+)?")
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs"})
_READ_ONLY = frozenset({"http", "https", "data", "tar", "zip", "libarchive", "git", "github", "gist"})
# Of these fsspec's drivers can replace no file, or remove none (fsspec 2026.9); zip and tar have one writer.
_AMAZON = re.compile(r"https?://(?:[^/]+\.)?s3[.-][^/]*amazonaws\.com(?:[:/]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """A store to push to and pull from.

    Attributes:
        name: What people call it; the URL itself where it was given as one.
        url: Any URL that fsspec opens: ``file:///mnt/team``, ``s3://bucket/prefix``.
        endpoint: The URL of an S3 service other than Amazon's.
        region: The region of the bucket.
        profile: The section of ``~/.aws/config`` and ``~/.aws/credentials`` to use.
    """

    name: str
    url: str
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None

    @property
    def identity(self) -> str:
        """What tells this store from others: its URL, and the service that the URL is meant for."""
        return self.url if self.endpoint is None else f"{self.url} at {self.endpoint}"


def check_name(text: str) -> str:
    """Return `text` as a remote's name.

    Raises:
        ConfigError: It is empty, holds other than letters, digits and ``_.-``, or starts with ``-`` or ``.``.
    """
    if _NAME.fullmatch(text):
        return text
    raise ConfigError(
        f"not a name for a remote: {_shown(text)}; use letters, digits, '_', '.' and '-', a letter first"
    )


def check_url(text: str) -> str:
    """Return `text` as the URL of a remote; a path becomes an absolute ``file://`` URL.

    Raises:
        ConfigError: It is neither, or holds credentials. The message never repeats the credentials.
    """
    refuse_credentials(text)
    if not is_location(text):
        raise ConfigError(
            f"neither URL nor path: {text!r}; write s3://bucket/prefix, file:///folder or ./folder"
        )
    found = _HOST.match(text)
    if found:
        _check_host(found["scheme"].lower(), found["host"])
        bare = text.rstrip("/")
        return text if bare.endswith(":") else bare
    return file_url(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - a folder on another machine need not resolve here


def check_writable(url: str) -> None:
    """Check that casstore can write to a URL or path as a person gave it.

    Raises:
        ConfigError: The driver of its scheme cannot write files, or it is a chain of drivers; or
            it holds credentials.
    """
    refuse_credentials(url)
    scheme = (url.partition("://")[0] if "://" in url else "").lower()
    if scheme not in _READ_ONLY and "::" not in scheme:  # `open_backend` opens no chain of drivers
        return
    ways = "s3://bucket/prefix, file:///folder, or another URL whose fsspec driver writes (gs://, az://, sftp://)"
    if _AMAZON.match(url):
        hint = "for a bucket of Amazon S3 write s3://bucket/prefix"
    else:
        hint = "for an S3 service write s3://bucket/prefix with --endpoint https://host"
    raise ConfigError(f"nothing can be pushed to a {scheme}:// URL: use {ways}; {hint}")


def check_endpoint(text: str) -> str:
    """Return `text` as the URL of an S3 service.

    Raises:
        ConfigError: It is no ``http://`` or ``https://`` URL, or holds credentials.
    """
    refuse_credentials(text)
    if re.fullmatch(r"https?://[^/]+.*", text):
        return text
    raise ConfigError(f"not an endpoint: {text!r}; write http://host:port or https://host")


def refuse_credentials(url: str) -> None:
    """Raise ConfigError where `url` carries a user and password, a key pair or a signed parameter."""
    if _SECRET_PARAMETER.search(url) or any(_is_keyed(found) for found in _HOST.finditer(url)):
        raise ConfigError(
            "a URL must not hold credentials, as it is stored and shown; leave them to the AWS chain:"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, --profile, or the machine's role"
        )


def _is_keyed(found: re.Match[str]) -> bool:
    user, _, host = found["host"].rpartition("@")
    return ":" in user or (user != "" and found["scheme"].lower() in _BUCKETS) or not _PORT.fullmatch(host)


def _check_host(scheme: str, host: str) -> None:
    if scheme in _BUCKETS and not host:
        raise ConfigError(f"the URL names no bucket; write {scheme}://bucket/prefix")
    if scheme in {"file", "local"} and host:
        # fsspec would read file://mnt/team as a folder below the current one.
        raise ConfigError(f"a file URL has three slashes: file:///{host} is the folder /{host}")


def is_location(text: str) -> bool:
    """Return whether `text` is a URL or a path, and not the name of a remote."""
    return "/" in text and not text.startswith("-")


def _shown(text: str) -> str:
    return "a URL" if "://" in text else repr(text)
