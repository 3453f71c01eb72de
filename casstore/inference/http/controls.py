"""What a call says to the cache in its headers, and the cache in a reply's; pure.  Floor: inference.

Every header of a request that begins with ``x-casstore-`` is the cache's and is not sent on. This module
knows headers, and nothing of keys or stores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from casstore.digest import Key
from casstore.errors import ConfigError
from casstore.inference.http.exchange import HttpReply
from casstore.inference.policy import parse_mode

PREFIX: Final = "x-casstore-"
STATE_HEADER: Final = "x-casstore"
KEY_HEADER: Final = "x-casstore-key"

GATEWAY_TIMEOUT: Final = 504
"""The status of a miss that may not be asked for: no client takes it for an answer."""

BAD_REQUEST: Final = 400

_SIGNED: Final = re.compile(r"SignedHeaders=([^,\s]+)")


def overrides_in(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that a request's headers (by lower-case name) override.

    Raises:
        ConfigError: A header of the cache has no meaning.
    """
    found: dict[str, Any] = {}
    if PREFIX not in " ".join(headers):  # as in almost all
        return found
    for name, text in headers.items():
        if name.startswith(PREFIX):
            setting = name.removeprefix(PREFIX).replace("-", "_")
            parse = _PARSERS.get(setting)
            if parse is None:
                raise ConfigError(f"no such setting of a call: {name[:60]!r}")
            found[setting] = parse(text)
    return found


def _sample(text: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigError(f"a sample index is a whole number from 0: {text[:40]!r}")
    return int(text)


def _age(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ConfigError(f"a maximum age is a number of seconds, 0 or more: {text[:40]!r}")
    return seconds


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "mode": parse_mode,
    "sample": _sample,
    "namespace": str,
    "max_age": _age,
    "tag": str,
}


def outgoing(
    headers: Iterable[tuple[str, str]], *, cached: bool, streams: bool
) -> list[tuple[str, str]] | None:
    """Return the headers to send; None where they are to be sent as they are.

    The cache's own are left out. A reply that may be stored is asked for in an encoding that is undone here,
    a stream in none. Headers under an AWS signature stay as they were signed.

    Args:
        headers: Names, in any case, and values, in their order.
        cached: The reply may be stored.
        streams: The reply is a stream.
    """
    pairs = [(name.lower(), value) for name, value in headers]
    signed = _signed(dict(pairs).get("authorization", ""))
    plain = [pair for pair in pairs if pair[0] in signed or not pair[0].startswith(PREFIX)]
    if cached and "accept-encoding" not in signed:
        accepted = dict(pairs).get("accept-encoding", "")
        encoding = "gzip, deflate" if "gzip" in accepted and not streams else "identity"
        plain = [pair for pair in plain if pair[0] != "accept-encoding"] + [("accept-encoding", encoding)]
    return None if plain == pairs else plain


def _signed(authorization: str) -> frozenset[str]:
    found = _SIGNED.search(authorization) if authorization.startswith("AWS4-") else None
    return frozenset(found[1].lower().split(";")) if found else frozenset()


def marked(headers: Mapping[str, str], state: str, key: Key | None) -> dict[str, str]:
    """Return a reply's headers with what the cache says of it: ``hit`` or ``miss``, and the key."""
    told = {STATE_HEADER: state}
    if key is not None:
        told[KEY_HEADER] = key
    return {**headers, **told}


def refusal(status: int, message: str, key: Key | None = None) -> HttpReply:
    """Return a reply of the cache's own, in a form from which every SDK raises `message` at once."""
    error = {
        "type": "casstore_error",
        "code": status,
        "status": "OFFLINE" if status == GATEWAY_TIMEOUT else "INVALID_ARGUMENT",
        "message": message,
    }
    body = json.dumps({"type": "error", "error": error, "message": message}).encode()
    headers = {"content-type": "application/json", "x-should-retry": "false"}
    return HttpReply(status, marked(headers, "refused", key), body)
