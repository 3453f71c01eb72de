"""The page for contributors names files, folders and commands that exist."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")


def test_every_file_named_in_a_sentence_exists() -> None:
    """A name is a path in the checkout or below ``casstore/``; capitals stand for a name to be chosen."""
    quoted = re.findall(r"`([\w./]+)`", PAGE)
    named = [text for text in quoted if "/" in text and not re.search("[A-Z]{3}", text)]
    assert len(named) > 10
    assert [text for text in named if not any((at / text).exists() for at in (ROOT, ROOT / "casstore"))] == []


def test_every_folder_in_the_table_exists() -> None:
    """And no folder of the package is left out of it."""
    named = {
        text
        for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
        for text in re.findall(r"`(\w+)`", row)
    }
    folders = {path.name for path in (ROOT / "casstore").iterdir() if (path / "__init__.py").exists()}
    assert folders <= named
    assert [text for text in named if not list((ROOT / "casstore").glob(f"{text}*"))] == []


def test_every_command_of_the_first_block_is_a_script() -> None:
    """The commands that set up, check and test can be run."""
    block = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert block
    for line in block[1].splitlines():
        assert os.access(ROOT / line.split()[0], os.X_OK), line


def test_links_lead_somewhere() -> None:
    """Every file that the page links to is there."""
    links = re.findall(r"\]\(([^):]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / ".github" / link).exists()] == []
