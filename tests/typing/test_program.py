"""The typed program does what its types say: it runs."""

from __future__ import annotations

from pathlib import Path

from tests.typing.program import main


def test_the_typed_program_runs(tmp_path: Path) -> None:
    """The second answer is the first one's; words are counted; bytes come back."""
    first, again, words, content, savings = main(tmp_path / "store")
    assert (first.text, first.hit) == ("hello", False)
    assert (again.text, again.hit) == ("hello", True)
    assert words == 3
    assert content == b"any bytes"
    assert savings.hits > 0
