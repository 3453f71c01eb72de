"""Policy: pure decisions on modes and on what is kept."""

from __future__ import annotations

import pytest

from casstore.errors import ConfigError
from casstore.inference.policy import Mode, Settings, effective, parse_mode, why_not_stored
from tests.inference.fakes import answered


@pytest.mark.parametrize(
    ("stop", "text", "stored"),
    [
        ("end", "text", True),
        ("a_word_of_tomorrow", "text", True),
        ("tool_use", "", True),
        ("length", "part", True),
        ("refused", "", True),
        ("length", "", False),
        ("end", "", False),
        ("end", " \n", False),
        ("filtered", "text", False),
    ],
)
def test_what_is_stored(stop: str, text: str, stored: bool) -> None:
    """Complete answers, those cut off by a limit, and the model's refusals; no empty or filtered ones."""
    assert (why_not_stored(answered(text, stop=stop), ()) is None) is stored


def test_empty_and_filtered_answers_are_stored_where_asked() -> None:
    """Each is asked for by name."""
    empty, filtered = answered(""), answered("", stop="filtered")
    assert why_not_stored(empty, {"empty"}) is None
    assert why_not_stored(filtered, {"filtered"}) is None
    assert why_not_stored(filtered, {"empty"}) == "filtered"


def test_modes_are_parsed_and_a_wrong_one_is_told() -> None:
    """Case and blanks do not matter; anything else is a mistake that names the choices."""
    assert parse_mode(" Offline\n") is Mode.OFFLINE
    with pytest.raises(ConfigError, match="normal, refresh, bypass, offline"):
        parse_mode("skip")


def test_the_environment_overrides_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """CASSTORE_MODE beats any setting, and only the mode."""
    settings = Settings(Mode.OFFLINE, sample=3)
    monkeypatch.setenv("CASSTORE_MODE", "bypass")
    assert effective(settings) == Settings(Mode.BYPASS, sample=3)
    monkeypatch.setenv("CASSTORE_MODE", "")
    assert effective(settings) is settings
    monkeypatch.setenv("CASSTORE_MODE", "nonsense")
    with pytest.raises(ConfigError):
        effective(settings)
