"""How every run ends: exit codes, one line of error, pipes and signals; and what help loads."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import casstore as package
from tests.cli.conftest import Run, add_entry

COMMAND = [sys.executable, "-m", "casstore.cli"]


def drawn_by(args: list[str]) -> tuple[str, str]:
    """Run a command with a terminal for its standard error, and return its output and what was drawn."""
    leader, follower = pty.openpty()
    done = subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=follower, text=True)
    os.close(follower)
    drawn = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # how Linux tells that nobody holds the other end any more
            piece = b""
        if not piece:
            break
        drawn += piece
    os.close(leader)
    stdout, _ = done.communicate()
    assert done.returncode == 0
    return stdout, drawn.decode()


def test_version_tells_itself_python_and_the_store(casstore: Run, home: Path) -> None:
    """As a command and as the option people try first."""
    python = ".".join(map(str, sys.version_info[:3]))
    told = casstore("version").stdout
    assert told == f"casstore {package.__version__} (Python {python}), store at {home}/store\n"
    assert casstore("--version").stdout == f"casstore {package.__version__}\n"
    assert casstore("version", "--json").json() == {
        "casstore": package.__version__,
        "python": python,
        "store": f"{home}/store",
    }


def test_the_store_is_in_the_users_cache_folder_by_default(
    casstore: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where nothing else is said."""
    monkeypatch.delenv("CASSTORE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Path(casstore("version", "--json").json()["store"])
    assert store.name == "casstore"
    assert store.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see casstore --help"),
        (["psuh"], "No such command 'psuh'. Did you mean 'push'? See casstore --help"),
        (["ls", "--frobnicate"], "No such option"),
        (["config", "get"], "Missing argument 'NAME'; see casstore config get --help"),
        (["version", "extra"], "Got unexpected extra argument (extra); see casstore version --help"),
    ],
)
def test_a_mistake_in_usage_is_one_line_and_exit_code_2(casstore: Run, args: list[str], message: str) -> None:
    """It says where to read on."""
    outcome = casstore(*args, code=2)
    assert outcome.stdout == ""
    assert outcome.stderr.startswith(f"casstore: {message}")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [[], ["config"], ["remote"]])
def test_a_group_without_a_command_shows_its_help(casstore: Run, args: list[str]) -> None:
    """On standard error, with exit code 2, as it is a mistake in usage."""
    outcome = casstore(*args, code=2)
    assert outcome.stdout == ""
    assert outcome.stderr == casstore(*args, "--help").stdout


def test_an_output_that_cannot_show_a_character_shows_its_number(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a terminal that knows Western letters only."""
    key = add_entry(1, model="größe \u8bed")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    shown = subprocess.run([*COMMAND, "show", key], capture_output=True, check=True, cwd=home).stdout
    assert "model       größe \\u8bed\n".encode("latin-1") in shown


def test_an_error_of_the_system_is_one_line_and_exit_code_1(casstore: Run, home: Path) -> None:
    """A store that cannot be made, because a file is in its way."""
    (home / "file").write_bytes(b"")
    outcome = casstore("--store", "file/store", "init", code=1)
    assert outcome.stdout == ""
    assert re.fullmatch(r"casstore: .*file/store.*\n", outcome.stderr)


def test_a_reader_who_leaves_ends_the_run_quietly(home: Path) -> None:
    """Exit code 141, as for a process that SIGPIPE ended, and no word."""
    for number in range(3):
        add_entry(number)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "ls", "--json"], stdout=writer, stderr=subprocess.PIPE, check=False, cwd=home
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_interrupt_says_that_running_it_again_helps(home: Path) -> None:
    """Exit code 130, no traceback, and no object half made."""
    os.mkfifo(home / "pipe")
    code = (  # whoever runs the tests may ignore SIGINT, which children inherit
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from casstore.cli import main; main()"
    )
    args = [sys.executable, "-c", code, "put", "pipe"]
    running = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home)
    with (home / "pipe").open("wb") as pipe:  # opens when the other side reads
        pipe.write(b"x" * 100)
        pipe.flush()
        running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate()
    assert (running.returncode, stdout) == (130, "")
    told = "casstore: interrupted; what was done is kept, and the same command again does the rest"
    assert stderr.split("\n") == ["", told, ""]
    assert not list((home / "store" / "objects").rglob("*.zst"))


def test_progress_is_drawn_on_a_terminal_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, without colours where NO_COLOR asks for that; a pipe gets nothing."""
    for number in range(5):
        add_entry(number)
    monkeypatch.setenv("TERM", "xterm-256color")
    stdout, drawn = drawn_by(["verify"])
    assert re.fullmatch(r"checked 10 objects \(.*\), 0 segments: all good\n", stdout)
    assert "verify" in drawn
    assert "/10" in drawn
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][;m]", drawn)
    piped = subprocess.run([*COMMAND, "verify"], capture_output=True, text=True, check=True, cwd=home)
    assert (piped.stdout, piped.stderr) == (stdout, "")


@pytest.mark.parametrize(("command", "bars"), [("push", ["pack", "push"]), ("pull", ["pull"])])
def test_progress_tells_objects_bytes_rate_and_time_left(
    home: Path, monkeypatch: pytest.MonkeyPatch, command: str, bars: list[str]
) -> None:
    """Of what moves, and of what there is of it."""
    for number in range(5):
        add_entry(number)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    args = [command, str(home / "remote")]
    if command == "pull":
        subprocess.run([*COMMAND, "push", args[1]], capture_output=True, check=True, cwd=home)
        monkeypatch.setenv("CASSTORE_DIR", str(home / "other"))
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn_by(args)[1])
    for bar in bars:
        rate, left = r"(\?|[\d.]+ \w+/s)", r"[-\d]:[-\d]{2}:[-\d]{2}"
        assert re.search(rf"\b{bar} +\S* +\d+/10 objects [\d.]+/[\d.]+ \w+ {rate} {left}", drawn), drawn


def test_a_dumb_terminal_gets_no_bars(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that cannot move its cursor."""
    assert home.is_dir()
    add_entry(1)
    monkeypatch.setenv("TERM", "dumb")
    assert drawn_by(["verify"])[1] == ""


def test_help_loads_nothing_heavy(home: Path) -> None:
    """Neither drawing, nor storage, nor the editor of settings."""
    heavy = {"rich", "fsspec", "s3fs", "sqlite3", "zstandard", "tomlkit", "tomllib"}
    code = (
        "import sys\nfrom casstore.cli.root import root\n"
        "try:\n    root.main(['push', '--help'])\n"
        f"except SystemExit:\n    print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=home)
    assert done.stdout.endswith("\n[]\n")


def test_the_shells_completion_works_as_help_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is printed, and it completes commands."""
    assert home.is_dir()
    monkeypatch.setenv("_CASSTORE_COMPLETE", "zsh_source")
    script = subprocess.run(COMMAND, capture_output=True, text=True, check=True).stdout
    assert "_CASSTORE_COMPLETE=zsh_complete" in script
    monkeypatch.setenv("_CASSTORE_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "casstore pu")
    monkeypatch.setenv("COMP_CWORD", "1")
    words = subprocess.run(COMMAND, capture_output=True, text=True, check=True).stdout.split("\n")
    assert {"put", "push", "pull"} <= set(words)
