"""Canonical JSON: the vectors that RFC 8785 publishes, the extension, and what is refused."""

from __future__ import annotations

import enum
import struct

import pytest

from casstore.inference.canonical import CanonicalError, canonical, canonical_slow

# RFC 8785, appendix B: the bits of a double, and how it is written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}

# RFC 8785, section 3.2.2 and 3.2.3.
SAMPLE = {
    "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
    "string": "€$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f",
    "literals": [None, True, False],
}
SAMPLE_WRITTEN = (
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
    '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
)
SORTED = {
    "€": "Euro Sign",
    "\r": "Carriage Return",
    "\ufb33": "Hebrew Letter Dalet With Dagesh",
    "1": "One",
    "\U0001f600": "Emoji: Grinning Face",
    "\u0080": "Control",
    "ö": "Latin Small Letter O With Diaeresis",
}
SORTED_ORDER = ["\r", "1", "\u0080", "ö", "€", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(("bits", "written"), NUMBERS.items())
def test_numbers_of_the_rfc(bits: str, written: str) -> None:
    """Every double of appendix B is written as it stands there, by both paths."""
    value = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical(value) == canonical_slow(value) == written.encode()


def test_sample_of_the_rfc() -> None:
    """The sample object is written as in the RFC."""
    assert canonical(SAMPLE) == canonical_slow(SAMPLE) == SAMPLE_WRITTEN.encode()


def test_keys_are_sorted_by_utf16_code_units() -> None:
    """Keys come in the order of the RFC's example, where an astral key stands before a private one."""
    names = [SORTED[key] for key in SORTED_ORDER]
    written = canonical(SORTED).decode()
    assert sorted(names, key=written.index) == names


def test_escapes_are_the_short_ones_and_lower_case_hex() -> None:
    """Control characters have the escapes of ECMAScript, and nothing else is escaped."""
    every = "".join(map(chr, range(0x20))) + '\x7f\u2028"\\/é'
    expected = (
        '"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f'
        "\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d"
        '\\u001e\\u001f\x7f\u2028\\"\\\\/é"'
    )
    assert canonical(every) == canonical_slow(every) == expected.encode()


@pytest.mark.parametrize("value", [2**53, 2**53 + 1, -(2**53) - 1, 2**64, 10**40])
def test_large_integers_are_exact(value: int) -> None:
    """The extension: an integer that no double holds is written digit by digit."""
    assert canonical({"n": value}) == f'{{"n":{value}}}'.encode()


def test_one_value_one_spelling() -> None:
    """A list and a tuple, and a float and the integer it equals, are the same JSON value."""
    assert canonical({"t": (1, 2.0), "z": -0.0}) == canonical({"z": 0, "t": [1.0, 2]})


def test_true_and_one_differ() -> None:
    """A boolean is no number, though Python compares them equal."""
    assert canonical(True) != canonical(1)


class Colour(enum.StrEnum):
    """Text with a name."""

    RED = "red"


class Level(enum.IntEnum):
    """A number with a name."""

    HIGH = 3


def test_named_text_and_numbers_are_their_values() -> None:
    """Members of string and integer enumerations are written as their values."""
    assert canonical([Colour.RED, Level.HIGH]) == b'["red",3]'


def _endless() -> list[object]:
    inside: list[object] = []
    inside.append(inside)
    return inside


@pytest.mark.parametrize(
    "value",
    [
        {"a": float("nan")},
        {1: "a"},
        {None: "a"},
        {"a": 1j},
        {"a": {1, 2}},
        {"a": b"bytes"},
        "\ud800",
        {"\ud800": 1},
        {"é": "\udfff"},
        _endless(),
    ],
    ids=ascii,
)
def test_what_is_no_json_is_refused(value: object) -> None:
    """What has no canonical form is refused, never written approximately."""
    with pytest.raises(CanonicalError):
        canonical(value)


def test_deep_values_take_the_slow_path() -> None:
    """A value deeper than orjson goes is written all the same."""
    value: object = 1
    for _ in range(300):
        value = [value]
    assert canonical(value) == b"[" * 300 + b"1" + b"]" * 300
