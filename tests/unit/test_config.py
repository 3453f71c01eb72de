"""Configuration: sizes, the store's folder, settings, remotes, and their editing."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from casstore.config import Config, RemoteConfig, format_size, parse_size, resolve_remote, store_path
from casstore.config.editing import (
    add_remote,
    get_setting,
    list_settings,
    remove_remote,
    set_setting,
    unset_setting,
)
from casstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYED_URLS = [
    "s3://AKIAKEY:hunter2@bucket/prefix",
    "s3://hunter2@bucket",
    "s3://AKIAKEY:hun/ter2@bucket",
    "https://user:hunter2@host/path",
    "sftp://user:hunter2@host/path",
    "simplecache::s3://AKIAKEY:hunter2@bucket",
    "s3://bucket/prefix?secret=hunter2",
    "s3://bucket/prefix?X-Amz-Signature=hunter2",
    "s3://bucket?a=1&aws_secret_access_key=hunter2",
    "az://container?sig=hunter2",
]


def write(folder: Path, text: str) -> Path:
    """Make `text` the configuration of the store in `folder`."""
    (folder / "config.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1073741824", 1 << 30),
        ("1GiB", 1 << 30),
        ("1G", 1 << 30),
        ("500MB", 500_000_000),
        ("10 gb", 10_000_000_000),
        (" 1.5 KiB ", 1536),
        ("7 B", 7),
        ("2tib", 2 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_read_in_binary_and_decimal_units(text: str, size: int) -> None:
    """KiB and K are 1024, kB is 1000, case and spaces do not matter."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 gigabyte", "1e9", "1,5 GB", "nan", "1GiB2"])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    """The message says what is accepted."""
    with pytest.raises(ConfigError, match="1GiB, 500MB, 1073741824"):
        parse_size(text)


def test_a_size_beyond_64_bits_is_refused() -> None:
    """No later sum can overflow what SQLite holds."""
    with pytest.raises(ConfigError, match="too large"):
        parse_size("9000PiB")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1536, "1.5 KiB"),
        (1 << 30, "1.0 GiB"),
        (5 << 60, "5.0 EiB"),
    ],
)
def test_a_size_is_shown_in_binary_units(size: int, text: str) -> None:
    """One decimal, and never 1024 of a unit."""
    assert format_size(size) == text


