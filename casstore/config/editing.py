"""Reading and changing single settings in a store's ``config.toml``.  Floor: config.

Edits keep comments and order (tomlkit), are checked before they are written, and replace the file atomically
with mode 0600. Two processes that edit at once wait for each other. Knows nothing of what settings do.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError

from casstore.config.remotes import RemoteConfig, check_name, check_writable
from casstore.config.settings import CONFIG_NAME, REMOTE_SETTINGS, SETTINGS, Config, Value
from casstore.config.sizes import format_size
from casstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tomlkit import TOMLDocument
    from tomlkit.items import Table


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force.

    Attributes:
        name: Dotted: ``max_size``, ``remotes.team.url``.
        value: What casstore uses: bytes, a level, a flag, a text; None where there is none.
        text: The value as one would write it: ``1GiB``.
        is_default: Whether the file says nothing about it.
    """

    name: str
    value: Value | None
    text: str
    is_default: bool


def list_settings(path: Path) -> tuple[Setting, ...]:
    """Return every setting of the store in folder `path`, defaults included.

    Raises:
        ConfigError: The file is not TOML, or a value is wrong.
    """
    config = Config.load(path)
    document = _read(path)
    own = [_setting(document, name, getattr(config, name)) for name in SETTINGS]
    remotes = [
        Setting(f"remotes.{remote.name}.{field}", value, value, is_default=False)
        for remote in config.remotes.values()
        for field in REMOTE_SETTINGS
        if (value := cast("str | None", getattr(remote, field))) is not None
    ]
    return (*own, *remotes)


def get_setting(path: Path, name: str) -> Setting:
    """Return the setting `name` of the store in folder `path`.

    Raises:
        ConfigError: There is no such setting, or the file is wrong.
    """
    found = next((setting for setting in list_settings(path) if setting.name == name), None)
    if found:
        return found
    _reader(name)
    return Setting(name, None, "", is_default=True)


def set_setting(path: Path, name: str, text: str) -> None:
    """Make the setting `name` of the store in folder `path` be `text`.

    Raises:
        ConfigError: There is no such setting, or `text` is no value for it; nothing is written.
    """
    if name.endswith(".url"):
        check_writable(text)
    value = _checked(name, text)
    with _editing(path) as document:
        *tables, field = name.split(".")
        _table(document, name, tables)[field] = value
        if name == "default_remote" and value not in document.get("remotes", {}):
            raise ConfigError(
                f"default_remote: no remote is called {text!r}; add it: casstore remote add {text} URL"
            )


def unset_setting(path: Path, name: str) -> None:
    """Remove the setting `name` from the file, so that its default holds again.

    Raises:
        ConfigError: There is no such setting, or a remote would be left without a URL.
    """
    _reader(name)
    *tables, field = name.split(".")
    if field == "url":
        raise ConfigError(f"a remote needs its url; to remove it: casstore remote remove {tables[-1]}")
    with _editing(path) as document:
        _table(document, name, tables).pop(field, None)


def add_remote(
    path: Path,
    name: str,
    url: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    default: bool = False,
) -> RemoteConfig:
    """Add a remote to the store in folder `path`, and return it; the first becomes the default.

    Args:
        path: The store.
        name: What to call the remote.
        url: A URL that fsspec opens, or a path, which becomes an absolute ``file://`` URL.
        endpoint: The URL of an S3 service other than Amazon's.
        region: The region of the bucket.
        profile: The section of ``~/.aws`` to use.
        default: Make it the default also where it is not the first.

    Raises:
        ConfigError: The name is taken, or a value is wrong, the URL holds credentials, or
            casstore cannot write there; nothing is written.
    """
    given = {"url": url, "endpoint": endpoint, "region": region, "profile": profile}
    name = check_name(name)
    check_writable(url)
    fields = {
        field: _checked(f"remotes.{name}.{field}", text) for field, text in given.items() if text is not None
    }
    _check_s3_only(fields)
    with _editing(path) as document:
        remotes = document.setdefault("remotes", tomlkit.table(is_super_table=True))
        if name in remotes:
            raise ConfigError(
                f"there is a remote {name!r} already; to change where it is: casstore config set"
                f" remotes.{name}.url URL; or remove it first: casstore remote remove {name}"
            )
        if default or not remotes:
            document["default_remote"] = name
        table = tomlkit.table()
        table.update(fields)
        remotes[name] = table
    return Config.load(path).remotes[name]


def remove_remote(path: Path, name: str) -> None:
    """Remove a remote from the configuration; what it stores is left alone.

    Raises:
        ConfigError: There is no remote of that name.
    """
    with _editing(path) as document:
        remotes = document.get("remotes", {})
        if name not in remotes:
            raise ConfigError(f"no remote is called {name!r}; casstore remote list shows them")
        del remotes[name]
        if document.get("default_remote") == name:
            del document["default_remote"]


def _setting(document: TOMLDocument, name: str, value: Value | None) -> Setting:
    if name in document:
        text = str(document[name]) if isinstance(document[name], str) else _default_text(value)
        return Setting(name, value, text, is_default=False)
    text = format_size(cast("int", value)) if name == "max_size" else _default_text(value)
    return Setting(name, value, text, is_default=True)


def _default_text(value: Value | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reader(name: str) -> str:
    """Return the last part of a setting's name, having checked that there is such a setting."""
    match name.split("."):
        case [field] if field in SETTINGS:
            return field
        case ["remotes", _, field] if field in REMOTE_SETTINGS:
            return field
    known = [*SETTINGS, *(f"remotes.NAME.{field}" for field in REMOTE_SETTINGS)]
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    raise ConfigError(f"no such setting: {name!r}; {hint}")


def _checked(name: str, text: str) -> Value:
    """Return what to write for `text`: sizes stay as people wrote them."""
    field = _reader(name)
    try:
        value = (SETTINGS if "." not in name else REMOTE_SETTINGS)[field](text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return text.strip() if field == "max_size" else value


def _check_s3_only(fields: dict[str, Value]) -> None:
    extra = sorted(fields.keys() - {"url"})
    if extra and not str(fields["url"]).startswith(("s3://", "s3a://")):
        raise ConfigError(f"--{extra[0]} is for s3:// URLs, not for {fields['url']}")


def _table(document: TOMLDocument, name: str, tables: list[str]) -> Table:
    table = document
    for part in tables:
        if part not in table:
            raise ConfigError(
                f"{name}: there is no such remote; add it: casstore remote add {tables[-1]} URL"
            )
        table = cast("TOMLDocument", table[part])
    return cast("Table", table)


def _read(path: Path) -> TOMLDocument:
    file = path / CONFIG_NAME
    try:
        return tomlkit.parse(file.read_bytes())
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}; correct that line, or remove the file") from None


@contextmanager
def _editing(path: Path) -> Iterator[TOMLDocument]:
    """Yield the document to change; write it when the block ends well."""
    with _alone(path):
        document = _read(path)
        yield document
        _write(path / CONFIG_NAME, tomlkit.dumps(document).encode())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    folder = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders: then the last edit wins
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(file: Path, content: bytes) -> None:
    number, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mkstemp's mode is 0600
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
