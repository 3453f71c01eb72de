"""Policy: pure decisions on modes and on what is kept."""

from __future__ import annotations

import pytest

from casstore.errors import ConfigError
from casstore.inference.policy import Mode, Settings, effective, parse_mode, token_limit, why_not_stored
from tests.inference.fakes import answered


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_output_tokens": 7}, 7),
        ({"inferenceConfig": {"maxTokens": 8}}, 8),
        ({"generationConfig": {"maxOutputTokens": 9}}, 9),
        ({}, None),
        ({"max_tokens": None}, None),
        ({"inferenceConfig": None}, None),
    ],
)
def test_token_limits_are_found_where_providers_put_them(body: dict[str, object], limit: int | None) -> None:
    """The limit of each wire format is known."""
    assert token_limit(body) == limit


@pytest.mark.parametrize(
    ("stop", "text", "body", "stored"),
    [
        ("end", "text", {}, True),
        ("a_word_of_tomorrow", "text", {}, True),
        ("tool_use", "", {}, True),
        ("length", "part", {"max_tokens": 1}, True),
        ("length", "part", {}, False),
        ("length", "", {"max_tokens": 1}, False),
        ("end", "", {}, False),
        ("end", " \n", {}, False),
        ("filtered", "text", {}, False),
    ],
)
def test_what_is_stored(stop: str, text: str, body: dict[str, object], stored: bool) -> None:
    """Complete answers, and those cut off by a limit of the request; never empty or filtered ones."""
    assert (why_not_stored(body, answered(text, stop=stop), ()) is None) is stored


def test_empty_and_filtered_answers_are_stored_where_asked() -> None:
    """Each is asked for by name."""
    empty, filtered = answered(""), answered("", stop="filtered")
    assert why_not_stored({}, empty, {"empty"}) is None
    assert why_not_stored({}, filtered, {"filtered"}) is None
    assert why_not_stored({}, filtered, {"empty"}) == "filtered"


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
