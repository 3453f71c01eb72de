"""SDKs that a test needs: loaded if they are installed, without their warnings; else the test is skipped."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest

QUIET = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)
"""For tests with an SDK that warns of itself; none of it is casstore's."""


def sdk(name: str) -> Any:
    """Return a module of an SDK.

    Raises:
        Skipped: It is not installed.
    """
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # litellm asks the network for prices otherwise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)