def test_the_store_is_where_the_caller_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An explicit folder goes before the environment, and relative ones become absolute."""
    monkeypatch.setenv("CASSTORE_DIR", str(tmp_path / "env"))
    monkeypatch.chdir(tmp_path)
    assert store_path("here") == tmp_path / "here"
    assert store_path() == tmp_path / "env"


def test_the_store_is_in_the_users_cache_folder_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty variable counts as none."""
    monkeypatch.setenv("CASSTORE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert store_path().is_relative_to(tmp_path)
    assert store_path().name == "casstore"


def test_a_store_without_a_file_has_the_defaults(tmp_path: Path) -> None:
    """1 GiB, zstd level 3, not durable, no remotes."""
    assert Config.load(tmp_path) == Config(
        max_size=1 << 30, level=3, durable=False, default_remote=None, remotes={}
    )


def test_every_setting_is_read_from_the_file(tmp_path: Path) -> None:
    """Unknown settings and tables are ignored."""
    write(
        tmp_path,
        """
        max_size = "2GiB"
        level = 9
        durable = true
        default_remote = "team"
        colour = "blue"
        [remotes.team]
        url = "s3://bucket/prefix"
        endpoint = "http://localhost:5000"
        region = "eu-west-1"
        profile = "lab"
        [other]
        x = 1
        """,
    )
    team = RemoteConfig("team", "s3://bucket/prefix", "http://localhost:5000", "eu-west-1", "lab")
    assert Config.load(tmp_path) == Config(
        2 << 30, 9, durable=True, default_remote="team", remotes={"team": team}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_size = \n", "line 1"),
        ("level = 3\nlevel = 4\n", "line 2"),
        ("max_size = 'big'", "max_size: not a size"),
        ("max_size = 0", "max_size: must be at least one byte"),
        ("max_size = true", "max_size: must be text"),
        ("level = 22", "level: must be a whole number from 1 to 19"),
        ("durable = 'perhaps'", "durable: must be true or false"),
        ("remotes = 3", "remotes: must be tables"),
        ("[remotes.team]", "remotes.team: has no url"),
        ("[remotes.team]\nurl = 7", "remotes.team.url: must be text"),
        ("[remotes.'a/b']\nurl = 's3://b'", "not a name for a remote"),
        ("[remotes.team]\nurl = 's3://k:s@bucket'", "must not hold credentials"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_place(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file and the line or the setting."""
    with pytest.raises(ConfigError) as caught:
        Config.load(write(tmp_path, text))
    assert str(tmp_path / "config.toml") in str(caught.value)
    assert message in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are an error of the configuration, for reading and for editing."""
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"config\.toml: not valid TOML"):
        Config.load(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.toml: not valid TOML"):
        set_setting(tmp_path, "level", "5")


def test_a_setting_is_changed_and_comments_survive(tmp_path: Path) -> None:
    """Only the value changes, and the file is the owner's alone."""
    write(tmp_path, "# ours\nlevel = 3  # fast\n\n[remotes.team]\nurl = 's3://bucket'  # shared\n")
    set_setting(tmp_path, "level", "7")
    set_setting(tmp_path, "max_size", "5 GiB")
    set_setting(tmp_path, "remotes.team.region", "eu-west-1")
    text = (tmp_path / "config.toml").read_text()
    assert "# ours\nlevel = 7  # fast\n" in text
    assert "url = 's3://bucket'  # shared\n" in text
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600
    config = Config.load(tmp_path)
    assert (config.level, config.max_size) == (7, 5 << 30)
    assert config.remotes["team"].region == "eu-west-1"
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("level", "0"),
        ("level", "fast"),
        ("durable", "perhaps"),
        ("max_size", "much"),
        ("max_sise", "1GiB"),
        ("remotes", "1"),
        ("remotes.team.colour", "blue"),
        ("remotes.team.url", "bucket"),
        ("remotes.team.url", "s3://k:s@bucket"),
        ("remotes.other.region", "eu-west-1"),
        ("default_remote", "other"),
        ("", "x"),
    ],
)
def test_a_wrong_setting_is_never_written(tmp_path: Path, name: str, text: str) -> None:
    """Typos and bad values raise ConfigError and leave the file as it was."""
    before = "level = 3\n[remotes.team]\nurl = 's3://bucket'\n"
    write(tmp_path, before)
    with pytest.raises(ConfigError):
        set_setting(tmp_path, name, text)
    assert (tmp_path / "config.toml").read_text() == before


def test_a_setting_is_told_with_its_default(tmp_path: Path) -> None:
    """What is in force, as a value and as one would write it."""
    set_setting(tmp_path, "max_size", "2GiB")
    size, level = get_setting(tmp_path, "max_size"), get_setting(tmp_path, "level")
    assert (size.value, size.text, size.is_default) == (2 << 30, "2GiB", False)
    assert (level.value, level.text, level.is_default) == (3, "3", True)
    unset_setting(tmp_path, "max_size")
    assert get_setting(tmp_path, "max_size").text == "1.0 GiB"
    unset_setting(tmp_path, "max_size")


def test_settings_are_listed_with_their_remotes(tmp_path: Path) -> None:
    """Defaults included; of a remote only what it has."""
    add_remote(tmp_path, "team", "s3://bucket", region="eu-west-1")
    assert [(setting.name, setting.text) for setting in list_settings(tmp_path)] == [
        ("max_size", "1.0 GiB"),
        ("level", "3"),
        ("durable", "false"),
        ("allow_network", "false"),
        ("default_remote", "team"),
        ("remotes.team.url", "s3://bucket"),
        ("remotes.team.region", "eu-west-1"),
    ]
    assert get_setting(tmp_path, "remotes.team.profile").value is None


def test_a_remote_cannot_lose_its_url(tmp_path: Path) -> None:
    """Unsetting it says how to remove the remote."""
    add_remote(tmp_path, "team", "s3://bucket")
    with pytest.raises(ConfigError, match="casstore remote remove team"):
        unset_setting(tmp_path, "remotes.team.url")


def test_the_first_remote_becomes_the_default(tmp_path: Path) -> None:
    """Later ones do not, unless asked to; removing the default leaves none."""
    add_remote(tmp_path, "team", "s3://bucket/prefix/", endpoint="http://localhost:5000", profile="lab")
    add_remote(tmp_path, "disk", "file:///mnt/team")
    assert Config.load(tmp_path).default_remote == "team"
    add_remote(tmp_path, "new", "s3://new", default=True)
    assert Config.load(tmp_path).default_remote == "new"
    remove_remote(tmp_path, "new")
    config = Config.load(tmp_path)
    assert config.default_remote is None
    assert dict(config.remotes) == {
        "team": RemoteConfig("team", "s3://bucket/prefix", "http://localhost:5000", None, "lab"),
        "disk": RemoteConfig("disk", "file:///mnt/team"),
    }


def test_a_remotes_name_is_taken_once(tmp_path: Path) -> None:
    """Adding it again, or removing one that is not there, changes nothing."""
    add_remote(tmp_path, "team", "s3://bucket")
    with pytest.raises(ConfigError, match="already"):
        add_remote(tmp_path, "team", "s3://other")
    with pytest.raises(ConfigError, match="no remote is called 'other'"):
        remove_remote(tmp_path, "other")
    assert Config.load(tmp_path).remotes["team"].url == "s3://bucket"


@pytest.mark.parametrize("name", ["", "-f", ".git", "a b", "a/b", "s3://bucket", "é", "a\n"])
def test_a_bad_name_for_a_remote_is_refused(tmp_path: Path, name: str) -> None:
    """A name can never be taken for a URL, a path or an option."""
    with pytest.raises(ConfigError, match="not a name for a remote"):
        add_remote(tmp_path, name, "s3://bucket")
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("url", KEYED_URLS)
def test_credentials_in_a_url_are_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    """Neither the message nor the file shows them."""
    attempts: list[Callable[[], object]] = [
        lambda: add_remote(tmp_path, "team", url),
        lambda: add_remote(tmp_path, "team", "s3://bucket", endpoint=url),
        lambda: resolve_remote(Config(), url),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigError, match="AWS chain") as caught:
            attempt()
        assert "ter2" not in str(caught.value)
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("bucket", "neither URL nor path"),
        ("s3://", "names no bucket"),
        ("file://mnt/team", "file:///mnt is the folder /mnt"),
    ],
)
def test_a_bad_url_says_what_is_wrong(tmp_path: Path, url: str, message: str) -> None:
    """And what to write in its place."""
    with pytest.raises(ConfigError, match=message):
        add_remote(tmp_path, "team", url)


