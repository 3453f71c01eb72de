"""Canonical JSON (RFC 8785): one spelling for one value, as bytes.  Floor: inference.

Two requests are the same when their canonical bytes are. This module knows JSON values and nothing of
requests, keys or providers. It has two ways to the same bytes: `_slow`, which follows the RFC step by step,
and orjson, taken only for values on which orjson and the RFC agree.

One extension, because the RFC stops at the integers an IEEE double holds exactly: an integer beyond
±(2^53 - 1) is written as its exact decimal digits. So two large integers never share a spelling.
"""

from __future__ import annotations

from json.encoder import encode_basestring
from math import isfinite

import orjson

from casstore.errors import FormatError

_FAST_DEPTH = 100
"""orjson refuses to write more than 254 levels; deeper values take the slow path long before that."""

_PLAIN_FROM, _PLAIN_TO = 1e-5, 1e15
"""Between these, orjson and the RFC both write plain decimals; beyond, they spell exponents differently."""


_PLAIN_DIGITS, _PLAIN_ZEROS = 21, 6
"""ECMAScript writes plain decimals up to 21 digits before the point, and up to 5 zeros after it."""

_LEAVES = frozenset({str, bool, type(None), int})
"""Types whose values orjson writes as the RFC asks for; an integer that is too large it refuses to write."""

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


class CanonicalError(FormatError):
    """The value has no canonical form: not JSON, not finite, a key that is no text, or a lone surrogate."""


class _UnlikeError(Exception):
    """Orjson would, or might, spell this value unlike the RFC."""


def canonical(value: object, *, exact: bool = False) -> bytes:
    """Return the canonical JSON of `value`, in UTF-8.

    Dictionaries, lists, tuples (written as lists), text, integers, floats, booleans and None are JSON. A
    float without a fraction is written as the integer it equals: ``1.0`` and ``1`` have one spelling.

    Args:
        value: The value.
        exact: It was parsed from JSON, or is as plain, and has no floats: it need not be gone through first.

    Raises:
        CanonicalError: `value`, or something in it, is no JSON.
    """
    try:
        alike = value if exact else _alike(value, _FAST_DEPTH)
        spelled = orjson.dumps(alike, option=_OPTIONS)
    except (_UnlikeError, TypeError):  # orjson raises TypeError
        return canonical_slow(value)
    # Only ASCII keys sort alike as UTF-8 (orjson) and as UTF-16 (RFC) without a closer look.
    return spelled if spelled.isascii() or _has_ascii_keys(value) else canonical_slow(value)


def canonical_slow(value: object) -> bytes:
    """Return what `canonical` returns, without orjson: the definition the fast path is held against.

    Raises:
        CanonicalError: `value`, or something in it, is no JSON.
    """
    try:
        return _slow(value).encode()
    except UnicodeEncodeError as error:
        raise CanonicalError(f"a lone surrogate is not text: {error.object[error.start]!r}") from None
    except RecursionError:
        raise CanonicalError("the value is nested too deeply, or contains itself") from None


def _alike(value: object, depth: int) -> object:
    """Return `value` with integral floats as integers, if orjson then writes what the RFC asks for."""
    if type(value) is dict and depth:
        # Leaves are most of a request: they are passed here and not by a call of their own.
        if _LEAVES.issuperset(map(type, value.values())):
            return value
        return {
            key: item if type(item) in _LEAVES else _alike(item, depth - 1) for key, item in value.items()
        }
    if (type(value) is list or type(value) is tuple) and depth:
        return [item if type(item) in _LEAVES else _alike(item, depth - 1) for item in value]
    if type(value) in _LEAVES:
        return value
    if type(value) is float and (value == 0 or _PLAIN_FROM < abs(value) < _PLAIN_TO):
        return int(value) if value.is_integer() else value
    raise _UnlikeError


def _has_ascii_keys(value: object) -> bool:
    if isinstance(value, dict):
        return "".join(value).isascii() and all(map(_has_ascii_keys, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_has_ascii_keys, value))


def _slow(value: object) -> str:  # noqa: PLR0911 — one return a JSON type
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        pairs = sorted(((_utf16(key), key) for key in value), key=_first)
        return "{" + ",".join(f"{encode_basestring(key)}:{_slow(value[key])}" for _, key in pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_slow, value)) + "]"
    raise CanonicalError(f"not a JSON value: {type(value).__name__}")


def _first(pair: tuple[bytes, str]) -> bytes:
    return pair[0]


def _utf16(key: object) -> bytes:
    """Return the sort key of a member's name: its UTF-16 code units."""
    if not isinstance(key, str):
        raise CanonicalError(f"a key must be text, not {type(key).__name__}")
    return key.encode("utf-16-be")


def _number(value: float) -> str:
    """Return a double as ECMAScript's Number::toString writes it (ECMA-262, 6.1.6.1.20)."""
    if not isfinite(value):
        raise CanonicalError(f"JSON has no {value!r}")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    digits, point = _shortest(abs(value))
    return sign + _place(digits, point)


def _shortest(value: float) -> tuple[str, int]:
    """Return the shortest digits that read back as `value`, and where the point stands after the first."""
    mantissa, _, exponent = float.__repr__(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point -= len(fraction) - len(digits) + 1
    return digits.rstrip("0"), point


def _place(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= _PLAIN_DIGITS:
        return digits + "0" * (point - count)
    if 0 < point <= _PLAIN_DIGITS:
        return f"{digits[:point]}.{digits[point:]}"
    if -_PLAIN_ZEROS < point <= 0:
        return f"0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{tail}e{point - 1:+d}"
