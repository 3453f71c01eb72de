"""What is taken out of a request: large base64 parts, and secrets; pure.  Floor: inference.

A large part becomes an object of its own, so that one image asked about ten times is stored once; a secret
becomes its digest, so that it can be told from another and not be read. Either leaves a hole, and the list
of holes stands beside the body: body and holes together say what the body alone said, so nothing else can
share a key with it. It knows JSON, and nothing of providers.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from casstore.digest import Digest, digest_of
from casstore.errors import FormatError
from casstore.inference.http.survey import Survey

LARGE: Final = 16 * 1024
"""Characters from which a base64 part is an object of its own: below, an entry's overhead is not worth it."""

_DATA_URL: Final = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[\w.+-]+)*;base64,")

_SECRET_NAMES: Final = frozenset(
    {
        "apikey",
        "xapikey",
        "authorization",
        "authorizationtoken",
        "proxyauthorization",
        "accesskey",
        "accesskeyid",
        "accesstoken",
        "apisecret",
        "apitoken",
        "authtoken",
        "awssecretaccesskey",
        "awssessiontoken",
        "bearertoken",
        "clientsecret",
        "connectionstring",
        "idtoken",
        "password",
        "passwd",
        "privatekey",
        "refreshtoken",
        "secret",
        "secretaccesskey",
        "secretkey",
        "sessiontoken",
        "subscriptionkey",
        "token",
    }
)
"""Names of fields whose text is a secret, in lower case and without ``-`` and ``_``."""

_SECRET_PARENTS: Final = frozenset({"authentication", "credentials", "headers"})
"""Objects all of whose text may be secret: credentials of a data source, headers for a tool's server."""

_SECRETS: Final = _SECRET_NAMES | _SECRET_PARENTS


@dataclass(slots=True)
class Holes:
    """What was taken out of a body.

    Attributes:
        found: A hole each: where (a JSON pointer), and the digest and size of what was there.
        objects: The large parts, as bytes.
    """

    found: list[dict[str, Any]] = field(default_factory=list)
    objects: list[bytes] = field(default_factory=list)

    def listed(self) -> list[dict[str, Any]]:
        """Return the holes in the order of their places, which does not hang on the order of fields."""
        return sorted(self.found, key=_place)


def _place(hole: Mapping[str, Any]) -> str:
    return str(hole["at"])


def without_parts(body: Any, seen: Survey) -> tuple[Any, Holes]:
    """Return `body` with holes where large parts and secrets were, and what was there.

    Args:
        body: Parsed JSON; it is not changed.
        seen: What there is in it, or in more than it: most bodies have neither.
    """
    holes = Holes()
    if seen.longest >= LARGE or not _SECRETS.isdisjoint(map(_plain, seen.words)):
        body = _opened(body, "", holes, secret=False)
    return body, holes


def filled(body: Any, holes: list[dict[str, Any]], read: Callable[[Digest], bytes]) -> Any:
    """Return the body that `without_parts` opened; secrets stay out.

    Args:
        body: The body with holes; it is not changed.
        holes: The list of them.
        read: Returns an object by its digest.

    Raises:
        FormatError: A hole is nowhere in the body.
    """
    for hole in holes:
        if "object" in hole:
            content = binascii.b2a_base64(read(Digest(hole["object"])), newline=False).decode()
            body = _put(body, str(hole["at"]).split("/")[1:], content)
    return body


def _opened(value: Any, at: str, holes: Holes, *, secret: bool) -> Any:
    if isinstance(value, str):
        return _opened_text(value, at, holes, secret=secret)
    if isinstance(value, dict):
        return {
            name: _opened(item, f"{at}/{_escaped(name)}", holes, secret=_is_secret(name, item, within=secret))
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_opened(item, f"{at}/{index}", holes, secret=secret) for index, item in enumerate(value)]
    return value


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _is_secret(name: str, item: object, *, within: bool) -> bool:
    plain = _plain(name)
    if isinstance(item, str):
        return (within and plain != "type") or plain in _SECRET_NAMES
    return within or plain in _SECRET_PARENTS


def _opened_text(text: str, at: str, holes: Holes, *, secret: bool) -> str:
    if secret and text:
        digest = digest_of(text.encode("utf-8", "surrogatepass"))
        holes.found.append({"at": at, "secret": digest})
        return ""
    if len(text) < LARGE:
        return text
    prefix = _DATA_URL.match(text, 0, 200)
    start = prefix.end() if prefix else 0
    content = _decoded(text[start:])
    if content is None:
        return text
    holes.found.append({"at": at, "object": digest_of(content), "size": len(content)})
    holes.objects.append(content)
    return text[:start]


def _decoded(text: str) -> bytes | None:
    """Return what base64 `text` stands for, if encoding that gives exactly `text` again."""
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # no base64, or not only; or no ASCII
        return None
    return content if binascii.b2a_base64(content, newline=False) == text.encode() else None


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _put(value: Any, path: list[str], content: str) -> Any:
    if not path:
        if not isinstance(value, str):
            raise FormatError("a hole is where a request has no text")
        return value + content
    name = path[0].replace("~1", "/").replace("~0", "~")
    try:
        if isinstance(value, list):
            index = int(name)
            return [*value[:index], _put(value[index], path[1:], content), *value[index + 1 :]]
        return {**value, name: _put(value[name], path[1:], content)}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FormatError(f"a hole is where a request has nothing: {name[:40]!r}") from error