def test_an_endpoint_belongs_to_s3(tmp_path: Path) -> None:
    """Options that a URL's kind would ignore are refused, as are endpoints without a scheme."""
    with pytest.raises(ConfigError, match="--region is for s3:// URLs"):
        add_remote(tmp_path, "team", "file:///mnt", region="eu-west-1")
    with pytest.raises(ConfigError, match="not an endpoint"):
        add_remote(tmp_path, "team", "s3://bucket", endpoint="localhost:9000")


def test_a_path_becomes_an_absolute_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that it means the same folder from everywhere."""
    monkeypatch.chdir(tmp_path)
    assert add_remote(tmp_path, "here", "./team").url == f"file://{tmp_path}/team"
    assert add_remote(tmp_path, "odd", "/a@b/c:d").url == "file:///a@b/c:d"
    assert add_remote(tmp_path, "spaced", "/my team/100%25").url == "file:///my team/100%2525"


def test_a_remote_is_resolved_by_name_url_variable_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument first, then ``CASSTORE_REMOTE``, then the default."""
    a, b, c = (RemoteConfig(name, f"s3://{name}", "http://localhost:1") for name in "abc")
    config = Config(remotes={"a": a, "b": b, "c": c}, default_remote="a")
    assert resolve_remote(config) == a
    monkeypatch.setenv("CASSTORE_REMOTE", "b")
    assert resolve_remote(config) == b
    assert resolve_remote(config, "c") == c
    assert resolve_remote(config, "s3://c/") == c
    assert resolve_remote(config, "s3://new") == RemoteConfig("s3://new", "s3://new")


def test_the_only_remote_needs_no_default() -> None:
    """With two, one must be said."""
    a, b = RemoteConfig("a", "s3://a"), RemoteConfig("b", "s3://b")
    assert resolve_remote(Config(remotes={"a": a})) == a
    with pytest.raises(ConfigError, match="name one of: a, b"):
        resolve_remote(Config(remotes={"a": a, "b": b}))


def test_no_remote_says_how_to_add_one() -> None:
    """Both where none was named and where the name is unknown."""
    with pytest.raises(ConfigError, match="casstore remote add NAME URL"):
        resolve_remote(Config())
    with pytest.raises(ConfigError, match="casstore remote add team URL"):
        resolve_remote(Config(), "team")


def test_edits_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each waits for the other."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_remote(tmp_path, f"r{number}", "s3://bucket"), range(24)))
    assert len(Config.load(tmp_path).remotes) == 24


def test_reading_defaults_loads_no_toml_library() -> None:
    """A store without a file costs one failed open; platformdirs waits until it is needed."""
    code = (
        "import sys; from pathlib import Path; from casstore.config import Config, store_path;"
        "Config.load(store_path('/nonexistent'));"
        "print(sorted({'tomllib', 'tomlkit', 'platformdirs'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
