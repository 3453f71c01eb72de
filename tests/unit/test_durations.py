"""Durations as people write them."""

from __future__ import annotations

import pytest

from casstore.config import parse_duration
from casstore.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("24h", 86_400_000),
        ("90m", 5_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("0s", 0),
        (" 1.5 H ", 5_400_000),
        ("0.001s", 1),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    """A number and a unit; case and spaces do not matter."""
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1y", "1h30m", "nan h", "1e3s", "999999999w"])
def test_what_is_no_duration(text: str) -> None:
    """Everything else is refused with an example of what would do."""
    with pytest.raises(ConfigError, match="duration"):
        parse_duration(text)
