"""Configuration: sizes, durations, where the store is, its settings and its remotes.  Floor: config.

Knows nothing of objects or entries. Editing is in `casstore.config.editing`, apart, as it needs tomlkit.
"""

from casstore.config.durations import parse_duration
from casstore.config.location import STORE_VARIABLE, store_path
from casstore.config.remotes import RemoteConfig
from casstore.config.resolve import REMOTE_VARIABLE, resolve_remote
from casstore.config.settings import CONFIG_NAME, Config
from casstore.config.sizes import format_size, parse_size

__all__ = [
    "CONFIG_NAME",
    "REMOTE_VARIABLE",
    "STORE_VARIABLE",
    "Config",
    "RemoteConfig",
    "format_size",
    "parse_duration",
    "parse_size",
    "resolve_remote",
    "store_path",
]
