"""HTTP requests and replies as values; pure.  Floor: inference.

Whatever brings them (httpx, botocore, a recording), the rest of this package sees these. It knows neither
providers nor stores.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import field
from urllib.parse import quote, unquote_to_bytes, urlsplit

from casstore.errors import FormatError
from casstore.values import quick_value

_PORTS = {"http": 80, "https": 443}
_PLAIN = "~:@!$&'()*+,;="
"""Characters that a path segment may hold unquoted (RFC 3986, pchar), besides letters and digits."""

_WINDOW = 32 + zlib.MAX_WBITS
"""For zlib: take gzip's header or zlib's, whichever is there."""


@quick_value(frozen=True, slots=True)
class HttpRequest:
    """A request as it would be sent.

    Attributes:
        method: In capitals.
        host: Host in lower case, with its port unless that is the scheme's own: the one that the header
            ``host`` names, since one address may serve several.
        path: Each segment quoted in one way, so that ``%3A`` and ``:`` are one path.
        query: As sent, without the question mark.
        headers: By lower-case name.
        body: The bytes; empty where there are none.
    """

    method: str
    host: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @classmethod
    def of(
        cls,
        method: str,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> HttpRequest:
        """Return the request that goes to `url`; a user and password in it are left out."""
        parts, told = urlsplit(url), lower(headers)
        host = named_host(parts.scheme, join_host(parts.scheme, parts.hostname or "", parts.port), told)
        return cls(method.upper(), host, plain_path(parts.path), parts.query, told, body)

    def with_body(self, body: bytes) -> HttpRequest:
        """Return the same request with another body."""
        return HttpRequest(self.method, self.host, self.path, self.query, self.headers, body)


@quick_value(frozen=True, slots=True)
class HttpReply:
    """A reply, whole.

    Attributes:
        status: The HTTP status.
        headers: By lower-case name.
        body: The bytes, after any content encoding was undone.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    @property
    def content_type(self) -> str:
        """The media type, in lower case and without parameters."""
        return media_type(self.headers)


def join_host(scheme: str, host: str, port: int | None) -> str:
    """Return host and port as one text; the scheme's own port is left out."""
    host = f"[{host}]" if ":" in host else host
    return host.lower() if port is None or _PORTS.get(scheme) == port else f"{host.lower()}:{port}"


def named_host(scheme: str, host: str, headers: Mapping[str, str]) -> str:
    """Return the host that headers (by lower-case name) name; the one of the URL where they name none."""
    told = headers.get("host")
    if not told or told == host:
        return host
    try:
        parts = urlsplit(f"//{told}")
        return join_host(scheme, parts.hostname or "", parts.port)
    except ValueError:  # no port, or no address
        return told.lower()


def plain_path(path: str) -> str:
    """Return `path` with each segment quoted in one way."""
    if "%" not in path and path.isascii():
        return path or "/"
    return "/".join(quote(unquote_to_bytes(segment), safe=_PLAIN) for segment in path.split("/"))


def lower(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by lower-case name; the values of one name are joined with commas, in their order."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()  # noqa: PLW2901 — the same name, spelled as it is compared
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type that headers (by lower-case name) tell, in lower case, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def decodes(encoding: str) -> bool:
    """Tell whether `Decoder` undoes a content encoding."""
    return encoding.strip().lower() in ("", "identity", "gzip", "x-gzip", "deflate")


class Decoder:
    """Undoes a content encoding, piece by piece.

    Args:
        encoding: The header ``content-encoding``: one that `decodes` knows.
    """

    def __init__(self, encoding: str) -> None:
        plain = encoding.strip().lower() in ("", "identity")
        self._zlib = None if plain else zlib.decompressobj(_WINDOW)

    def feed(self, piece: bytes) -> bytes:
        """Return what a further piece decodes to.

        Raises:
            FormatError: It is not so encoded.
        """
        if self._zlib is None:
            return piece
        try:
            return self._zlib.decompress(piece)
        except zlib.error as error:
            raise FormatError(f"a body is not encoded as its header says: {error}") from error

    def close(self) -> None:
        """Say that there is no further piece.

        Raises:
            FormatError: The encoded bytes end before their end.
        """
        if self._zlib is not None and not self._zlib.eof:
            raise FormatError("an encoded body is cut short")


def decoded(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers and body with the content encoding undone, and the headers that told of it left out.

    Recordings pair a decoded body with the header of an encoded one; such a body is taken as it is.

    Raises:
        FormatError: The encoding is not one that is undone here, or the body is not so encoded.
    """
    encoding = headers.get("content-encoding", "")
    if not decodes(encoding):
        raise FormatError(f"a body encoded as {encoding[:20]!r}")
    plain = {name: value for name, value in headers.items() if name not in ENCODING_HEADERS}
    if not body or body[:1] in (b"{", b"[") or body[:6] in (b"data: ", b"event:"):
        return plain, body
    decoder = Decoder(encoding)
    content = decoder.feed(body)
    decoder.close()
    return plain, content


def undone(headers: Mapping[str, str], body: bytes, *, maybe: bool) -> tuple[dict[str, str], bytes]:
    """Return what `decoded` does; with `maybe`, the HTTP library may have undone the encoding already.

    Raises:
        FormatError: As `decoded`.
    """
    try:
        return decoded(headers, body)
    except FormatError:
        if not maybe:
            raise
        return {name: value for name, value in headers.items() if name not in ENCODING_HEADERS}, body


ENCODING_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that are no longer true once a body was decoded."""
