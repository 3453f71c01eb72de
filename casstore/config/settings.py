"""The settings of one store, as read from its ``config.toml``.  Floor: config.

Says which settings there are and which values they take. Reads only; `casstore.config.editing` writes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from casstore.config.remotes import RemoteConfig, check_endpoint, check_name, check_url
from casstore.config.sizes import parse_size
from casstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CONFIG_NAME = "config.toml"
DEFAULT_MAX_SIZE = 1 << 30
DEFAULT_LEVEL = 3
MAX_LEVEL = 19  # zstd's levels 20 to 22 want "ultra" and memory to match

T = TypeVar("T")

Value = str | int | bool
_WORDS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)

NETWORK_VARIABLE = "CASSTORE_ALLOW_NETWORK"
"""Overrides the setting ``allow_network``."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one store.

    Attributes:
        max_size: Stored bytes to stay under by evicting what was used least recently.
        level: The zstd level of new objects, 1 to 19.
        durable: Whether a write is flushed to the disk (fsync) before it counts as done.
        allow_network: Whether the store may be on a network file system: only one host ever uses it.
        default_remote: The remote to use where none is named.
        remotes: The remotes by name.
    """

    max_size: int = DEFAULT_MAX_SIZE
    level: int = DEFAULT_LEVEL
    durable: bool = False
    allow_network: bool = False
    default_remote: str | None = None
    remotes: Mapping[str, RemoteConfig] = field(default_factory=dict)

    @property
    def network_allowed(self) -> bool:
        """Whether the store may be on a network file system: ``CASSTORE_ALLOW_NETWORK``, else the setting.

        Raises:
            ConfigError: The variable is neither true nor false.
        """
        given = os.environ.get(NETWORK_VARIABLE)
        if not given:
            return self.allow_network
        try:
            return read_flag(given)
        except ConfigError as error:
            raise ConfigError(f"{NETWORK_VARIABLE}: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Config:
        """Return the settings of the store in folder `path`; the defaults where it has no ``config.toml``.

        Unknown settings are ignored, so that an older casstore reads a newer one's file.

        Raises:
            ConfigError: The file is not TOML, or a value is wrong; the message says where.
        """
        file = path / CONFIG_NAME
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            return cls()
        return _config(file, _parsed(file, text))


def read_size(value: object) -> int:
    """Return `value` as a size in bytes, at least one."""
    size = value if type(value) is int else parse_size(_text(value))
    if size < 1:
        raise ConfigError(f"must be at least one byte, not {value!r}")
    return size


def read_level(value: object) -> int:
    """Return `value` as a zstd level."""
    text = str(value)
    if text.isdecimal() and 1 <= int(text) <= MAX_LEVEL:
        return int(text)
    raise ConfigError(f"must be a whole number from 1 to {MAX_LEVEL}, not {value!r}")


def read_flag(value: object) -> bool:
    """Return `value` as yes or no."""
    if isinstance(value, bool):
        return value
    known = _WORDS.get(str(value).lower())
    if known is None:
        raise ConfigError(f"must be true or false, not {value!r}")
    return known


def _text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ConfigError(f"must be text, not {value!r}")


def _read_name(value: object) -> str:
    return check_name(_text(value))


def _read_url(value: object) -> str:
    return check_url(_text(value))


def _read_endpoint(value: object) -> str:
    return check_endpoint(_text(value))


SETTINGS: Mapping[str, Callable[[object], Value]] = {
    "max_size": read_size,
    "level": read_level,
    "durable": read_flag,
    "allow_network": read_flag,
    "default_remote": _read_name,
}
"""The settings at the top of the file, and what turns a value into what casstore uses (or ConfigError)."""

REMOTE_SETTINGS: Mapping[str, Callable[[object], str]] = {
    "url": _read_url,
    "endpoint": _read_endpoint,
    "region": _text,
    "profile": _text,
}
"""The settings of one remote, in the table ``remotes.NAME``."""


def _parsed(file: Path, content: bytes) -> Mapping[str, object]:
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # not TOML (the message has the line), or not UTF-8
        raise ConfigError(f"{file}: not valid TOML: {error}; correct that line, or remove the file") from None


def _config(file: Path, document: Mapping[str, object]) -> Config:
    tables = document.get("remotes", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{file}: remotes: must be tables like [remotes.team]")
    return Config(
        max_size=_setting(file, document, "max_size", read_size) or DEFAULT_MAX_SIZE,
        level=_setting(file, document, "level", read_level) or DEFAULT_LEVEL,
        durable=_setting(file, document, "durable", read_flag) or False,
        allow_network=_setting(file, document, "allow_network", read_flag) or False,
        default_remote=_setting(file, document, "default_remote", _read_name),
        remotes={name: _remote(file, name, table) for name, table in tables.items()},
    )


def _remote(file: Path, name: str, table: object) -> RemoteConfig:
    prefix = f"remotes.{name}"
    _setting(file, {prefix: name}, prefix, _read_name)
    if not isinstance(table, dict) or "url" not in table:
        raise ConfigError(
            f"{file}: {prefix}: has no url; remove the table, then: casstore remote add {name} URL"
        )
    found = {f"{prefix}.{name}": value for name, value in table.items()}
    return RemoteConfig(
        name=name,
        url=_setting(file, found, f"{prefix}.url", _read_url) or "",
        endpoint=_setting(file, found, f"{prefix}.endpoint", _read_endpoint),
        region=_setting(file, found, f"{prefix}.region", _text),
        profile=_setting(file, found, f"{prefix}.profile", _text),
    )


def _setting(file: Path, found: Mapping[str, object], name: str, read: Callable[[object], T]) -> T | None:
    if name not in found:
        return None
    try:
        return read(found[name])
    except ConfigError as error:
        raise ConfigError(f"{file}: {name}: {error}") from None
