"""Which of the configured remotes a name, a URL or the environment means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from casstore.config.remotes import RemoteConfig, check_url, is_location
from casstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from casstore.config.settings import Config

REMOTE_VARIABLE = "CASSTORE_REMOTE"


def resolve_remote(config: Config, text: str | None = None) -> RemoteConfig:
    """Return the remote that `text` means.

    Args:
        config: Says which remotes there are.
        text: A name, a URL or a path; None means ``CASSTORE_REMOTE``, else the default, else the only one.

    Raises:
        ConfigError: There is none of that name, or none was said and none is the default.
    """
    remotes = config.remotes
    wanted = text or os.environ.get(REMOTE_VARIABLE) or config.default_remote
    if wanted is None:
        if len(remotes) == 1:
            return next(iter(remotes.values()))
        raise ConfigError(_nothing_chosen(remotes))
    if wanted in remotes:
        return remotes[wanted]
    if is_location(wanted):
        url = check_url(wanted)
        return next((remote for remote in remotes.values() if remote.url == url), RemoteConfig(url, url))
    raise ConfigError(_no_such(wanted, remotes))


def _nothing_chosen(remotes: Mapping[str, RemoteConfig]) -> str:
    if not remotes:
        return "no remote is configured; add one: casstore remote add NAME URL"
    return f"no remote was named and none is the default; name one of: {', '.join(sorted(remotes))}"


def _no_such(wanted: str, remotes: Mapping[str, RemoteConfig]) -> str:
    known = f"there are: {', '.join(sorted(remotes))}" if remotes else "none is configured"
    return f"no remote is called {wanted!r}; {known}; add it: casstore remote add {wanted} URL"
